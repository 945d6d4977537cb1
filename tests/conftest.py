"""Fixtures of all tests: the backends, and the dtypes.

``FASTNN_REQUIRE=cython,numpy`` turns the skips of those backends into failures.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from cuda_emulator import device as cuda_device
from device_calls import moved_calls
from hypothesis import HealthCheck, settings
from rnn_cases import CELL_OPTIONS

from fastnn import dispatch
from fastnn.threads import use_num_threads

BACKENDS = ("numpy", "cython")
GPU_BACKENDS = ("numba",)  # tested where they can run, or are required
# Backends of a device: a context manager that gives the `Device`, and why there is none. The tests
# of the operations run on them, with their NumPy arrays moved there and back.
DEVICES = {"cupy": (cuda_device.cupy_device, cuda_device.unavailable)}
ON_DEVICES = ("test_ops_", "test_noise")
LARGE = ("H1024", "cupy-vectors")  # in the names of tests that take too long without a device
# Tests of a minute, mostly of other processes: first, so that none is left alone at the end.
LONG = ("test_numba_simulator", "test_numba_compile")

settings.register_profile(
    "fastnn",
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fastnn")


def required() -> set[str]:
    """The backends of FASTNN_REQUIRE."""
    names = {name.strip() for name in os.environ.get("FASTNN_REQUIRE", "").split(",")} - {""}
    unknown = names - set(dispatch.NAMES)
    if unknown:
        raise pytest.UsageError(f"FASTNN_REQUIRE names {sorted(unknown)}, not in {dispatch.NAMES}")
    return names


def pytest_configure(config: pytest.Config) -> None:
    required()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)


def need(name: str) -> None:
    """Skip the test if the backend is not available here, or fail it if it is required."""
    reason = dispatch.status()[name]
    if reason is not None:
        (pytest.fail if name in required() else pytest.skip)(f"backend {name}: {reason}")


def kinds() -> list[str]:
    """What the `backend` fixture runs on: numpy; cython on the best ISA of the machine with two
    threads, and as ``cython-<isa>`` on each lower one with one thread; the GPU's backends."""
    try:
        from fastnn.kernels.cpu import _runtime
    except ImportError:
        return [*BACKENDS, *gpu_backends()]
    return [*BACKENDS, *(f"cython-{isa}" for isa in _runtime.isas()[:-1]), *gpu_backends()]


def gpu_backends() -> list[str]:
    """Those of the GPU's backends that can run here or must."""
    status = dispatch.status()
    return [name for name in GPU_BACKENDS if status[name] is None or name in required()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        devices = DEVICES if metafunc.module.__name__.startswith(ON_DEVICES) else {}
        metafunc.parametrize("backend", [*kinds(), *devices], indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest):
    """The name of a backend, which is chosen while the test runs."""
    if request.param in DEVICES:
        yield from _on_device(request.param, request.node.name)
        return
    name, _, isa = request.param.partition("-")
    need(name)
    if name != "cython":
        with dispatch.use_backend(name):
            yield name
        return
    from fastnn.kernels.cpu import _runtime

    best = _runtime.isa()
    try:
        _runtime._set_isa(isa or best)
        with dispatch.use_backend(name), use_num_threads(1 if isa else 2):
            yield name
    finally:
        _runtime._set_isa(best)


@pytest.fixture
def numba_chosen():
    """The backend numba, chosen while the test runs."""
    need("numba")
    with dispatch.use_backend("numba"):
        yield


def _on_device(name: str, test: str = ""):
    start, unavailable = DEVICES[name]
    if name in required():
        need(name)  # the device itself: a stand-in is not what was asked for
    elif (reason := unavailable()) is not None:
        pytest.skip(f"backend {name}: {reason}")
    elif any(large in test for large in LARGE) and dispatch.status()[name] is not None:
        pytest.skip(f"backend {name}: large, for a device alone")
    with start() as device, dispatch.use_backend(name), moved_calls(device):
        yield name


def pairs() -> list[tuple[str, str]]:
    """Every ordered pair of backends; of the GPU's only those that can run here or must."""
    return list(itertools.permutations((*BACKENDS, *gpu_backends()), 2))


@pytest.fixture(params=[*pairs(), ("numpy", "cupy"), ("cupy", "numpy")], ids="-".join)
def two_backends(request: pytest.FixtureRequest):
    """Two different backends: forward on the first, backward on the second."""
    for name in request.param:
        if name in DEVICES:
            yield from (request.param for _ in _on_device(name))
            return
        need(name)
    yield request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    """A floating dtype."""
    return np.dtype(request.param)


@pytest.fixture(params=sorted(CELL_OPTIONS))
def cell(request: pytest.FixtureRequest) -> str:
    """A recurrent cell with its own options, by its name in `CELL_OPTIONS`."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, so that a failure repeats."""
    return np.random.default_rng(20260)
