"""Convolution, pooling and recurrent networks against PyTorch, forward and backward.

Frozen values (tests/data/torch_oracle.npz) always; where torch is installed the same cases also
live, with other random numbers and more channels and units.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from frozen import Case, load

import fastnn

DATA = Path(__file__).parent / "data"
FROZEN = {case.name: case for case in load(DATA / "torch_oracle.npz")}
# Relative to the largest magnitude of the expected array: (outputs, gradients).
BOUNDS = {np.dtype("float64"): (1e-12, 1e-12), np.dtype("float32"): (2e-6, 5e-6)}


@pytest.fixture(params=sorted(FROZEN))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def live():
    """The cases made by PyTorch now: name -> case."""
    pytest.importorskip("torch")
    path = DATA / "make_torch_oracle.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {case.name: case for case in module.cases(seed=22, size=3)}


def test_frozen(name, backend, dtype):
    check(FROZEN[name], dtype)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_live(name, backend, dtype, live):
    check(live[name], dtype)


def check(case: Case, dtype: np.dtype) -> None:
    def given(key):
        value = case.arrays.get(key)
        return None if value is None else value.astype(dtype)

    def close(what, actual, expected, bound):
        assert actual.dtype == dtype, f"{case.name} {what}: {actual.dtype}"
        assert actual.shape == expected.shape, f"{case.name} {what}: {actual.shape}"
        error = np.max(np.abs(actual - expected), initial=0.0)
        scale = max(np.max(np.abs(expected), initial=0.0), 1e-3)
        assert error <= bound * scale, f"{case.name} {what}: {error:.3g} of {scale:.3g}"

    {"conv2d": conv2d, "max_pool2d": pool2d, "avg_pool2d": pool2d, "rnn": rnn}[case.spec["op"]](
        case, given, close, *BOUNDS[dtype]
    )


def plain(arguments: dict) -> dict:
    """JSON lists as the tuples a caller would write."""

    def convert(value):
        return tuple(map(convert, value)) if isinstance(value, list) else value

    return {key: convert(value) for key, value in arguments.items()}


def conv2d(case, given, close, forward, backward):
    y, saved = fastnn.conv2d_forward(
        given("x"), given("kernel"), given("bias"), **plain(case.spec["arguments"])
    )
    close("y", y, case.arrays["y"], forward)
    grads = fastnn.conv2d_backward(given("r"), saved)
    close("dx", grads.dx, case.arrays["dx"], backward)
    close("dkernel", grads.dkernel, case.arrays["dkernel"], backward)
    if "bias" in case.arrays:
        close("dbias", grads.dbias, case.arrays["dbias"], backward)
    else:
        assert grads.dbias is None


def pool2d(case, given, close, forward, backward):
    op = case.spec["op"]
    y, saved = getattr(fastnn, f"{op}_forward")(given("x"), **plain(case.spec["arguments"]))
    close("y", y, case.arrays["y"], forward)
    dx = getattr(fastnn, f"{op}_backward")(given("r"), saved)
    close("dx", dx, case.arrays["dx"], backward)


def rnn(case, given, close, forward, backward):
    """One call a direction; PyTorch concatenates outputs and stacks states."""
    arguments, lengths = case.spec["arguments"], case.spec["lengths"]
    lstm = arguments["cell"] == "lstm"
    directions = case.spec["directions"]
    units = case.arrays["y"].shape[-1] // directions
    dx = 0.0
    for d in range(directions):
        columns = slice(d * units, (d + 1) * units)
        # Transposed memory, as a view of PyTorch's own [G*H, I] would be.
        raw = [np.asfortranarray(w).astype(given("x").dtype) for w in case.series(f"w{d}_")]
        weights = fastnn.RnnWeights(*raw)
        states = [s[d].astype(given("x").dtype) for s in case.series("state")]
        initial = (tuple(states) if lstm else states[0]) if states else None
        out, saved = fastnn.rnn_forward(
            given("x"),
            weights,
            initial,
            reverse=d == 1,
            lengths=None if lengths is None else np.array(lengths),
            **arguments,
        )
        close("y", out.y, case.arrays["y"][..., columns], forward)
        finals = out.final if lstm else (out.final,)
        for got, expected in zip(finals, case.series("final"), strict=True):
            close("final", got, expected[d], forward)
        upstream = [r[d].astype(given("x").dtype) for r in case.series("rfinal")]
        d_final = tuple(upstream) if lstm else upstream[0]
        grads = fastnn.rnn_backward(
            fastnn.RnnOutput(given("r")[..., columns], d_final, None), saved
        )
        dx = dx + grads.dx
        got = [g for g in grads.weights if g is not None]
        for i, (g, expected) in enumerate(zip(got, case.series(f"dw{d}_"), strict=True)):
            close(f"dw{d}_{i}", g, expected, backward)
        d_states = grads.initial if lstm else (grads.initial,)
        for i, expected in enumerate(case.series("dstate")):
            close(f"dstate{i}", d_states[i], expected[d], backward)
    close("dx", dx, case.arrays["dx"], backward)
