"""Functions of NumPy that take a `DeviceArray`, by NumPy's function protocol (NEP 18).

`TABLE` says which there are. Those that only look at an array in another way are NumPy's own,
applied to the layout.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import contiguous, empty, flat, write
from fastnn.kernels.numba.ufuncs import apply, operand, where


def take(x, indices, axis=None):
    """Elements by their index along an axis; one past the end counts from the beginning again."""
    if axis is None:
        x, axis = x.ravel(), 0
    indices = operand(indices if hasattr(indices, "shape") else np.asarray(indices))
    if indices.dtype.kind not in "iu":
        raise TypeError(f"[DeviceArray] an index of {indices.dtype}; integers are needed")
    whole = np.moveaxis(x, axis, 0)
    rows, rest = whole.shape[0], whole.shape[1:]
    if rows == 0 and indices.size:
        raise IndexError("[DeviceArray] an index of an axis without elements")
    result = empty((*indices.shape, *rest), x.dtype)
    width = math.prod(rest)
    places = flat(contiguous(indices.astype(np.int64, copy=False)))
    _d.spread(_take, result.size, flat(contiguous(whole)), places, rows, width, flat(result))
    if axis in (0, -x.ndim):
        return result
    where_to = axis % x.ndim
    return np.moveaxis(result, range(indices.ndim), range(where_to, where_to + indices.ndim))


@_d.kernel
def _take(count, source, places, rows, width, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i] = source[places[i // width] % rows * width + i % width]


def concatenate(arrays, axis=0):
    """Arrays side by side."""
    arrays = [operand(a) for a in arrays]
    if axis is None:
        arrays, axis = [a.ravel() for a in arrays], 0
    first = arrays[0]
    axis = range(first.ndim)[axis]
    others = first.shape[:axis], first.shape[axis + 1 :]
    if any((a.shape[:axis], a.shape[axis + 1 :]) != others for a in arrays):
        given = ", ".join(str(list(a.shape)) for a in arrays)
        raise ValueError(f"[DeviceArray] {given} side by side along axis {axis}; one shape is needed")
    shape = (*others[0], sum(a.shape[axis] for a in arrays), *others[1])
    result = empty(shape, np.result_type(*(a.dtype for a in arrays)))
    start = 0
    for a in arrays:
        stop = start + a.shape[axis]
        write(result[(*(slice(None),) * axis, slice(start, stop))], a)
        start = stop
    return result


def stack(arrays, axis=0):
    """Arrays of one shape along a new axis."""
    return concatenate([np.expand_dims(operand(a), axis) for a in arrays], axis)


def repeat(x, repeats, axis=None):
    """Every element so many times."""
    if not isinstance(repeats, (int, np.integer)):
        raise TypeError(f"[DeviceArray] repeat of {type(repeats).__name__}; an integer is needed")
    if axis is None:
        x, axis = x.ravel(), 0
    axis = range(x.ndim)[axis]
    before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    many = np.broadcast_to(np.expand_dims(x, axis + 1), (*before, n, repeats, *after))
    whole = contiguous(many)
    whole = whole.copy() if whole is many else whole
    return whole.reshape(*before, n * repeats, *after)


def clip(x, low, high, out=None):
    """``minimum(maximum(x, low), high)``."""
    if low is not None:
        x = apply(np.maximum, (x, low), out)
    return x if high is None else apply(np.minimum, (x, high), out)


def vdot(a, b):
    """The sum of the products."""
    return apply(np.multiply, (a.ravel(), b.ravel())).sum()


def _like(fill):
    def function(x, *value, dtype=None, order="K", subok=True, shape=None):
        shape = x.shape if shape is None else shape
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        fills = fill if fill is not None else value[0] if value else None
        result = empty(shape, x.dtype if dtype is None else dtype)
        if fills is not None:
            write(result, fills)
        return result

    return function


def _of_layout(function):
    """A function of NumPy that gives views (a list of them: split)."""

    def views(x, *args, **kwargs):
        found = function(x._layout, *args, **kwargs)
        return [x._view(v) for v in found] if isinstance(found, list) else x._view(found)

    return views


def _method(name):
    return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)


TABLE: dict[Any, Any] = {
    np.where: where,
    np.take: take,
    np.concatenate: concatenate,
    np.stack: stack,
    np.repeat: repeat,
    np.clip: clip,
    np.vdot: vdot,
    np.zeros_like: _like(0),
    np.ones_like: _like(1),
    np.full_like: _like(None),
    np.empty_like: _like(None),
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size,
    np.reshape: lambda x, shape: x.reshape(shape),
    np.copy: lambda x: x.copy(),
    **{getattr(np, name): _method(name) for name in ("sum", "mean", "any", "all", "min", "max", "argmax", "ravel")},
    **{
        getattr(np, name): _of_layout(getattr(np, name))
        for name in ("broadcast_to", "expand_dims", "flip", "moveaxis", "split", "squeeze", "swapaxes", "transpose")
    },
}
