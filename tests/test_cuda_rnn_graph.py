"""Kernel K3 with its steps in a CUDA graph, over our own handle of cuBLAS: captured, and replayed.

The stand-in refuses inside a capture what CuPy and CUDA refuse there. On a GPU the same tests run
with the real library.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
import rnn_cases
from cuda_emulator import device as cuda_device
from cuda_emulator import fake_cublas
from helpers import relative_error
from test_cuda_rnn_kernels import LARGE, TOLERANCE, Run, results

REASON = cuda_device.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture
def graph(monkeypatch):
    """CuPy or its stand-in, the graph's module with short graphs, and the library (or None)."""
    with cuda_device.cupy() as module:
        from fastnn.kernels.cuda import blas, rnn_graph

        library = None
        if hasattr(module, "settings"):
            library = fake_cublas.Library()
            monkeypatch.setattr(blas, "_library", lambda: library)
        monkeypatch.setattr(rnn_graph, "CHUNK", 2)
        monkeypatch.setattr(rnn_graph, "_failures", {})
        monkeypatch.delenv(rnn_graph.VARIABLE, raising=False)
        for own in (blas, rnn_graph):
            monkeypatch.setattr(own, "_own", threading.local())
        yield module, rnn_graph, library


RUNS = [
    *(Run("k3", LARGE, cell, "float64", "everything") for cell in rnn_cases.CELL_OPTIONS),
    Run("k3", LARGE, "lstm", "float32", "T1"),
    Run("k3", LARGE, "gru_before", "float16", "everything_reverse", "states"),
    Run("k3", LARGE, "gru_after", "tf32", "primes"),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.cell}-{run.dtype}-{run.case}")
def test_the_graph_gives_the_references_results(graph, run, monkeypatch):
    module, rnn_graph, library = graph
    for _ in range(3):  # the first captures, the others launch what is kept
        launched = getattr(module, "counts", {}).get("graphs", 0)
        actual, expected = results(module, run, monkeypatch)
        for one, other in zip(actual, expected, strict=True):
            assert relative_error(one, other) <= TOLERANCE[run.dtype]
        assert rnn_graph.why_not(0) is None
    if library is not None:
        assert library.products > 0
        steps = rnn_cases.SMALL.get(run.case, rnn_cases.LARGE.get(run.case)).T
        assert module.counts["graphs"] - launched == 2 * (steps // 2)


def test_a_library_that_refuses_is_told_and_the_steps_run_one_by_one(graph, monkeypatch):
    module, rnn_graph, library = graph
    if library is None:
        pytest.skip("of the stand-in")
    from fastnn.kernels.cuda import blas, rnn_report

    monkeypatch.setattr(blas, "_library", lambda: fake_cublas.Library(refuse=True))
    actual, expected = results(module, RUNS[0], monkeypatch)
    for one, other in zip(actual, expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE["float64"]
    assert "cublasGemmEx gave the status 15" in rnn_graph.why_not(0)
    assert "cublasGemmEx gave the status 15" in rnn_report.details()["k3"]


def test_no_memory_is_no_reason_for_ever(graph, monkeypatch):
    module, rnn_graph, library = graph
    if library is None:
        pytest.skip("of the stand-in")
    from fastnn.kernels.cuda import blas

    class OutOfMemoryError(RuntimeError):
        pass

    def refuse():
        raise OutOfMemoryError

    monkeypatch.setattr(blas, "_library", refuse)
    actual, expected = results(module, RUNS[0], monkeypatch)
    assert relative_error(actual[0], expected[0]) <= TOLERANCE["float64"]
    assert rnn_graph.why_not(0) is None


def test_the_variable_switches_graphs_off(graph, monkeypatch):
    module, rnn_graph, library = graph
    monkeypatch.setenv(rnn_graph.VARIABLE, "0")
    actual, expected = results(module, RUNS[0], monkeypatch)
    assert relative_error(actual[0], expected[0]) <= TOLERANCE["float64"]
    assert rnn_graph.why_not(0) == "FASTNN_CUDA_GRAPH is 0"
    assert library is None or library.products == 0


def test_few_graphs_are_kept(graph, monkeypatch):
    module, rnn_graph, _ = graph
    monkeypatch.setattr(rnn_graph, "_MOST_KEPT", 1)
    for run in (RUNS[0], RUNS[2], RUNS[0]):
        actual, expected = results(module, run, monkeypatch)
        assert relative_error(actual[0], expected[0]) <= TOLERANCE["float64"]
    assert len(rnn_graph._own.kept) == 1


def test_products_of_our_own_handle(graph):
    module, _, _ = graph
    from fastnn.kernels.cuda import blas

    stream = module.cuda.get_current_stream()
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64", "float16"):
        a, b = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((3, 7)).astype(dtype)
        handle = blas.here()
        handle.use(stream, stream)
        out = module.empty((5, 7), dtype)
        handle.product(module.asarray(a), module.asarray(b), out)
        wide = a.astype(np.float64) @ b.astype(np.float64)
        assert relative_error(out.get().astype(np.float64), wide) < 2e-3
    assert blas.here() is handle
