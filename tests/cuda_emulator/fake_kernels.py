"""Kernels of the stand-in for CuPy: checked arguments, and the emulator that runs them."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import emulator
from .fake_array import counts, ndarray
from .fake_cuda import submit

settings = SimpleNamespace(resident=32, order=0)  # see emulator.cpp


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
