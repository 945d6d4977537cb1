"""Elementwise arithmetic of a `DeviceArray`.

A function of NumPy that stands in the table below becomes a kernel when it is first used. The
result has the shape and dtype that NumPy gives it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import (
    DeviceArray,
    contiguous,
    empty,
    flat,
    overlap,
    to_device,
    wrap,
    write,
)

_math, _larger = _d.functions, _d.maximum

_FUNCTIONS: dict[np.ufunc, Any] = {
    np.add: lambda a, b: a + b,
    np.subtract: lambda a, b: a - b,
    np.multiply: lambda a, b: a * b,
    np.divide: lambda a, b: a / b,
    np.power: lambda a, b: a**b,
    np.maximum: lambda a, b: a if a > b or a != a else b,
    np.minimum: lambda a, b: a if a < b or a != a else b,
    np.less: lambda a, b: a < b,
    np.less_equal: lambda a, b: a <= b,
    np.greater: lambda a, b: a > b,
    np.greater_equal: lambda a, b: a >= b,
    np.equal: lambda a, b: a == b,
    np.not_equal: lambda a, b: a != b,
    np.bitwise_and: lambda a, b: a & b,
    np.bitwise_or: lambda a, b: a | b,
    np.logical_and: lambda a, b: a != 0 and b != 0,
    np.logical_or: lambda a, b: a != 0 or b != 0,
    np.logical_not: lambda a: a == 0,
    np.negative: lambda a: -a,
    np.positive: lambda a: a,
    np.absolute: lambda a: abs(a),
    np.square: lambda a: a * a,
    np.sqrt: lambda a: _math.sqrt(a),
    np.reciprocal: lambda a: type(a)(1) / a,
    np.exp: lambda a: _math.exp(a),
    np.exp2: lambda a: type(a)(2) ** a,
    np.expm1: lambda a: _math.expm1(a),
    np.log: lambda a: _math.log(a),
    np.log2: lambda a: _math.log2(a),
    np.log10: lambda a: _math.log10(a),
    np.log1p: lambda a: _math.log1p(a),
    np.sin: lambda a: _math.sin(a),
    np.cos: lambda a: _math.cos(a),
    np.tan: lambda a: _math.tan(a),
    np.sinh: lambda a: _math.sinh(a),
    np.cosh: lambda a: _math.cosh(a),
    np.tanh: lambda a: _math.tanh(a),
    np.arctan: lambda a: _math.atan(a),
    np.arcsinh: lambda a: _math.asinh(a),
    np.hypot: lambda a, b: _math.hypot(a, b),
    np.logaddexp: lambda a, b: (
        a + _math.log(type(a)(2)) if a == b else _larger(a, b) + _math.log1p(_math.exp(-abs(a - b)))
    ),
    np.isnan: lambda a: a != a,
    np.isfinite: lambda a: a - a == 0,
    np.sign: lambda a: type(a)(1) if a > 0 else (type(a)(-1) if a < 0 else a),
}

# An operand is an array as large as the result, one element on the device, or a number.
_READ = {
    "array": _d.device(lambda a, i: a[i]),
    "element": _d.device(lambda a, i: a[0]),
    "number": _d.device(lambda a, i: a),
}


def known(ufunc):
    """Whether there is a kernel for this function."""
    return ufunc in _FUNCTIONS or ufunc is np.invert


def apply(ufunc, inputs, out=None):
    """``ufunc(*inputs)`` of device arrays, NumPy arrays and numbers, as a DeviceArray.

    With ``out`` the result is written there; it may be one of the inputs.
    """
    operands = [operand(x) for x in inputs]
    if ufunc is np.invert and all(a.dtype == bool for a in operands):
        ufunc = np.logical_not
    *dtypes, dtype = _dtypes(ufunc, tuple(_kind(a) for a in operands))
    if ufunc not in _FUNCTIONS:
        raise TypeError(f"[DeviceArray] np.{ufunc.__name__} of {dtype} has no kernel here")
    return run(_elementwise, ufunc, operands, dtypes, dtype, out)


def run(make, function, operands, dtypes, dtype, out=None):
    """Run a kernel ``(count, *operands, out)`` over operands of these dtypes, broadcast.

    ``make(function, kinds)`` gives the kernel; the kinds are those of `_READ`.
    """
    shape = np.broadcast_shapes(*(getattr(a, "shape", ()) for a in operands))
    if out is not None:
        if type(out) is not DeviceArray:
            raise TypeError(f"[DeviceArray] out is a {type(out).__name__}; a DeviceArray is needed")
        if out.shape != shape or not np.can_cast(dtype, out.dtype, "same_kind"):
            raise ValueError(
                f"[DeviceArray] out is {out.dtype} {list(out.shape)}; {dtype} {list(shape)} is "
                "needed"
            )
    ready = [_ready(a, shape, kind) for a, kind in zip(operands, dtypes, strict=True)]
    straight = (
        out is not None
        and out.dtype == dtype
        and out._layout.flags.c_contiguous
        and not any(type(a) is DeviceArray and overlap(a, out) for a in operands)
    )
    result = out if straight else empty(shape, dtype)
    kinds = tuple(kind for kind, _ in ready)
    _d.spread(make(function, kinds), result.size, *(a for _, a in ready), flat(result))
    if out is None or straight:
        return result
    write(out, result)
    return out


def operand(x):
    """An argument of NumPy's as a number or a DeviceArray."""
    if isinstance(x, (bool, int, float, np.generic)) or type(x) is DeviceArray:
        return x
    if isinstance(x, (list, tuple)):
        x = np.asarray(x)
    if isinstance(x, np.ndarray) and not x.ndim:
        return x[()]
    return to_device(x) if isinstance(x, np.ndarray) else wrap(x)


def _kind(a):
    """What NumPy's rules of dtypes ask of an operand: Python's numbers leave the dtype alone."""
    if isinstance(a, bool):
        return np.dtype(bool)
    return a.dtype if hasattr(a, "dtype") else type(a)


@lru_cache(maxsize=1024)
def _dtypes(ufunc, kinds):
    """Of the operands, as the function takes them, and of the result."""
    return ufunc.resolve_dtypes((*kinds, None))


def _ready(a, shape, dtype):
    """An operand as the kernel takes it, after its kind."""
    if type(a) is not DeviceArray:
        return "number", dtype.type(a)
    if a.dtype != dtype:
        a = a.astype(dtype)
    if a.size == 1 and shape != a.shape:
        return "element", flat(contiguous(a))
    return "array", flat(contiguous(a if a.shape == shape else np.broadcast_to(a, shape)))


@cache
def _elementwise(ufunc, kinds):
    """The kernel of a function."""
    function = _d.device(_FUNCTIONS[ufunc])
    read = _READ[kinds[0]]
    other = _READ[kinds[-1]]

    def of_one(n, a, out):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = function(read(a, i))

    def of_two(n, a, b, out):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = function(read(a, i), other(b, i))

    return _d.kernel(of_one if len(kinds) == 1 else of_two)


@cache
def _chosen(function, kinds):
    condition, one, other = (_READ[kind] for kind in kinds)

    def choose(n, c, a, b, out):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = one(a, i) if condition(c, i) else other(b, i)

    return _d.kernel(choose)


def where(condition, x, y):
    """``np.where`` of three arguments."""
    operands = [operand(a) for a in (condition, x, y)]
    dtype = np.result_type(*(getattr(a, "dtype", a) for a in operands[1:]))
    return run(_chosen, None, operands, (np.dtype(bool), dtype, dtype), dtype)
