"""Fixtures of all tests: the backends, and the dtypes.

``FASTNN_REQUIRE=cython,numpy`` turns the skips of those backends into failures.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastnn import dispatch

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


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest):
    """The name of a backend, which is chosen while the test runs."""
    need(request.param)
    with dispatch.use_backend(request.param):
        yield request.param


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
