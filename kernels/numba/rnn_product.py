"""The product of a recurrent step inside a block, and the shape of the blocks.

A block owns R rows of the batch for the whole sequence. Its threads are TX x TY: a thread takes the
columns tx, tx + TX, ... and of the sum over k the slice ty, so that a small layer has enough
threads. A matrix that is read once from L2 serves all R rows::

    out[r, n] = bias[n] + sum over k of vector[r, k] * matrix[k, n]        r < R

The vector lies in shared memory, where all threads of a warp read the same word at once. The
slices' parts are added in their order.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat

THREADS, _WARP = (4, 2) if _d.SIMULATED else (512, 32)
_SHARED = 2048 if _d.SIMULATED else 48 * 1024  # bytes that every GPU has without asking
_MANY = 1 if _d.SIMULATED else 132  # blocks beyond which rows are put together


class Blocks(NamedTuple):
    """How a recurrent kernel is launched."""

    rows: int  # R
    in_shared: bool
    grid: int
    block: tuple[int, int]
    shared: int  # bytes
    work: Any  # flat memory for what does not fit in shared memory; one number if it fits

    def launch(self, function, *args):
        """Run a kernel whose last argument is the work memory."""
        if self.grid:
            _d.launch(function, self.grid, self.block, *args, self.work, shared=self.shared)


def blocks(B, columns, per_row, dtype):
    """The launch for a batch: ``columns`` of the widest product, ``per_row`` numbers of state."""
    rows = 1
    while rows < 4 and -(-B // rows) > _MANY:
        rows *= 2
    tx = min(THREADS, -(-columns // _WARP) * _WARP)
    block = (tx, max(1, THREADS // tx))
    bytes_ = (rows * per_row + rows * THREADS) * np.dtype(dtype).itemsize
    grid = -(-B // rows)
    if bytes_ <= _SHARED:
        return Blocks(rows, True, grid, block, bytes_, flat(empty((1,), dtype)))
    work = flat(empty((grid * (rows * per_row + rows * THREADS),), dtype))
    return Blocks(rows, False, grid, block, 0, work)


@cache
def product(R):
    """The device function for R rows; every thread of the block has to come to it."""

    @_d.device
    def multiply(vector, K, matrix, base, ld, columns, out, out_ld, out_0, part, bias, has_bias):
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        TX, TY = cuda.blockDim.x, cuda.blockDim.y
        sums = cuda.local.array(R, vector.dtype)
        low, high = ty * K // TY, (ty + 1) * K // TY
        for n0 in range(0, columns, TX):
            n = n0 + tx
            for r in range(R):
                sums[r] = 0
            if n < columns:
                k = low
                while k + 4 <= high:  # four words on their way from L2 at a time
                    at = base + k * ld + n
                    m0, m1 = matrix[at], matrix[at + ld]
                    m2, m3 = matrix[at + 2 * ld], matrix[at + 3 * ld]
                    for r in range(R):
                        v = r * K + k
                        sums[r] += vector[v] * m0
                        sums[r] += vector[v + 1] * m1
                        sums[r] += vector[v + 2] * m2
                        sums[r] += vector[v + 3] * m3
                    k += 4
                while k < high:
                    m0 = matrix[base + k * ld + n]
                    for r in range(R):
                        sums[r] += vector[r * K + k] * m0
                    k += 1
            if TY > 1:
                for r in range(R):
                    part[(ty * R + r) * TX + tx] = sums[r]
                cuda.syncthreads()
                if ty == 0:
                    for r in range(R):
                        for s in range(1, TY):
                            sums[r] += part[(s * R + r) * TX + tx]
                cuda.syncthreads()
            if ty == 0 and n < columns:
                for r in range(R):
                    if has_bias:
                        sums[r] += bias[out_0 + n]
                    out[r * out_ld + out_0 + n] = sums[r]

    return multiply
