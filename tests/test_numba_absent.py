"""Without Numba, a driver or a card the backend says so, and the CPU's backends work."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

import fastnn
from fastnn import dispatch
from fastnn.backends import cuda_probe, numba_gpu


@pytest.fixture(autouse=True)
def real(monkeypatch):
    """No simulator, and nothing remembered."""
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.delitem(dispatch._loaded, "numba", raising=False)


@pytest.fixture
def has(monkeypatch):
    """Pretend that the package or the driver is there or is not."""

    def pretend(package: bool, driver: bool) -> None:
        monkeypatch.setattr(cuda_probe, "find_spec", lambda name: "found" if package else None)
        monkeypatch.setattr(cuda_probe, "_has_driver", lambda: driver)

    return pretend


@pytest.fixture
def numba(monkeypatch):
    """A Numba that finds no card."""

    def pretend(available) -> None:
        cuda = types.ModuleType("numba.cuda")
        cuda.is_available = available
        cuda.cuda_error = lambda: "CUDA_ERROR_NO_DEVICE\nand more"
        package = types.ModuleType("numba")
        package.cuda = cuda
        monkeypatch.setitem(sys.modules, "numba", package)
        monkeypatch.setitem(sys.modules, "numba.cuda", cuda)

    return pretend


@pytest.mark.parametrize(
    ("package", "driver", "expected"),
    [
        (False, True, ["numba is not installed: pip install 'fastnn[numba]'"]),
        (True, False, ["no NVIDIA driver was found"]),
        (False, False, ["pip install 'fastnn[numba]'", "no NVIDIA driver was found"]),
    ],
)
def test_what_is_missing_is_told(has, package, driver, expected):
    has(package, driver)
    x = np.ones((2, 3))
    with dispatch.use_backend("numba"), pytest.raises(fastnn.BackendUnavailableError) as caught:
        fastnn.activation_forward(x, "relu")
    for words in expected:
        assert words in str(caught.value)
    with dispatch.use_backend("auto"):
        assert fastnn.activation_forward(x, "relu")[1].backend != "numba"


def test_a_driver_without_a_card_is_told_in_one_line(has, numba):
    has(True, True)
    numba(lambda: False)
    assert numba_gpu.unavailable() == "Numba cannot use CUDA here: CUDA_ERROR_NO_DEVICE"


def test_a_numba_that_fails_is_told_in_one_line(has, numba):
    def broken() -> bool:
        raise RuntimeError("toolkit too old\nlong story")

    has(True, True)
    numba(broken)
    assert numba_gpu.unavailable() == "Numba cannot use CUDA here: toolkit too old"


def test_the_simulator_needs_no_driver(has, numba, monkeypatch):
    has(True, False)
    numba(lambda: False)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert numba_gpu.unavailable() is None
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "0")
    assert "driver" in (numba_gpu.unavailable() or "")


def test_numpy_arrays_are_owned_without_numba():
    assert numba_gpu.owns(np.zeros(2)) and not numba_gpu.owns([0.0])
    assert numba_gpu.asarray([1.0, 2.0]).shape == (2,)
