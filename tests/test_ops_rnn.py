"""The recurrent contract on every backend: values under every option."""

from __future__ import annotations

import numpy as np
import pytest
from rnn_cases import DEEP, Case, Problem, make
from rnn_checks import (
    assert_close,
    assert_same_gradients,
    case_of,
    directional_error,
    forward,
    oracle,
    states_of,
    upstream,
)

from fastnn.dispatch import use_backend
from fastnn.kernels.cells import saved_planes
from fastnn.ops.rnn import rnn_backward, rnn_forward
from fastnn.types import RnnOutput, RnnWeights


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-12), ("float32", 2e-6)])
@case_of
def test_forward_is_the_contract(backend, cell, case, dtype, bound):
    problem = make(case, cell, dtype)
    expected = oracle(problem)
    output, saved = forward(problem)
    assert saved.backend == backend
    assert output.y.dtype == dtype
    assert_close(output.y, expected.y, bound, "y")
    for got, want in zip(
        states_of(output.final), [expected.final_h, expected.final_c], strict=False
    ):
        assert got.dtype == dtype
        assert_close(got, want, bound, "final")
    for got, want in zip(states_of(output.states), [expected.y, expected.c], strict=False):
        assert_close(got, want, bound, "states")
    planes = saved_planes(problem.options["cell"], problem.options.get("reset_after", True))
    if planes == 0:
        assert saved.gates is None
    else:
        gates = saved.gates_by_row
        assert gates.shape == (case.T, case.B, planes, case.H)
        for t, b in np.ndindex(case.T, case.B):
            if expected.gates[t][b] is not None:
                assert_close(gates[t, b], np.array(expected.gates[t][b]), bound, "gates")


@pytest.mark.parametrize("name", DEEP)
def test_float32_stays_near_float64_in_deep_sums(backend, cell, name):
    rounded = make(DEEP[name], cell, np.float32)
    output, saved = forward(rounded)
    exact = Problem(
        np.float64(rounded.x),
        RnnWeights(*(None if w is None else np.float64(w) for w in rounded.weights)),
        tuple(map(np.float64, rounded.initial))
        if isinstance(rounded.initial, tuple)
        else np.float64(rounded.initial),
        rounded.options,
    )
    with use_backend("numpy"):
        expected, expected_saved = forward(exact)
        d = upstream(expected)
        expected_grads = rnn_backward(d, expected_saved)
    assert_close(output.y, expected.y, 2e-6, "y")
    for got, want in zip(states_of(output.final), states_of(expected.final), strict=True):
        assert_close(got, want, 2e-6, "final")
    grads = rnn_backward(upstream(output), saved)
    # d itself is rounded to float32, and BPTT adds 2 T roundings to forward's.
    assert_same_gradients(grads, expected_grads, 1e-5)


@case_of
def test_keep_changes_nothing_but_what_is_saved(backend, cell, case):
    problem = make(case, cell)
    full, saved = forward(problem)
    lean, lean_saved = forward(problem, keep="states")
    none, nothing = forward(problem, keep=None)
    assert nothing is None and none.states is None
    assert lean_saved.gates is None
    for other in (lean, none):
        np.testing.assert_array_equal(other.y, full.y)
        for a, b in zip(states_of(other.final), states_of(full.final), strict=True):
            np.testing.assert_array_equal(a, b)
    d = upstream(full)
    assert_same_gradients(rnn_backward(d, lean_saved), rnn_backward(d, saved), 1e-12)


def test_gates_by_row_serve_as_well(backend, cell):
    output, saved = forward(make(Case(H=21), cell))
    d = upstream(output)
    by_row = saved._replace(gates=saved.gates_by_row)
    assert_same_gradients(rnn_backward(d, by_row), rnn_backward(d, saved), 0)


def test_states_of_h_are_y(backend, cell):
    output, saved = forward(make(Case(), cell))
    assert states_of(output.states)[0] is output.y
    assert saved.y is output.y


@pytest.mark.parametrize("reverse", [False, True])
def test_zoneout_without_seed_is_the_expected_state(backend, cell, reverse):
    case = Case(zoneout=0.3, reverse=reverse, lengths="uneven", mask="random")
    problem = make(case, cell)
    problem.options["seed"] = None
    expected = oracle(problem)
    output, saved = forward(problem, keep=None)
    assert saved is None
    assert_close(output.y, expected.y, 1e-12)
    assert_close(
        states_of(output.final)[-1],
        [expected.final_h, expected.final_c][len(states_of(output.final)) - 1],
        1e-12,
    )


