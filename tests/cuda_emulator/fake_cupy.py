"""A stand-in for CuPy over NumPy, for tests without a GPU; as strict as CuPy, or stricter.

A device array is no NumPy array here either: mixing the two, or asking NumPy to convert one, is a
TypeError. What waits for the device in CuPy is counted (`counts`). Kernels run on the CPU through
the emulator; every array lies between canaries, which are looked at after each launch, and
``empty`` is full of NaN. A kernel's arguments must have the sizes of its parameters, where CuPy
would pass whatever bytes it is given.

Only what fastnn uses is here. `install` puts it into ``sys.modules`` as ``cupy``.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from . import emulator
from .fake_cuda import make_cuda, refuse_in_capture, submit

__version__ = "14.0.0-fake"

counts: Counter[str] = Counter()  # "synchronizations", "uploads", "launches"
settings = SimpleNamespace(resident=32, order=0)  # see emulator.cpp

_CANARY = 128
_MARK = 0xA5


class _Buffer:
    """Device memory: bytes with a canary on either side."""

    def __init__(self, size: int) -> None:
        refuse_in_capture("an allocation")
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
        self._buffer = _Buffer(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
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
        return cuda.Device(0)

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
        return _wrap(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._a[_indices(key)] = _plain(value)

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._a.view() if dtype is None else self._a.view(dtype))

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        result = self._a.reshape(*shape, order=order)  # type: ignore[call-overload]
        return self._view(result) if np.may_share_memory(result, self._a) else _wrap(result)

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
            return _wrap(self._a.astype(dtype, order=order))  # type: ignore[arg-type]

    def copy(self, order: str = "C") -> ndarray:
        return _wrap(self._a.copy(order=order))  # type: ignore[arg-type]

    def fill(self, value: Any) -> None:
        self._a.fill(_plain(value))

    # ---------------------------------------------------------------- NumPy's functions on it

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        out = kwargs.pop("out", None)
        arguments = [_plain(value) for value in inputs]
        kwargs = {name: _plain(value) for name, value in kwargs.items()}
        with np.errstate(all="ignore"):
            result = ufunc(*arguments, **kwargs)
        if out is None:
            return _wrap(result)
        (target,) = out
        if not isinstance(target, ndarray):
            raise TypeError(f"Unsupported type {type(target)}")
        np.copyto(target._a, result, casting="same_kind")
        return target

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        own = FUNCTIONS.get(func.__name__) or globals().get(func.__name__)
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


def _plain(value: Any) -> Any:
    """A device array's NumPy array, or a scalar as it is; a NumPy array is refused."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


def _wrap(result: Any) -> Any:
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    array = ndarray(result.shape, result.dtype)
    if result.ndim and not result.flags.c_contiguous and result.flags.f_contiguous:
        array._a = np.ndarray(result.shape, result.dtype, array._buffer.bytes, order="F")
    array._a[...] = result
    return array


def _function(name: str) -> Callable[..., Any]:
    inner = getattr(np, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        plain = [_plain(value) for value in args]
        if name in ("matmul", "dot"):
            return _product(inner, plain, out)
        options = {key: _plain(value) for key, value in kwargs.items()}
        with np.errstate(all="ignore"):
            result = inner(*plain, **options)
        if out is not None:
            np.copyto(out._a, result, casting="same_kind")
            return out
        return _wrap(result)

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
    return _wrap(np.asarray(result).astype(dtype, copy=False))


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
# Not in this module's namespace, where they would hide Python's own sum, max and any.
FUNCTIONS = {name: _function(name) for name in _NAMES} | {name: _viewing(name) for name in _VIEWS}


def __getattr__(name: str) -> Any:
    try:
        return FUNCTIONS[name]
    except KeyError:
        raise AttributeError(f"fake cupy has no {name}") from None


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


for _name in [
    "sum",
    "any",
    "all",
    "max",
    "min",
    "argmax",
    "argmin",
    "mean",
    "prod",
    "cumsum",
    "argsort",
    "take",
    "clip",
    "dot",
]:
    setattr(ndarray, _name, _method(_name))

# ---------------------------------------------------------------- making arrays

float16, float32, float64 = np.float16, np.float32, np.float64
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
bool_, intp = np.bool_, np.intp
dtype, newaxis, inf, nan = np.dtype, None, np.inf, np.nan


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def full(shape: Any, value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    array = ndarray(shape, np.asarray(_plain(value)).dtype if dtype is None else dtype, order=order)
    array.fill(value)
    return array


def empty_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None):
    plain = np.empty_like(_plain(a), dtype=dtype, order=order, shape=shape)  # type: ignore[arg-type]
    result = ndarray(plain.shape, plain.dtype)
    if not plain.flags.c_contiguous:
        axes = sorted(range(plain.ndim), key=lambda i: -plain.strides[i])
        inner = np.ndarray(tuple(plain.shape[i] for i in axes), plain.dtype, result._buffer.bytes)
        result._a = inner.transpose(np.argsort(axes))
    return result


def zeros_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None):
    result = empty_like(a, dtype, order, subok, shape)
    result._a[...] = 0
    return result


def ones_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None):
    result = empty_like(a, dtype, order, subok, shape)
    result._a[...] = 1
    return result


