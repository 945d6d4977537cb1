"""Device arrays of the stand-in for CuPy: memory between canaries, facts, views, copies.

NumPy's functions on them, operators and methods like ``sum`` come from `fake_functions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import fake_cuda

counts: Counter[str] = Counter()  # "synchronizations", "uploads", "launches"
FUNCTIONS: dict[str, Callable[..., Any]] = {}  # what NumPy's functions of these names do here

_CANARY = 128
_MARK = 0xA5


class Buffer:
    """Device memory: bytes with a canary on either side."""

    def __init__(self, size: int) -> None:
        fake_cuda.refuse_in_capture("an allocation")
        self.size = size
        raw = np.full(size + 3 * _CANARY, _MARK, np.uint8)
        start = _CANARY + -(raw.ctypes.data + _CANARY) % _CANARY
        self._around = (raw[:start], raw[start + size :])
        self.bytes = raw[start : start + size]
        self.bytes[:] = 0xFF

    def check(self, kernel: str) -> None:
        if not all((part == _MARK).all() for part in self._around):
            raise RuntimeError(f"kernel {kernel}: a write outside an array")


class ndarray:
    """A device array."""

    __module__ = "cupy"
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: Any = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        if memptr is not None or strides is not None:
            raise NotImplementedError("fake cupy.ndarray from a pointer")
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self._buffer = Buffer(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._a = np.ndarray(shape, dtype, self._buffer.bytes, order=order)  # type: ignore[call-overload]
        self.base: ndarray | None = None

    # ---------------------------------------------------------------- facts

    dtype = property(lambda self: self._a.dtype)
    shape = property(lambda self: self._a.shape)
    strides = property(lambda self: self._a.strides)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    T = property(lambda self: self.transpose())

    @property
    def flags(self) -> Any:
        own = self._a.flags
        return SimpleNamespace(
            c_contiguous=own.c_contiguous,
            f_contiguous=own.f_contiguous,
            owndata=self.base is None,
        )

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._a.__array_interface__["data"][0], mem=self._buffer)

    @property
    def device(self) -> Any:
        return fake_cuda.Device(0)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = self._a.__array_interface__
        return {**{k: interface[k] for k in ("shape", "typestr", "strides", "data")}, "version": 3}

    def __len__(self) -> int:
        return len(self._a)

    def __repr__(self) -> str:
        return f"device {self._a!r}"

    # ---------------------------------------------------------------- to and from the host

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def get(self) -> np.ndarray:
        counts["synchronizations"] += 1
        return self._a.copy(order="K")

    def set(self, value: np.ndarray, stream: Any = None) -> None:
        if not isinstance(value, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError("shape or dtype mismatch")
        counts["uploads"] += 1
        self._a[...] = value

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __index__(self) -> int:
        return self.get().__index__()

    def __bool__(self) -> bool:
        return bool(self.get())

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        return self._a.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the memory is the host's, and says so: a GPU package would crash on it

    # ---------------------------------------------------------------- views and copies

    def _view(self, a: np.ndarray) -> ndarray:
        view = object.__new__(ndarray)
        view._a, view._buffer = a, self._buffer
        view.base = self if self.base is None else self.base
        return view

    def __getitem__(self, key: Any) -> ndarray:
        key = _indices(key)
        found = self._a[key]
        if isinstance(found, np.ndarray) and np.shares_memory(found, self._a):
            return self._view(found)
        parts = key if isinstance(key, tuple) else (key,)
        if all(not isinstance(k, np.ndarray) for k in parts):
            if all(k is None or k is Ellipsis or isinstance(k, slice) for k in parts):
                return self._view(np.asarray(found))  # empty views share no byte
            inner = tuple(slice(k, k + 1 or None) if isinstance(k, int) else k for k in parts)
            if not isinstance(found, np.ndarray):
                return self._view(self._a[inner].reshape(()))
            return self._view(found)
        return on_device(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._a[_indices(key)] = on_host(value)

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._a.view() if dtype is None else self._a.view(dtype))

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        result = self._a.reshape(*shape, order=order)  # type: ignore[call-overload]
        return self._view(result) if np.may_share_memory(result, self._a) else on_device(result)

    def ravel(self, order: str = "C") -> ndarray:
        return self.reshape(-1, order=order)

    def transpose(self, *axes: Any) -> ndarray:
        return self._view(self._a.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> ndarray:
        return self._view(self._a.swapaxes(a, b))

    def squeeze(self, axis: Any = None) -> ndarray:
        return self._view(self._a.squeeze(axis))

    def astype(self, dtype: Any, order: str = "K", copy: bool = True, **_: Any) -> ndarray:
        if not copy and self._a.dtype == dtype:
            return self
        with np.errstate(all="ignore"):
            return on_device(self._a.astype(dtype, order=order))  # type: ignore[arg-type]

    def copy(self, order: str = "C") -> ndarray:
        return on_device(self._a.copy(order=order))  # type: ignore[arg-type]

    def fill(self, value: Any) -> None:
        self._a.fill(on_host(value))

    # ---------------------------------------------------------------- NumPy's functions on it

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        out = kwargs.pop("out", None)
        arguments = [on_host(value) for value in inputs]
        kwargs = {name: on_host(value) for name, value in kwargs.items()}
        with np.errstate(all="ignore"):
            result = ufunc(*arguments, **kwargs)
        if out is None:
            return on_device(result)
        (target,) = out
        if not isinstance(target, ndarray):
            raise TypeError(f"Unsupported type {type(target)}")
        np.copyto(target._a, result, casting="same_kind")
        return target

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        own = FUNCTIONS.get(func.__name__)
        if own is None:
            return NotImplemented
        return own(*args, **kwargs)


def _indices(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_indices(part) for part in key)
    if isinstance(key, ndarray):
        return key._a
    if isinstance(key, np.ndarray):
        raise TypeError("fake cupy: an index that is a NumPy array")
    return key


def on_host(value: Any) -> Any:
    """A device array's NumPy array, or a scalar as it is; a NumPy array is refused."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)(on_host(item) for item in value)
    return value


def on_device(result: Any) -> Any:
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    array = ndarray(result.shape, result.dtype)
    if result.ndim and not result.flags.c_contiguous and result.flags.f_contiguous:
        array._a = np.ndarray(result.shape, result.dtype, array._buffer.bytes, order="F")
    array._a[...] = result
    return array
