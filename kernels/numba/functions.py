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
from fastnn.kernels.numba import embedding, gemm
from fastnn.kernels.numba.array import contiguous, empty, flat, write
from fastnn.kernels.numba.ufuncs import apply, operand, where


def take(x, indices, axis=None):
    """Elements by their index along an axis; one past the end counts from the beginning again."""
    x = operand(x)
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
        raise ValueError(
            f"[DeviceArray] {given} side by side along axis {axis}; one shape is needed"
        )
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
    many = np.broadcast_to(np.expand_dims(x, axis + 1), (*before, n, int(repeats), *after))
    whole = contiguous(many)
    whole = whole.copy() if whole is many else whole
    return whole.reshape(*before, n * repeats, *after)


def clip(x, low, high, out=None):
    """``minimum(maximum(x, low), high)``."""
    if low is not None:
        x = apply(np.maximum, (x, low), out)
    return x if high is None else apply(np.minimum, (x, high), out)


def tile(x, reps):
    """The array repeated as a block."""
    reps = (int(reps),) if isinstance(reps, (int, np.integer)) else tuple(reps)
    ndim = max(x.ndim, len(reps))
    shape = (*(1,) * (ndim - x.ndim), *x.shape)
    reps = (*(1,) * (ndim - len(reps)), *reps)
    pairs = [n for pair in zip((1,) * ndim, shape, strict=True) for n in pair]
    blocks = [n for pair in zip(reps, shape, strict=True) for n in pair]
    many = np.broadcast_to(x.reshape(pairs), blocks).copy()
    return many.reshape([r * n for r, n in zip(reps, shape, strict=True)])


def roll(x, shift, axis=None):
    """Elements moved along an axis; those that leave at one end come in at the other."""
    if axis is None:
        return roll(x.ravel(), shift, 0).reshape(x.shape)
    if isinstance(axis, tuple):
        shifts = shift if isinstance(shift, tuple) else (shift,) * len(axis)
        for one, along in zip(shifts, axis, strict=True):
            x = roll(x, one, along)
        return x
    n = x.shape[axis]
    cut = -shift % n if n else 0
    before = (slice(None),) * range(x.ndim)[axis]
    return concatenate([x[(*before, slice(cut, None))], x[(*before, slice(cut))]], axis)


def cumsum(x, axis=None):
    """Running sums."""
    if axis is None:
        x, axis = x.ravel(), 0
    whole = contiguous(np.moveaxis(x, axis, -1))
    columns = whole.shape[-1]
    small = x.dtype.kind in "biu" and x.dtype.itemsize < 8
    result = empty(whole.shape, np.int64 if small else x.dtype)
    rows = whole.size // columns if columns else 0
    _d.spread(_running, rows, flat(whole), columns, flat(result))
    return np.moveaxis(result, -1, axis)


@_d.kernel
def _running(count, a, columns, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i * columns] = a[i * columns]
        for c in range(i * columns + 1, (i + 1) * columns):
            out[c] = out[c - 1] + a[c]


def bincount(x, weights, minlength):
    """The sums of the weights by the integers in x, all below ``minlength``."""
    return embedding.backward(weights[:, None], contiguous(x), (minlength, 1)).ravel()


def arange(count):
    """0, 1, .. as int64."""
    result = empty((count,), np.int64)
    _d.spread(embedding.count_up, count, flat(result))
    return result


def matmul(a, b):
    """The matrix product, over leading axes too; vectors as in NumPy."""
    a, b = operand(a), operand(b)
    if not np.ndim(a) or not np.ndim(b):
        raise ValueError("[DeviceArray] a matrix product with a scalar; arrays are needed")
    dtype = np.result_type(a.dtype, b.dtype)
    if dtype.kind != "f":
        raise TypeError(f"[DeviceArray] a matrix product of {dtype}; floating arrays are needed")
    one, other = (x.astype(dtype, copy=False) for x in (a, b))
    rows, columns = one.ndim == 1, other.ndim == 1
    one = one[None] if rows else one
    other = other[:, None] if columns else other
    if one.shape[-1] != other.shape[-2]:
        raise ValueError(
            f"[DeviceArray] a matrix product of {list(a.shape)} and {list(b.shape)}; [..., M, K] "
            "and [..., K, N] are needed"
        )
    (M, K), N = one.shape[-2:], other.shape[-1]
    lead = np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
    result = empty((*lead, M, N), dtype)
    if K == 0:
        write(result, 0)
    left, right = (
        flat(contiguous(np.broadcast_to(x, (*lead, *x.shape[-2:])))) for x in (one, other)
    )
    out = flat(result)
    for i in range(math.prod(lead) if K else 0):
        gemm.multiply(
            gemm.left(left[i * M * K : (i + 1) * M * K], K, 1),
            gemm.right(right[i * K * N : (i + 1) * K * N], N, 1),
            gemm.out(out[i * M * N : (i + 1) * M * N], N),
            (M, N, K),
        )
    if columns:
        result = result[..., 0]
    return result[..., 0, :] if rows and not columns else result[..., 0] if rows else result


