"""What `fastnn.prefetch` needs of Numba: streams, events, page-locked memory, copies.

Numba's own streams wait for the legacy default stream, which kernels run on, and it for them: a
copy there would never be made beside a kernel. The stream here is one that does not.
"""

from __future__ import annotations

from ctypes import byref
from typing import Any

import numpy as np
from numba import cuda

from fastnn.kernels.numba.array import empty, flat
from fastnn.kernels.numba.device import SIMULATED

__all__ = ["compute_stream", "copy", "copy_stream", "empty", "event", "page_locked", "wait"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_OURS = "fastnn.copies"  # in a context's extras, which go when the context does


def compute_stream() -> Any:
    """The stream that kernels run on: what Numba takes for its default one."""
    return 0


def copy_stream() -> Any:
    """A stream that waits for no other unless it is told to; one for each context."""
    if SIMULATED:
        return cuda.stream()
    extras = cuda.current_context().extras
    if _OURS not in extras:
        extras[_OURS] = _new_stream()
    return extras[_OURS]


def _new_stream() -> Any:
    from numba.cuda.cudadrv import driver

    try:
        if getattr(driver, "USE_NV_BINDING", True):  # the only one in later versions
            address = int(driver.driver.cuStreamCreate(_NON_BLOCKING))
        else:
            from numba.cuda.cudadrv import drvapi

            handle = drvapi.cu_stream()
            driver.driver.cuStreamCreate(byref(handle), _NON_BLOCKING)
            address = handle.value
        return cuda.external_stream(address)
    except (AttributeError, ImportError, TypeError):
        # A version whose driver looks otherwise. Batches come as before, only not beside a step.
        return cuda.stream()


def event() -> Any:
    """A point in a stream's work."""
    return cuda.event() if SIMULATED else cuda.event(timing=False)


def wait(stream: Any, event: Any) -> None:
    """What is asked of the stream from here on comes after the event."""
    event.wait(stream)


def page_locked(size: int) -> Any:
    """Bytes on the host that the device reads by itself."""
    return cuda.pinned_array(size, np.uint8)


def copy(host: Any, target: Any, stream: Any) -> None:
    """Start copying page-locked memory to an array of its shape and dtype, in C order both."""
    if host.size:
        flat(target).copy_to_device(host.reshape(-1), stream=stream)