def array(
    a: Any, dtype: Any = None, copy: bool = True, order: str = "K", ndmin: int = 0
) -> ndarray:
    if isinstance(a, ndarray):
        return a.astype(a.dtype if dtype is None else dtype, copy=copy)
    if hasattr(a, "__cuda_array_interface__"):
        raise NotImplementedError("fake cupy.array of another package's device array")
    plain = np.array(a, dtype=dtype, order=order, ndmin=ndmin)  # type: ignore[call-overload]
    if plain.dtype.kind not in "biufc" and plain.dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {plain.dtype}")
    counts["uploads"] += 1
    return _wrap(plain)


def asarray(a: Any, dtype: Any = None, order: str = "K") -> ndarray:
    return array(a, dtype, copy=False, order=order)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    if isinstance(a, ndarray):
        return _wrap(np.ascontiguousarray(a._a, dtype))
    return asarray(a, dtype, order="C")


def asnumpy(a: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def from_dlpack(a: Any) -> ndarray:
    """The memory of another package: of the host, as it is all that there is here."""
    view = object.__new__(ndarray)
    view._a = np.from_dlpack(a)
    view._buffer = _Buffer(0)
    view.base = None
    return view


def get_array_module(*args: Any) -> Any:
    own = any(isinstance(a, ndarray) for a in args)
    return sys.modules["cupy"] if own else np


def _as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    return x._view(np.lib.stride_tricks.as_strided(x._a, shape, strides))


lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))

# ---------------------------------------------------------------- kernels


class RawKernel:
    """A kernel, and what it was allowed."""

    def __init__(self, kernel: emulator.Kernel) -> None:
        self._kernel = kernel
        self.name = kernel.name
        self.max_dynamic_shared_size_bytes = 0
        self.preferred_shared_memory_carveout = -1
        self.shared_size_bytes = kernel.static_shared
        self.local_size_bytes = 0
        self.num_regs = 64
        self.max_threads_per_block = 1024
        self.attributes: dict[str, int] = {}

    def __call__(
        self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0, stream: Any = None
    ) -> None:
        kernel = self._kernel
        grid, block = (tuple(max(1, n) for n in (*size, 1, 1)[:3]) for size in (grid, block))
        emulator.check_launch(kernel, grid, block, shared_mem, self.max_dynamic_shared_size_bytes)
        values = [_argument(a) for a in args]
        sizes = tuple(ctypes.sizeof(v) for v in values)
        if sizes != kernel.parameter_sizes:
            raise TypeError(
                f"kernel {self.name}: arguments of {sizes} bytes; {kernel.parameter_sizes} are "
                "the sizes of its parameters"
            )
        arrays = [a for a in args if isinstance(a, ndarray)]

        def launch() -> None:
            counts["launches"] += 1
            kernel(grid, block, values, shared_mem, settings.resident, settings.order)
            for array in arrays:
                array._buffer.check(self.name)

        submit(launch)


def _argument(value: Any) -> Any:
    if isinstance(value, ndarray):
        return ctypes.c_void_p(value.data.ptr)
    if isinstance(value, bool):
        return ctypes.c_bool(value)
    if isinstance(value, int):
        return ctypes.c_int64(value)
    if isinstance(value, float):
        return ctypes.c_double(value)
    if isinstance(value, np.generic):
        return (ctypes.c_char * value.itemsize).from_buffer_copy(value.tobytes())
    if isinstance(value, np.ndarray) and value.dtype.names and value.shape == (1,):
        return (ctypes.c_char * value.itemsize).from_buffer_copy(value.tobytes())  # a struct
    raise TypeError(f"Unsupported type {type(value)}")


class RawModule:
    """A .cu file, compiled at the first `get_function`."""

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: Any = None,
    ) -> None:
        if code is None or name_expressions is not None or backend != "nvrtc":
            raise NotImplementedError("fake cupy.RawModule of anything but source for NVRTC")
        if not isinstance(options, tuple):
            raise TypeError("options must be a tuple of strings")
        self.code, self.options = code, options
        self.enable_cooperative_groups = enable_cooperative_groups
        self._module: emulator.Module | None = None

    def compile(self, log_stream: Any = None) -> None:
        if self._module is None:
            self._module = emulator.Module(self.code, self.options)

    def get_function(self, name: str) -> RawKernel:
        self.compile()
        assert self._module is not None
        if name not in self._module.kernels:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: {name}")
        return RawKernel(self._module.kernels[name])


# ---------------------------------------------------------------- what the benchmark asks for


class _Generator:
    """Random numbers; NumPy's, so not CuPy's values."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def standard_normal(self, size: Any = None, dtype: Any = float) -> ndarray:
        return _wrap(self._rng.standard_normal(size, dtype))


random = SimpleNamespace(default_rng=_Generator)


def get_default_memory_pool() -> Any:
    return SimpleNamespace(free_all_blocks=lambda: None)


_compute_types: dict[str, int] = {}


def _set_compute_type(dtype: Any, kind: int) -> None:
    _compute_types[np.dtype(dtype).name] = kind


_core = ModuleType("cupy._core")
_linalg = ModuleType("cupy._core._routines_linalg")
_linalg.__dict__.update(
    COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7, set_compute_type=_set_compute_type
)
_core.__dict__.update(_routines_linalg=_linalg)

cuda = make_cuda(counts)
MODULES = ("cupy", "cupy.cuda", "cupy._core", "cupy._core._routines_linalg")


def install() -> ModuleType:
    """This module as ``cupy`` in sys.modules."""
    module = sys.modules[__name__]
    sys.modules.update(zip(MODULES, (module, cuda, _core, _linalg), strict=True))
    return module