def test_zoneout_rates_of_h_and_c_are_separate(backend):
    for rates in [(0.5, 0.0), (0.0, 0.5), (0.2, 0.7)]:
        problem = make(Case(zoneout=rates), "lstm")
        expected = oracle(problem)
        output, _ = forward(problem)
        assert_close(output.y, expected.y, 1e-12)
        assert_close(output.final[1], expected.final_c, 1e-12)
        assert directional_error(problem) <= 1e-7


def test_noise_depends_on_seed_and_on_nothing_else(backend, cell):
    problem = make(Case(T=4, B=6, H=7, recurrent_dropout=0.5, zoneout=0.3), cell)
    first, _ = forward(problem)
    again, _ = forward(problem, keep=None)
    np.testing.assert_array_equal(first.y, again.y)
    problem.options["seed"] += 2**32  # the high word of the key counts
    other, _ = forward(problem)
    assert not np.array_equal(first.y, other.y)


def test_lengths_are_truncated_runs(backend, cell):
    for reverse in (False, True):
        problem = make(Case(T=6, B=5, lengths="zeros", reverse=reverse), cell)
        output, _ = forward(problem)
        options = {k: v for k, v in problem.options.items() if k != "lengths"}
        for b, length in enumerate(problem.options["lengths"]):
            initial = problem.initial
            initial = (
                tuple(s[b : b + 1] for s in initial)
                if isinstance(initial, tuple)
                else initial[b : b + 1]
            )
            alone, _ = rnn_forward(
                problem.x[:length, b : b + 1], problem.weights, initial, **options
            )
            assert_close(output.y[:length, b], alone.y[:, 0], 1e-13)
            assert not output.y[length:, b].any()
            for a, e in zip(states_of(output.final), states_of(alone.final), strict=True):
                assert_close(a[b], e[0], 1e-13)


def test_resets_are_split_runs(backend, cell):
    for reverse in (False, True):
        problem = make(Case(T=7, B=3, reverse=reverse), cell)
        resets = np.zeros((7, 3), bool)
        resets[3] = True
        output, _ = rnn_forward(
            problem.x, problem.weights, problem.initial, resets=resets, **problem.options
        )
        at = 4 if reverse else 3
        for part in (slice(None, at), slice(at, None)):
            alone, _ = rnn_forward(
                problem.x[part], problem.weights, problem.initial, **problem.options
            )
            assert_close(output.y[part], alone.y, 1e-13)


def test_nothing_is_read_where_no_row_steps(backend, cell):
    """NaN in padding and under the mask reaches neither values nor gradients."""
    problem = make(Case(T=6, B=5, lengths="zeros", mask="random", reverse=True), cell)
    clean, clean_saved = forward(problem)
    lengths, mask = problem.options["lengths"], problem.options["mask"]
    live = np.arange(6)[:, None] < lengths
    dirty = problem.x.copy()
    dirty[~(live & mask)] = np.nan
    output, saved = forward(problem._replace(x=dirty))
    np.testing.assert_array_equal(output.y, clean.y)
    d = upstream(clean)
    d_dirty = RnnOutput(d.y.copy(), d.final, d.states)
    d_dirty.y[~live] = np.nan
    for keep in ("gates", "states"):
        _, saved = forward(problem._replace(x=dirty), keep=keep)
        grads = rnn_backward(d_dirty, saved)
        assert_same_gradients(grads, rnn_backward(d, clean_saved), 1e-13)
        assert not grads.dx[~(live & mask)].any()


def test_nan_and_infinity_pass_through(backend, cell):
    problem = make(Case(T=3, B=3), cell)
    problem.x[1, 0] = np.nan
    problem.x[1, 1] = np.inf
    with np.errstate(all="raise"):
        output, saved = forward(problem)
        grads = rnn_backward(upstream(output), saved)
    assert np.isfinite(output.y[0]).all() and np.isfinite(output.y[:, 2]).all()
    assert np.isnan(output.y[1:, 0]).all()
    assert np.isnan(grads.weights.kernel).any()
    assert np.isfinite(grads.dx[:, 2]).all()


def test_saturated_gates_are_finite(backend, cell):
    if cell == "relu":
        pytest.skip("relu does not saturate")
    problem = make(Case(), cell)
    problem.x[...] = np.where(problem.x > 0, 1e4, -1e4)
    for dtype in (np.float32, np.float64):
        cast = Problem(
            problem.x.astype(dtype),
            RnnWeights(*(None if w is None else w.astype(dtype) for w in problem.weights)),
            None,
            problem.options,
        )
        with np.errstate(all="raise"):
            output, saved = forward(cast)
            grads = rnn_backward(upstream(output), saved)
        assert np.isfinite(output.y).all() and np.isfinite(grads.weights.kernel).all()
