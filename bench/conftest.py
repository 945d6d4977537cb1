"""The flags of the suite, and one participant at a time."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest

from fastnn import dispatch
from fastnn.bench.peers import PEERS

BACKENDS = ("numpy", "cython")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--peers", default="", help="also time these: torch,jax,tensorflow,onnxruntime"
    )
    parser.addoption("--threads", type=int, default=1, help="threads of everyone but numpy")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "participant" in metafunc.fixturenames:
        peers = [name for name in metafunc.config.getoption("peers").split(",") if name]
        unknown = set(peers) - set(PEERS)
        if unknown:
            raise pytest.UsageError(f"--peers {sorted(unknown)}; of {', '.join(PEERS)} is needed")
        metafunc.parametrize("participant", [*BACKENDS, *peers], indirect=True)


@pytest.fixture
def participant(request: pytest.FixtureRequest):
    """The module that makes the jobs; a backend of fastnn's is chosen while the test runs."""
    name = request.param
    threads = request.config.getoption("threads")
    if name in BACKENDS:
        reason = dispatch.status()[name]
        if reason is not None:
            pytest.skip(f"backend {name}: {reason}")
        with dispatch.use_backend(name):
            yield _prepared("fastnn.bench.ours", threads)
        return
    missing = [package for package in PEERS[name].packages if find_spec(package) is None]
    if missing:
        pytest.skip(f"{missing} not installed: {PEERS[name].install}")
    yield _prepared(PEERS[name].module, threads)


_done: set[str] = set()


def _prepared(path: str, threads: int):
    module = import_module(path)
    # Once for a peer: most take their number of threads only before their first operation.
    if path == "fastnn.bench.ours" or path not in _done:
        module.prepare(threads)
        _done.add(path)
    return module