def dot(a, b):
    """The product of vectors and matrices; NumPy's rule for more axes is another one."""
    if np.ndim(a) > 2 or np.ndim(b) > 2:
        raise TypeError("[DeviceArray] np.dot of more than two axes; np.matmul is needed")
    return matmul(a, b)


def _spread_out(x, axis=None, ddof=0, keepdims=False):
    away = apply(np.square, (x - x.mean(axis, keepdims=True),))
    total = away.sum(axis, keepdims=keepdims)
    return total / (x.size // max(total.size, 1) - ddof)


def vdot(a, b):
    """The sum of the products."""
    return apply(np.multiply, (operand(a).ravel(), operand(b).ravel())).sum()


def isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    """``|a - b| <= atol + rtol |b|``; infinities are close to themselves alone."""
    a, b = operand(a), operand(b)
    near = (abs(a - b) <= atol + rtol * abs(b)) & np.isfinite(b) | (a == b)
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


def array_equal(a, b, equal_nan=False):
    """Whether shapes and all elements are the same; waits for the device."""
    a, b = operand(a), operand(b)
    if np.shape(a) != np.shape(b):
        return False
    same = a == b
    return bool((same | ((a != a) & (b != b)) if equal_nan else same).all())


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


def _made(fill):
    return lambda shape, dtype=None, order="C", device=None: _like(fill)(
        None, dtype=dtype or float, shape=shape
    )


def _of_layout(function):
    """A function of NumPy that gives views (a list of them: split)."""

    def views(x, *args, **kwargs):
        found = function(x._layout, *args, **kwargs)
        return [x._view(v) for v in found] if isinstance(found, list) else x._view(found)

    return views


def _reshape(x, shape, order="C"):
    if order != "C":
        raise ValueError(f"[DeviceArray] reshape with order={order!r}; 'C' is needed")
    return x.reshape(shape)


def _method(name):
    return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)


_METHODS = ("sum", "mean", "any", "all", "min", "max", "argmax", "ravel")
_VIEWS = (
    *("broadcast_to", "diagonal", "expand_dims", "flip", "moveaxis", "rot90", "split"),
    *("squeeze", "swapaxes", "transpose"),
)

TABLE: dict[Any, Any] = {
    np.where: where,
    np.take: take,
    np.concatenate: concatenate,
    np.stack: stack,
    np.repeat: repeat,
    np.clip: clip,
    np.vdot: vdot,
    np.dot: dot,
    np.isclose: isclose,
    np.allclose: lambda *args, **kwargs: bool(isclose(*args, **kwargs).all()),
    np.array_equal: array_equal,
    np.count_nonzero: lambda x, axis=None, keepdims=False: (x != 0).sum(axis, keepdims=keepdims),
    np.zeros_like: _like(0),
    np.ones_like: _like(1),
    np.full_like: _like(None),
    np.empty_like: _like(None),
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size,
    np.reshape: _reshape,
    np.copy: lambda x: x.copy(),
    np.tile: tile,
    np.roll: roll,
    np.cumsum: cumsum,
    np.bincount: bincount,
    np.var: _spread_out,
    np.std: lambda x, *args, **kwargs: apply(np.sqrt, (_spread_out(x, *args, **kwargs),)),
    # Called with ``like=``: how arrays like one are made.
    np.arange: arange,
    np.ones: _made(1),
    np.zeros: _made(0),
    **{getattr(np, name): _method(name) for name in _METHODS},
    **{getattr(np, name): _of_layout(getattr(np, name)) for name in _VIEWS},
}
