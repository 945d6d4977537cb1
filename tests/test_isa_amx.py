"""Recurrent products on the tile unit: every option at sizes that go there; what does not split."""

from __future__ import annotations

import numpy as np
import pytest
from rnn_cases import CELL_OPTIONS, SMALL, Case, make
from rnn_checks import (
    assert_close,
    assert_same_gradients,
    forward,
    gradients_of,
    states_of,
    upstream,
)

from fastnn.dispatch import use_backend
from fastnn.ops.rnn import rnn_backward
from fastnn.threads import use_num_threads

_runtime = pytest.importorskip("fastnn.kernels.cpu._runtime")
pytestmark = pytest.mark.skipif("amx" not in _runtime.isas(), reason="no tile unit here")

CELLS = [name for name in CELL_OPTIONS if name != "gru_before"]  # that one stays on FMA

# Tiles of 16 rows, 16 units and 32 products: full, one more, one less, odd numbers of blocks.
SIZES = {
    "tiles": Case(T=4, B=64, I=32, H=64),
    "below": Case(T=4, B=31, I=31, H=95),
    "above": Case(T=3, B=33, I=33, H=97),
    "odd_blocks": Case(T=3, B=48, I=80, H=80),
    "few_rows": Case(T=6, B=9, I=64, H=128),
    "one_row": Case(T=70, B=1, I=64, H=64),
    "three_rows": Case(T=40, B=3, I=100, H=97, reverse=True, lengths="uneven"),
    "long_sums": Case(T=2, B=48, I=200, H=700),
    "chunks": Case(T=9, B=130, I=28, H=70),
}


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


def run(problem, isa, threads=1, keep="gates"):
    best = _runtime.isa()
    try:
        _runtime._set_isa(isa)
        with use_backend("cython"), use_num_threads(threads):
            output, saved = forward(problem, keep)
            return output, rnn_backward(upstream(output), saved)
    finally:
        _runtime._set_isa(best)


def check(case, cell, keep="gates", threads=1):
    """float32 on the tile unit against float64, within the contract's bound."""
    exact, exact_grads = run(make(case, cell), "avx512", keep=keep)
    output, grads = run(make(case, cell, np.float32), "amx", threads, keep)
    assert_close(output.y, exact.y, 2e-6, "y")
    for a, e in zip(states_of(output.final), states_of(exact.final), strict=True):
        assert_close(a, e, 2e-6, "final")
    assert_same_gradients(grads, exact_grads, 1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("keep", ["gates", "states"])
@pytest.mark.parametrize("name", SIZES)
def test_sizes(cell, name, keep, threads):
    check(SIZES[name], cell, keep, threads)


@pytest.mark.parametrize("name", [n for n in SMALL if n not in ("B1", "H1", "all1")])
def test_options(cell, name):
    check(SMALL[name]._replace(B=41, I=40, H=56), cell, threads=2)


def test_errors_are_those_of_fma(cell):
    """Six products of parts lose nothing against one float32 product; sums round less often."""
    case = Case(T=6, B=64, I=300, H=500)
    exact, exact_grads = run(make(case, cell), "avx512")
    error = {}
    for isa in ("avx512", "amx"):
        output, grads = run(make(case, cell, np.float32), isa)
        found = [output.y - exact.y, grads.dx - exact_grads.dx]
        found.append(grads.weights.recurrent_kernel - exact_grads.weights.recurrent_kernel)
        error[isa] = [float(np.sqrt(np.mean(np.square(f)))) for f in found]
    for amx, fma in zip(error["amx"], error["avx512"], strict=True):
        assert amx <= 1.1 * fma


@pytest.mark.parametrize("name", ["below", "above", "few_rows", "one_row", "three_rows", "chunks"])
def test_the_same_bits_for_any_number_of_threads(cell, name):
    problem = make(SIZES[name], cell, np.float32)
    found = []
    for threads in (1, 2, 3):
        output, grads = run(problem, "amx", threads)
        arrays = [output.y, *states_of(output.final), *gradients_of(problem, grads).values()]
        found.append(arrays)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("where", ["x", "weights", "gradient"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_what_does_not_split_goes_to_fma(cell, value, where):
    problem = make(Case(T=3, B=32, I=32, H=64), cell, np.float32)
    if where == "x":
        problem.x[1, 3, 5] = value
    if where == "weights":
        problem.weights.recurrent_kernel[3, 5] = value
    results = []
    for isa in ("amx", "avx512"):
        best = _runtime.isa()
        try:
            _runtime._set_isa(isa)
            with use_backend("cython"), np.errstate(all="ignore"):
                output, saved = forward(problem)
                d = upstream(output)
                if where == "gradient":
                    d.y[1, 3, 5] = value
                results.append((output, rnn_backward(d, saved)))
        finally:
            _runtime._set_isa(best)
    (a, da), (b, db) = results
    for name, x, y in [
        ("y", a.y, b.y),
        ("dx", da.dx, db.dx),
        ("kernel", da.weights.kernel, db.weights.kernel),
        ("recurrent_kernel", da.weights.recurrent_kernel, db.weights.recurrent_kernel),
    ]:
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y), err_msg=name)
        np.testing.assert_array_equal(np.isinf(x), np.isinf(y), err_msg=name)
        finite = np.isfinite(x)
        assert_close(x[finite], np.float64(y[finite]), 1e-5, name)
