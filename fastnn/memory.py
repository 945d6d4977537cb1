"""What kernels keep in memory between calls."""

from __future__ import annotations

import sys

__all__ = ["empty_cache"]


def empty_cache() -> None:
    """Give the memory that kernels keep for later calls back to the system.

    On the CPU the memory of work areas and of arrays that kernels returned, once nothing refers to
    these, is kept and used again, up to 128 MiB of it: fresh memory costs a page fault for every 4
    KiB. The numba backend keeps all memory of its arrays on the device, because giving it back
    waits for the device. What is still referred to is not touched. (CuPy has a pool of its own:
    ``cupy.get_default_memory_pool().free_all_blocks()``.)
    """
    from fastnn.kernels.cpu import _runtime

    _runtime.empty_cache()
    numba = sys.modules.get("fastnn.kernels.numba.memory")  # not imported: nothing is kept
    if numba is not None:
        numba.empty()
