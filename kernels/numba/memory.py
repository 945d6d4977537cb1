"""Device memory that is used again.

Numba gives memory back to the driver after every tenth array, and the driver waits for the device
then. Blocks are therefore kept here once nothing refers to them any more, and serve later arrays of
about their size. Work is queued on one stream, so whoever gets a block comes after whoever had it.
Copies of batches fetched ahead (`transfers`) are on another; who asks for them waits at both ends.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np
from numba import cuda

from fastnn.kernels.numba.device import SIMULATED

_LEAST = 512  # bytes of a block; what the driver aligns to is 256


def allocate(count, dtype):
    """A flat Numba device array, its values unknown."""
    context = _pooled_context() if count else None
    if context is None:
        return cuda.device_array(count, dtype)
    size = _block_size(count * np.dtype(dtype).itemsize)
    free = _blocks(context).setdefault(size, [])
    try:
        block = free.pop()
    except IndexError:
        block = _new_block(context, size)
    # The pointer dies with the last array that refers to it, views included.
    back = partial(free.append, block)
    pointer = cuda.MemoryPointer(context, block.device_pointer, size, finalizer=back)
    dtype = np.dtype(dtype)
    return _array_kind()((count,), (dtype.itemsize,), dtype, gpu_data=pointer)


def free_bytes():
    """How much can still be allocated, what is kept here included."""
    context = cuda.current_context()
    kept = 0
    if not SIMULATED:
        kept = sum(size * len(free) for size, free in list(_blocks(context).items()))
    return context.get_memory_info().free + kept


def empty():
    """Give what is kept back to the driver."""
    context = _pooled_context()
    if context is not None:
        for free in list(_blocks(context).values()):
            free.clear()


def _pooled_context():
    # With a stream for each thread, a block's next user need not come after the last one.
    if SIMULATED or numba.config.CUDA_PER_THREAD_DEFAULT_STREAM:
        return None
    return cuda.current_context()


def _blocks(context) -> dict[int, list[Any]]:
    """Size -> blocks that are free; they go when the context does."""
    return context.extras.setdefault("fastnn", {})


def _block_size(n):
    """Rounded up by at most an eighth, so that sizes that differ a little share blocks."""
    step = max(_LEAST, 1 << max(0, n.bit_length() - 4))
    return -(-n // step) * step


def _new_block(context, size):
    try:
        return context.memalloc(size)
    except Exception:  # out of memory, in the words of whichever binding is in use
        empty()
        return context.memalloc(size)


def _array_kind():
    from numba.cuda.cudadrv.devicearray import DeviceNDArray

    return DeviceNDArray
