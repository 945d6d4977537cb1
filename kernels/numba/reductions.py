"""Sums, means and extremes of a `DeviceArray` over its axes; nothing waits for the device.

The array is seen as rows of columns, the reduced axes last. A block takes some rows, its lanes meet
in shared memory (`rows`). Long rows are cut into chunks, whose results are reduced in their order:
no atomics, the same bits each time. Floats are added up in float64, integers in int64.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import contiguous, empty, flat, write
from fastnn.kernels.numba.rows import by_rows, fold

_LONG = 8 if _d.SIMULATED else 4096  # columns of a chunk, at least
_MOST = 2 if _d.SIMULATED else 256  # chunks of a row

_COMBINE = {
    "sum": lambda a, b: a + b,
    "min": lambda a, b: a if a < b or a != a else b,
    "max": lambda a, b: a if a > b or a != a else b,
    "any": lambda a, b: a or b,
    "all": lambda a, b: a and b,
}
_OF_NOTHING = {"sum": 0, "any": False, "all": True}


def total(x, axis, dtype, keepdims):
    """The sum, in the dtype that NumPy gives it."""
    if dtype is None:
        small = x.dtype.kind in "biu" and x.dtype.itemsize < 8
        dtype = x.dtype if not small else np.uint64 if x.dtype.kind == "u" else np.int64
    return reduce("sum", x, axis, keepdims).astype(dtype, copy=False)


def mean(x, axis, keepdims):
    """The mean; NaN of nothing."""
    found = reduce("sum", x, axis, keepdims)
    count = x.size // found.size if found.size else 1
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    return (found.astype(np.float64, copy=False) / float(count)).astype(dtype, copy=False)


def reduce(name, x, axis, keepdims):
    """One of ``sum``, ``min``, ``max``, ``any`` and ``all``; sums are float64, int64 or uint64."""
    axes = tuple(range(x.ndim)) if axis is None else _axes(x.ndim, axis)
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    columns = math.prod(x.shape[i] for i in axes)
    if name in ("any", "all"):
        x = x if x.dtype == bool else x != 0
    elif name == "sum":
        x = x if x.dtype.kind == "f" else x.astype(np.uint64 if x.dtype.kind == "u" else np.int64)
    dtype = np.dtype(np.float64) if name == "sum" and x.dtype.kind == "f" else x.dtype
    result = empty(shape, dtype)
    if columns == 0:
        if name not in _OF_NOTHING:
            raise ValueError(f"[DeviceArray] {name} of no elements; at least one is needed")
        write(result, _OF_NOTHING[name])
    else:
        order = [i for i in range(x.ndim) if i not in axes] + list(axes)
        whole = flat(contiguous(x.transpose(order)))
        _fold_rows(name, whole, result.size, columns, flat(result))
    if keepdims:
        result = result.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    return result


def _axes(ndim, axis):
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    return np.lib.array_utils.normalize_axis_tuple(axes, ndim)


def _fold_rows(name, memory, rows, columns, out):
    chunks = max(1, min(_MOST, columns // _LONG))
    function, zero = _folded(name), out.dtype.type(0)
    if chunks > 1:
        parts = flat(empty((rows, chunks), out.dtype))
        width = -(-columns // chunks)
        by_rows(function, rows * chunks, width, parts, memory, columns, chunks, zero)
        memory, columns = parts, chunks
    by_rows(function, rows, columns, out, memory, columns, 1, zero)


@cache
def _folded(name):
    combine = _d.device(_COMBINE[name])
    meet = fold(combine)
    adds = name == "sum"

    def apply(rows, width, out, a, columns, chunks, zero):
        """Row ``r // chunks`` of a, its part ``r % chunks``, into ``out[r]``."""
        buffer = cuda.shared.array(0, out.dtype)
        height = cuda.blockDim.y
        for start in range(cuda.blockIdx.x * height, rows, cuda.gridDim.x * height):
            r = start + cuda.threadIdx.y
            best = zero
            if r < rows:
                row, chunk = r // chunks * columns, r % chunks
                first, end = chunk * columns // chunks, (chunk + 1) * columns // chunks
                if not adds:
                    best = type(zero)(a[row + first])  # a second time does no harm to an extreme
                for c in range(first + cuda.threadIdx.x, end, cuda.blockDim.x):
                    best = combine(best, type(zero)(a[row + c]))
            best = meet(best, buffer)
            if r < rows and cuda.threadIdx.x == 0:
                out[r] = best

    return _d.kernel(apply)


def argmax(x, axis):
    """Where the first of the largest elements is (or the first NaN), as int64."""
    if axis is None:
        x, axis = x.ravel(), 0
    (axis,) = _axes(x.ndim, axis)
    columns = x.shape[axis]
    if columns == 0:
        raise ValueError("[DeviceArray] argmax of no elements; at least one is needed")
    order = [i for i in range(x.ndim) if i != axis] + [axis]
    result = empty(tuple(n for i, n in enumerate(x.shape) if i != axis), np.int64)
    whole = flat(contiguous(x.transpose(order)))
    _d.spread(_argmax, result.size, whole, columns, flat(result))
    return result


@_d.kernel
def _argmax(count, a, columns, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        best, place = a[i * columns], 0
        for c in range(1, columns):
            value = a[i * columns + c]
            # Once there is a NaN, nothing is larger any more.
            if value > best or (value != value and best == best):
                best, place = value, c
        out[i] = place
