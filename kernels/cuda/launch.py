"""What every family of kernels needs to be launched: grids, scalars, structs, plain arrays."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import loader

THREADS = 256
# More blocks than any card holds at once: beyond it a thread takes several elements.
_MOST_BLOCKS = 1 << 14

NULL = np.intp(0)
_WIDE = {"float64": np.float64}


def over(name: str, function: str, dtype: Any, count: int, args: tuple[Any, ...]) -> None:
    """Run a kernel whose grid walks over ``count`` items; nothing for none."""
    if count:
        blocks = min(-(-count // THREADS), _MOST_BLOCKS)
        loader.typed(name, function, dtype)((blocks,), (THREADS,), args)


def vectors(count: int, dtype: Any) -> int:
    """Threads for ``count`` elements that are moved 16 bytes at a time."""
    return -(-count * dtype.itemsize // 16)


def wide(dtype: Any) -> Any:
    """The dtype of registers: float64 for float64, float32 for everything else."""
    return _WIDE.get(dtype.name, np.float32)


@lru_cache(maxsize=4096)
def struct(*values: int) -> np.ndarray:
    """A struct of 64-bit integers, to be passed by value."""
    return np.array(values, np.int64).view([("value", np.int64, (len(values),))])


def pointer(array: Any) -> Any:
    """An array as an argument; None is a null pointer."""
    return NULL if array is None else array


def plain(array: Any) -> Any:
    """``array`` itself if it is contiguous, else a copy."""
    return array if array.flags.c_contiguous else cupy.ascontiguousarray(array)


def strides(array: Any) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple(s // array.itemsize for s in array.strides)
