"""NumPy's functions on device arrays of the stand-in, and operators and methods that are those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .fake_array import FUNCTIONS, ndarray, on_device, on_host
from .fake_cuda import refuse_in_capture


def _function(name: str) -> Callable[..., Any]:
    inner = getattr(np, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        plain = [on_host(value) for value in args]
        if name in ("matmul", "dot"):
            return _product(inner, plain, out)
        options = {key: on_host(value) for key, value in kwargs.items()}
        with np.errstate(all="ignore"):
            result = inner(*plain, **options)
        if out is not None:
            np.copyto(out._a, result, casting="same_kind")
            return out
        return on_device(result)

    outer.__name__ = name
    return outer


def _product(inner: Callable[..., Any], operands: list[Any], out: Any) -> Any:
    """A product as cuBLAS makes it: halves are added up in float32, and give a half."""
    refuse_in_capture("calling cuBLAS API")
    dtype = operands[0].dtype
    if any(operand.dtype != dtype for operand in operands):
        raise TypeError(f"fake cupy: a product of {[operand.dtype for operand in operands]}")
    if dtype.itemsize == 2:
        operands = [operand.astype(np.float32) for operand in operands]
    with np.errstate(all="ignore"):
        result = inner(*operands)
    if out is not None:
        out._a[...] = result
        return out
    return on_device(np.asarray(result).astype(dtype, copy=False))


def _viewing(name: str) -> Callable[..., Any]:
    """A function whose result is a view of its first argument."""
    inner = getattr(np, name)

    def outer(a: Any, *args: Any, **kwargs: Any) -> Any:
        return a._view(inner(a._a, *args, **kwargs))

    outer.__name__ = name
    return outer


_NAMES = [
    "abs",
    "absolute",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "clip",
    "concatenate",
    "cumsum",
    "diff",
    "divide",
    "dot",
    "equal",
    "exp",
    "expm1",
    "greater",
    "less",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "nonzero",
    "not_equal",
    "ones",
    "prod",
    "repeat",
    "searchsorted",
    "sign",
    "sqrt",
    "square",
    "stack",
    "subtract",
    "sum",
    "take",
    "tanh",
    "unique",
    "vdot",
    "where",
    "zeros",
    "floor_divide",
    "count_nonzero",
    "isfinite",
    "isnan",
    "bitwise_and",
    "bitwise_or",
]
_VIEWS = ("broadcast_to", "expand_dims", "moveaxis", "swapaxes", "transpose", "flip")
FUNCTIONS.update({name: _function(name) for name in _NAMES})
FUNCTIONS.update({name: _viewing(name) for name in _VIEWS})

_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}


def _binary(ufunc: Any) -> tuple[Any, Any, Any]:
    def forward(self: ndarray, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", self, other)

    def backward(self: ndarray, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", other, self)

    def inplace(self: ndarray, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", self, other, out=(self,))

    return forward, backward, inplace


for _name, _ufunc in _OPERATORS.items():
    _forward, _backward, _inplace = _binary(getattr(np, _ufunc))
    if _name == "matmul":
        ndarray.__matmul__ = lambda self, other: FUNCTIONS["matmul"](self, other)  # type: ignore
        continue
    setattr(ndarray, f"__{_name}__", _forward)
    if _name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__r{_name}__", _backward)
        setattr(ndarray, f"__i{_name}__", _inplace)
ndarray.__neg__ = lambda self: np.negative(self)  # type: ignore[attr-defined]
ndarray.__invert__ = lambda self: np.invert(self)  # type: ignore[attr-defined]
ndarray.__abs__ = lambda self: np.absolute(self)  # type: ignore[attr-defined]


def _method(name: str) -> Any:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return FUNCTIONS[name](self, *args, **kwargs)

    return method


_METHODS = "sum any all max min argmax argmin mean prod cumsum argsort take clip dot"
for _name in _METHODS.split():
    setattr(ndarray, _name, _method(_name))
