"""The recurrent CUDA kernels K0 to K3 against the reference: every option, every layout in a card.

The operations' own tests run on the cupy backend too, with the kernel that it chooses. Here each is
named, and the card is described as smaller than it is, so that weights do not fit registers and
shared memory and blocks serve many rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import rnn_cases
from cuda_emulator import device as cuda_device
from helpers import relative_error

from fastnn import dispatch
from fastnn.kernels.cuda.rnn_shapes import Card
from fastnn.ops import rnn_backward, rnn_forward
from fastnn.types import RnnOutput

REASON = cuda_device.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

LARGE = Card(90, 24, 227 << 10, cluster=8)
SMALL = Card(90, 2, 48 << 10, cluster=2)
NO_TENSOR_CORES = Card(75, 4, 64 << 10)
TOLERANCE = {"float64": 1e-12, "float32": 3e-6, "float16": 4e-3, "tf32": 2e-3}


class Run(NamedTuple):
    """A kernel on a card with a case."""

    kernel: str
    card: Card
    cell: str
    dtype: str
    case: str
    keep: str = "gates"


RUNS = [
    Run("k0", LARGE, "lstm", "float64", "everything"),
    Run("k0", LARGE, "lstm", "float64", "everything_reverse", "states"),
    Run("k0", SMALL, "gru_before", "float32", "primes_options"),
    Run("k0", SMALL, "gru_after", "float16", "primes"),
    Run("k1", LARGE, "gru_after", "float64", "everything"),
    Run("k1", LARGE, "gru_after", "float64", "everything_reverse", "states"),
    Run("k1", SMALL, "lstm", "float32", "primes"),
    Run("k1", SMALL, "tanh", "float16", "primes_options"),
    Run("k2", LARGE, "gru_before", "float64", "everything"),
    Run("k2", LARGE, "gru_before", "float64", "everything_reverse", "states"),
    Run("k2", SMALL, "relu", "float32", "primes_reverse"),
    Run("k2", SMALL, "lstm", "float16", "primes_options"),
    Run("k2", SMALL, "gru_after", "tf32", "primes_options"),
    Run("k2", NO_TENSOR_CORES, "lstm", "float16", "everything"),
    *(Run("k3", LARGE, c, "float64", "everything") for c in rnn_cases.CELL_OPTIONS),
    Run("k3", LARGE, "gru_before", "float16", "everything_reverse", "states"),
]


def identify(run: Run) -> str:
    return f"{run.kernel}-{run.cell}-{run.dtype}-{run.case}"


@pytest.fixture
def cupy():
    """CuPy or its stand-in; the kernels' choices are forgotten afterwards."""
    with cuda_device.cupy() as module:
        yield module


