"""What the CPU kernels keep in memory between calls."""

from __future__ import annotations

__all__ = ["empty_cache"]


def empty_cache() -> None:
    """Give the memory that the CPU kernels keep for later calls back to the system.

    The memory of work areas and of arrays that kernels returned, once nothing refers to these, is
    kept and used again, up to 128 MiB of it: fresh memory costs a page fault for every 4 KiB. What
    is still referred to is not touched. (CuPy has a pool of its own:
    ``cupy.get_default_memory_pool().free_all_blocks()``.)
    """
    from fastnn.kernels.cpu import _runtime

    _runtime.empty_cache()
