"""The backend cupy in tests: on a GPU where there is one, else on the stand-in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from device_calls import Device, strided_upload

from fastnn import dispatch
from fastnn.backends import cuda_probe, cupy_gpu

from . import emulator, fake_cupy


def unavailable() -> str | None:
    """Why there is neither a GPU nor an emulator, or None."""
    return None if cupy_gpu.unavailable() is None else emulator.unavailable()


_missing = cuda_probe.missing


def nothing_missing(package: str, *options: Any) -> list[str]:
    """`cuda_probe.missing` where CuPy's package and a driver are there."""
    return [] if package == "cupy" else _missing(package, *options)


@contextmanager
def cupy() -> Iterator[Any]:
    """CuPy, or the stand-in as ``cupy``, while the block lasts."""
    if cupy_gpu.unavailable() is None:
        import cupy

        yield cupy
        return
    names = fake_cupy.MODULES
    before = {name: sys.modules.get(name) for name in names}
    try:
        with mock.patch.object(cuda_probe, "missing", nothing_missing):
            yield fake_cupy.install()
    finally:
        dispatch._loaded.pop("cupy", None)
        dispatch._auto_by_type.pop(fake_cupy.ndarray, None)
        for name in names:
            if before[name] is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = before[name]


@contextmanager
def cupy_device() -> Iterator[Device]:
    """How arrays of the tests go to CuPy's device."""
    with cupy() as module:

        def strided(flat: Any, first: int, shape: Any, strides: Any) -> Any:
            if strides is None:
                return flat.reshape(shape)
            return module.lib.stride_tricks.as_strided(flat[first:], shape, strides)

        def upload(a: np.ndarray) -> Any:
            return strided_upload(a, module.asarray, strided)

        yield Device("cupy", module.ndarray, upload, module.asnumpy)
