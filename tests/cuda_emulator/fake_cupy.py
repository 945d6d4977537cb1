"""A stand-in for CuPy over NumPy, for tests without a GPU; as strict as CuPy, or stricter.

A device array is no NumPy array here either: mixing the two, or asking NumPy to convert one, is a
TypeError. What waits for the device in CuPy is counted (`counts`). Kernels run on the CPU through
the emulator; every array lies between canaries, which are looked at after each launch, and
``empty`` is full of NaN. A kernel's arguments must have the sizes of its parameters, where CuPy
would pass whatever bytes it is given.

Only what fastnn uses is here. `install` puts it into ``sys.modules`` as ``cupy``.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from . import fake_functions  # noqa: F401  (what it adds to ndarray)
from .fake_array import FUNCTIONS, Buffer, counts, ndarray, on_device, on_host
from .fake_cuda import make_cuda
from .fake_kernels import RawKernel as RawKernel
from .fake_kernels import RawModule as RawModule
from .fake_kernels import settings as settings

__version__ = "14.0.0-fake"


def __getattr__(name: str) -> Any:
    # Not in the namespace itself, where they would hide Python's own sum, max and any.
    try:
        return FUNCTIONS[name]
    except KeyError:
        raise AttributeError(f"fake cupy has no {name}") from None


# ---------------------------------------------------------------- making arrays

float16, float32, float64 = np.float16, np.float32, np.float64
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
bool_, intp = np.bool_, np.intp
dtype, newaxis, inf, nan = np.dtype, None, np.inf, np.nan


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def full(shape: Any, value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    array = ndarray(
        shape, np.asarray(on_host(value)).dtype if dtype is None else dtype, order=order
    )
    array.fill(value)
    return array


def empty_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None):
    plain = np.empty_like(on_host(a), dtype=dtype, order=order, shape=shape)  # type: ignore[arg-type]
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
    return on_device(plain)


def asarray(a: Any, dtype: Any = None, order: str = "K") -> ndarray:
    return array(a, dtype, copy=False, order=order)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    if isinstance(a, ndarray):
        return on_device(np.ascontiguousarray(a._a, dtype))
    return asarray(a, dtype, order="C")


def asnumpy(a: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def from_dlpack(a: Any) -> ndarray:
    """The memory of another package: of the host, as it is all that there is here."""
    view = object.__new__(ndarray)
    view._a = np.from_dlpack(a)
    view._buffer = Buffer(0)
    view.base = None
    return view


def get_array_module(*args: Any) -> Any:
    own = any(isinstance(a, ndarray) for a in args)
    return sys.modules["cupy"] if own else np


FUNCTIONS.update((f.__name__, f) for f in (empty_like, zeros_like, ones_like))


def _as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    return x._view(np.lib.stride_tricks.as_strided(x._a, shape, strides))


lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))

# ---------------------------------------------------------------- what the benchmark asks for


class _Generator:
    """Random numbers; NumPy's, so not CuPy's values."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def standard_normal(self, size: Any = None, dtype: Any = float) -> ndarray:
        return on_device(self._rng.standard_normal(size, dtype))


random = SimpleNamespace(default_rng=_Generator)


def get_default_memory_pool() -> Any:
    return SimpleNamespace(free_all_blocks=lambda: None, free_bytes=lambda: 0)


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
