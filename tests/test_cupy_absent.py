"""CuPy that is not installed, or has no GPU: the reason is told, and the CPU works on."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cuda_emulator import device, fake_cupy

import fastnn
from fastnn import dispatch
from fastnn.backends import cuda_probe, cupy_gpu

X = np.ones((2, 3), "float32")


@pytest.fixture
def no_backend_yet(monkeypatch):
    monkeypatch.setattr(dispatch, "_loaded", {})
    monkeypatch.setattr(dispatch, "_auto_by_type", {})


def test_without_the_package(monkeypatch, no_backend_yet):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(cuda_probe, "find_spec", lambda name: None)
    message = (
        r"^\[activation_forward\] the backend 'cupy' is not available: the package cupy is not"
    )
    with fastnn.use_backend("cupy"), pytest.raises(fastnn.BackendUnavailableError, match=message):
        fastnn.activation_forward(X, "relu")
    assert "pip install 'fastnn[cuda" in str(cupy_gpu.unavailable())
    assert fastnn.activation_forward(X, "relu")[1].backend in ("cython", "numpy")


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (lambda: 0, "CuPy sees no GPU"),
        (
            lambda: (_ for _ in ()).throw(
                RuntimeError("cudaErrorInsufficientDriver: CUDA driver\nversion is insufficient")
            ),
            "CuPy cannot use a GPU here: cudaErrorInsufficientDriver: CUDA driver version is",
        ),
    ],
    ids=["no card", "no driver"],
)
def test_with_the_package_and_no_gpu(monkeypatch, no_backend_yet, count, reason):
    cupy = ModuleType("cupy")
    cupy.ndarray = type("ndarray", (), {})  # type: ignore[attr-defined]
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda_probe, "missing", device.nothing_missing)
    assert str(cupy_gpu.unavailable()).startswith(reason)
    assert str(dispatch.status()["cupy"]).startswith(reason)
    with fastnn.use_backend("cupy"), pytest.raises(fastnn.BackendUnavailableError, match=reason):
        fastnn.asarray(X)
    assert fastnn.dense_forward(X, np.ones((3, 2), "float32"))[0].shape == (2, 2)


def test_the_driver_is_looked_for_before_the_package_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import would fail
    monkeypatch.setattr(cuda_probe, "find_spec", lambda name: object())
    monkeypatch.setattr(cuda_probe, "_has_driver", lambda: False)
    assert cupy_gpu.unavailable() == "no NVIDIA driver was found (libcuda)"


@pytest.mark.skipif(device.unavailable() is not None, reason=str(device.unavailable()))
def test_arrays_choose_the_backend_and_do_not_mix():
    with device.cupy() as cupy:
        x = cupy.asarray(X)
        assert fastnn.activation_forward(x, "relu")[1].backend == "cupy"
        with pytest.raises(
            TypeError, match=r"^\[dense_forward\] kernel is a numpy.ndarray; an arr"
        ):
            fastnn.dense_forward(x, np.ones((3, 2), "float32"))
        with fastnn.use_backend("numpy"), pytest.raises(TypeError, match=r"x is a cupy\.ndarray"):
            fastnn.activation_forward(x, "relu")
        with fastnn.use_backend("cupy"):
            assert fastnn.asarray(x) is x
            assert isinstance(fastnn.asarray(X), cupy.ndarray)
        assert cupy_gpu.describe()["compute capability"]


@pytest.mark.skipif(device.unavailable() is not None, reason=str(device.unavailable()))
def test_arrays_of_others_on_the_device_are_taken_by_dlpack(monkeypatch):
    class Tensor:
        """As PyTorch's: the device of the memory, and the memory."""

        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **options):
            return X.__dlpack__()

    with device.cupy() as cupy, fastnn.use_backend("cupy"):
        seen = []
        monkeypatch.setattr(fake_cupy, "from_dlpack", lambda a: seen.append(a) or cupy.asarray(X))
        if cupy is fake_cupy:
            tensor = Tensor()
            assert isinstance(fastnn.asarray(tensor), cupy.ndarray) and seen == [tensor]
        back = np.from_dlpack(fastnn.asarray(X)) if cupy is fake_cupy else X
        np.testing.assert_array_equal(back, X)