def moved(value, change):
    """A record, tuple or array with its arrays changed."""
    if isinstance(value, tuple):
        parts = [moved(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return change(value) if isinstance(value, np.ndarray) else value


def gradients_of(out, seed=3):
    """Upstream gradients for every field of an output."""
    rng = np.random.default_rng(seed)
    return RnnOutput(*(moved(field, lambda a: rng.standard_normal(a.shape)) for field in out))


def flat(value):
    """The arrays of a record."""
    if isinstance(value, tuple):
        return [array for part in value for array in flat(part)]
    return [] if value is None else [value]


def waits(module):
    """How often the host has waited for the device, or sent something there; 0 if not counted."""
    counts = getattr(module, "counts", {})
    return counts.get("synchronizations", 0) + counts.get("uploads", 0)


def results(module, run: Run, monkeypatch, plans=None):
    """Outputs and gradients on the device, and the reference's."""
    from fastnn.kernels.cuda import rnn_persistent

    monkeypatch.setenv("FASTNN_CUDA_RNN", run.kernel)
    monkeypatch.setenv("CUPY_TF32", str(int(run.dtype == "tf32")))
    if module.__name__ != "cupy":  # the stand-in: a real card is as it is
        monkeypatch.setattr(rnn_persistent, "card", lambda device: run.card)
        monkeypatch.setattr(module.settings, "resident", run.card.processors)
    if plans is not None:
        plan_of = rnn_persistent.plan_of

        def record(call, backward):
            plans.append(plan_of(call, backward))
            return plans[-1]

        monkeypatch.setattr(rnn_persistent, "plan_of", record)
    dtype = np.dtype("float32" if run.dtype == "tf32" else run.dtype)
    case = {**rnn_cases.SMALL, **rnn_cases.LARGE}[run.case]
    x, weights, initial, options = rnn_cases.make(case, run.cell)

    def rounded(value):
        return moved(value, lambda a: a.astype(dtype) if a.dtype.kind == "f" else a)

    problem = rounded((x, weights, initial))
    with dispatch.use_backend("numpy"):
        wide = moved(problem, lambda a: a.astype(np.float64))
        out, saved = rnn_forward(*wide, **options, keep=run.keep)
        upstream = gradients_of(out)
        upstream = moved(rounded(upstream), lambda a: a.astype(np.float64))
        expected = [*flat(out), *flat(rnn_backward(upstream, saved))]
        spec = saved.spec

    from fastnn.backends import cupy_gpu
    from fastnn.types import RnnSaved

    x, weights, initial, spec, upstream = moved((*problem, spec, rounded(upstream)), module.asarray)
    waited = waits(module)
    out, c, gates = cupy_gpu.rnn_forward(x, weights, initial, spec, run.keep)
    saved = RnnSaved("cupy", spec, run.keep, x, weights, initial, out.y, c, gates)
    grads = cupy_gpu.rnn_backward(upstream, saved, True)
    assert waits(module) == waited
    return [module.asnumpy(a) for a in [*flat(out), *flat(grads)]], expected


@pytest.mark.parametrize("run", RUNS, ids=identify)
def test_kernel_against_the_reference(cupy, run, monkeypatch):
    plans = []
    actual, expected = results(cupy, run, monkeypatch, plans)
    if cupy.__name__ != "cupy":
        assert plans and {plan.kernel for _, plan in plans} <= {run.kernel, "k2"}
        assert plans[0][1].kernel == run.kernel
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE[run.dtype]


@pytest.mark.parametrize("kernel", ["k1", "k2"])
def test_the_order_of_blocks_and_threads_changes_no_bit(cupy, kernel, monkeypatch):
    if not hasattr(cupy, "settings"):
        pytest.skip("only the stand-in can choose the order")
    run = Run(
        kernel, LARGE, "gru_after" if kernel == "k1" else "gru_before", "float64", "everything"
    )
    found = []
    for order in (0, 1, 2):
        monkeypatch.setattr(cupy.settings, "order", order)
        found.append(results(cupy, run, monkeypatch)[0])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_launch_that_the_driver_refuses_falls_to_another_shape(cupy, monkeypatch):
    if not hasattr(cupy, "settings"):
        pytest.skip("only the stand-in can refuse on demand")
    from fastnn.kernels.cuda import rnn_persistent

    class CUDADriverError(RuntimeError):
        pass

    launch, refused = rnn_persistent._launch, []

    def refuse_clusters(name, call, work, plan, *rest):
        if plan.kernel == "k1":
            refused.append(plan.blocks)
            raise CUDADriverError("CUDA_ERROR_CLUSTER_OUT_OF_RESOURCES")
        return launch(name, call, work, plan, *rest)

    monkeypatch.setattr(rnn_persistent, "_refusals", {})
    monkeypatch.setattr(rnn_persistent, "_launch", refuse_clusters)
    run = Run("k1", LARGE, "gru_before", "float64", "everything")
    actual, expected = results(cupy, run, monkeypatch)
    assert refused == sorted(set(refused)) and refused
    for one, other in zip(actual, expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE["float64"]


def test_the_report_is_of_the_card_in_hand(cupy):
    from fastnn.kernels.cuda import rnn_report

    found = rnn_report.details()
    assert found["lstm H 128 B 64"][:2] in ("k0", "k1", "k2", "k3")
    assert "us a step expected" in found["lstm H 2048 B 64"]
