"""Fixtures of all tests: the backends, and the dtypes.

``FASTNN_REQUIRE=cython,numpy`` turns the skips of those backends into failures.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastnn import dispatch
from fastnn.threads import use_num_threads

BACKENDS = ("numpy", "cython")

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


def need(name: str) -> None:
    """Skip the test if the backend is not available here, or fail it if it is required."""
    reason = dispatch.status()[name]
    if reason is not None:
        (pytest.fail if name in required() else pytest.skip)(f"backend {name}: {reason}")


def kinds() -> list[str]:
    """What the `backend` fixture runs on: numpy; cython on the best ISA of the machine with two
    threads, and as ``cython-<isa>`` on each lower one with one thread."""
    try:
        from fastnn.kernels.cpu import _runtime
    except ImportError:
        return list(BACKENDS)
    return [*BACKENDS, *(f"cython-{isa}" for isa in _runtime.isas()[:-1])]


@pytest.fixture(params=kinds())
def backend(request: pytest.FixtureRequest):
    """The name of a backend, which is chosen while the test runs."""
    name, _, isa = request.param.partition("-")
    need(name)
    if name == "numpy":
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


@pytest.fixture(params=[p for p in [(a, b) for a in BACKENDS for b in BACKENDS] if p[0] != p[1]])
def two_backends(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Two different backends: forward on the first, backward on the second."""
    for name in request.param:
        need(name)
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    """A floating dtype."""
    return np.dtype(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, so that a failure repeats."""
    return np.random.default_rng(20260)
