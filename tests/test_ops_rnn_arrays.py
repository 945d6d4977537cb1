"""Arrays of the recurrent operations: any layout, unchanged, empty; pairs; numbers of threads."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import need
from rnn_cases import LARGE, SMALL, Case, Problem, make
from rnn_checks import (
    assert_close,
    assert_same_gradients,
    forward,
    gradients_of,
    inputs_of,
    states_of,
    upstream,
    with_inputs,
)

from fastnn.dispatch import use_backend
from fastnn.ops.rnn import rnn_backward, rnn_backward_pair, rnn_forward, rnn_forward_pair
from fastnn.threads import use_num_threads
from fastnn.types import RnnOutput


def layouts(problem: Problem):
    """The same problem in other memory."""

    def transposed(a):
        return np.ascontiguousarray(a.T).T

    def strided(a):
        wide = np.full([2 * n + 1 for n in a.shape], np.nan, a.dtype)
        view = wide[tuple(slice(1, 2 * n, 2) for n in a.shape)]
        view[...] = a
        return view

    def backwards(a):
        return np.ascontiguousarray(a[::-1])[::-1]

    for change in (transposed, strided, backwards):
        arrays = {name: change(a) for name, a in inputs_of(problem).items()}
        yield change.__name__, with_inputs(problem, arrays)


def test_any_memory_layout(backend, cell):
    problem = make(Case(T=4, B=5, I=6, H=9, recurrent_bias=True), cell)
    expected, saved = forward(problem)
    d = upstream(expected)
    expected_grads = rnn_backward(d, saved)
    for name, other in layouts(problem):
        for array in inputs_of(other).values():
            array.flags.writeable = False
        output, saved = forward(other)
        assert_close(output.y, expected.y, 1e-13, name)
        wide = np.repeat(d.y, 2, axis=2)[:, :, ::2]
        wide.flags.writeable = False
        assert_same_gradients(rnn_backward(d._replace(y=wide), saved), expected_grads, 1e-12)


def test_y_comes_back_in_the_memory_order_of_x(backend, cell):
    problem = make(Case(T=4, B=5, H=8), cell)
    batch_major = np.ascontiguousarray(problem.x.transpose(1, 0, 2)).transpose(1, 0, 2)
    for x, first in ((problem.x, 0), (batch_major, 1)):
        output, saved = forward(problem._replace(x=x))
        assert output.y.strides[first] == max(output.y.strides)
        dx = rnn_backward(upstream(output), saved).dx
        assert dx.strides[first] == max(dx.strides)


def test_inputs_are_unchanged_and_outputs_fresh(backend, cell):
    problem = make(SMALL["everything"], cell)
    arrays = inputs_of(problem) | {
        name: a for name, a in problem.options.items() if isinstance(a, np.ndarray)
    }
    before = {name: a.copy() for name, a in arrays.items()}
    output, saved = forward(problem)
    d = upstream(output)
    kept = [output.y, *states_of(output.final), *states_of(d.final), d.y]
    kept_before = [a.copy() for a in kept]
    grads = rnn_backward(d, saved)
    again = rnn_backward(d, saved)
    assert_same_gradients(again, grads, 0)
    for name, a in arrays.items():
        np.testing.assert_array_equal(a, before[name], name)
    for a, b in zip(kept, kept_before, strict=True):
        np.testing.assert_array_equal(a, b)
    for result in (output.y, *states_of(output.final), *gradients_of(problem, grads).values()):
        assert result.flags.writeable
        assert not any(np.shares_memory(result, a) for a in arrays.values())


@pytest.mark.parametrize("sizes", [{"T": 0}, {"B": 0}, {"T": 0, "B": 0}])
@pytest.mark.parametrize("keep", ["gates", "states", None])
def test_empty(backend, cell, sizes, keep):
    case = Case(recurrent_bias=True, **sizes)
    for options in ({}, {"reverse": True}, {"recurrent_dropout": 0.5, "zoneout": 0.5, "seed": 1}):
        problem = make(case, cell)
        flags = np.ones((case.T, case.B), bool)
        problem.options.update(options, lengths=[case.T] * case.B, mask=flags, resets=flags)
        output, saved = forward(problem, keep)
        assert output.y.shape == (case.T, case.B, case.H)
        finals = zip(states_of(output.final), states_of(problem.initial), strict=True)
        for final, initial in finals:
            np.testing.assert_array_equal(final, initial)
        if saved is None:
            continue
        d = upstream(output)
        grads = rnn_backward(d, saved)
        assert grads.dx.shape == problem.x.shape
        for g, w in zip(grads.weights, problem.weights, strict=True):
            assert g.shape == w.shape and not g.any()
        for g, df in zip(states_of(grads.initial), states_of(d.final), strict=True):
            np.testing.assert_array_equal(g, df)


@pytest.mark.parametrize("name", ["primes_options", "vectors", "one_row", "many_rows"])
def test_the_same_bits_for_any_number_of_threads(cell, dtype, name):
    need("cython")
    problem = make(LARGE[name], cell, dtype)
    found = []
    for threads in (1, 2, 4):
        with use_backend("cython"), use_num_threads(threads):
            output, saved = forward(problem)
            grads = rnn_backward(upstream(output), saved)
        gradients = gradients_of(problem, grads).values()
        found.append([output.y, *states_of(output.final), *states_of(output.states), *gradients])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("name", ["primes", "primes_options", "vectors"])
def test_a_pair_is_two_calls(backend, cell, name, threads):
    one = make(LARGE[name], cell, np.float32)
    other = make(LARGE[name]._replace(reverse=True, H=29), cell, np.float32, seed=2)
    calls = [
        {"x": p.x, "weights": p.weights, "initial": p.initial, **p.options} for p in (one, other)
    ]
    with use_num_threads(threads):
        alone = [rnn_forward(**call) for call in calls]
        paired = rnn_forward_pair(*calls)
        d = [upstream(output) for output, _ in alone]
        grads = [rnn_backward(d[i], alone[i][1], need_dx=name != "primes") for i in (0, 1)]
        paired_grads = rnn_backward_pair(
            *((d[i], paired[i][1]) for i in (0, 1)), need_dx=name != "primes"
        )
    for (a, _), (b, _), da, db in zip(alone, paired, grads, paired_grads, strict=True):
        arrays = zip(
            [a.y, *states_of(a.final), da.dx, *da.weights, *states_of(da.initial)],
            [b.y, *states_of(b.final), db.dx, *db.weights, *states_of(db.initial)],
            strict=True,
        )
        for x, y in arrays:
            assert (x is None) == (y is None)
            if x is not None:
                np.testing.assert_array_equal(x, y)


def test_a_pair_may_differ_in_dtype(backend):
    one, other = make(Case(), "lstm", np.float32), make(Case(), "tanh", np.float64)
    calls = [{"x": p.x, "weights": p.weights, **p.options} for p in (one, other)]
    (a, _), (b, saved) = rnn_forward_pair(*calls)
    assert a.y.dtype == np.float32 and b.y.dtype == np.float64
    np.testing.assert_array_equal(b.y, rnn_forward(**calls[1])[0].y)
    with pytest.raises(TypeError, match=r"\[rnn_backward\] d_output.y"):
        rnn_backward_pair((RnnOutput(a.y), saved), (RnnOutput(b.y), saved))
