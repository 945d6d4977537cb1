"""Gradients of the recurrent operations on every backend: by differences, and between backends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rnn_cases import LARGE, SMALL, Case, make
from rnn_checks import (
    assert_close,
    assert_same_gradients,
    case_of,
    directional_error,
    forward,
    gradients_of,
    inputs_of,
    loss,
    oracle,
    states_of,
    upstream,
    with_inputs,
)

from fastnn.dispatch import use_backend
from fastnn.ops.rnn import rnn_backward
from fastnn.types import RnnOutput


@pytest.fixture(params=list(SMALL))
def small(request):
    return SMALL[request.param]


def test_every_gradient_by_central_differences(backend, cell, small):
    problem = make(small, cell)
    output, saved = forward(problem)
    d = upstream(output)
    arrays = inputs_of(problem)
    analytic = gradients_of(problem, rnn_backward(d, saved))
    step = 1e-4
    for name, a in arrays.items():
        numeric = np.zeros(a.shape)
        for at in np.ndindex(a.shape):
            values = []
            for distance in (step, -step, 2 * step, -2 * step):
                moved = a.copy()
                moved[at] += distance
                values.append(
                    loss(forward(with_inputs(problem, arrays | {name: moved}), "states")[0], d)
                )
            numeric[at] = (8 * (values[0] - values[1]) - values[2] + values[3]) / (12 * step)
        assert_close(analytic[name], numeric, 1e-7, name)


@pytest.mark.parametrize("name", LARGE)
def test_gradients_along_a_direction(backend, cell, name):
    problem = make(LARGE[name], cell)
    assert directional_error(problem, step=1e-6 if cell == "relu" else 1e-4) <= 1e-7


PATTERNS = {
    "lengths": ("uneven", "zeros", "all_zero"),
    "mask": ("random", "row", "none"),
    "resets": ("random", "all"),
}


@st.composite
def random_cases(draw):
    """Any sizes with any options together."""
    sizes = [draw(st.integers(1, most)) for most in (6, 19, 21, 37)]
    flags = [draw(st.booleans()) for _ in range(4)]
    patterns = {name: draw(st.sampled_from((None, *p))) for name, p in PATTERNS.items()}
    rates = [draw(st.sampled_from((None, 0.0, 0.3, 0.9))) for _ in range(2)]
    return Case(*sizes, *flags, **patterns, recurrent_dropout=rates[0], zoneout=rates[1])


@given(case=random_cases(), seed=st.integers(0, 2**32))
def test_random_cases(backend, cell, case, seed):
    problem = make(case, cell, seed=seed)
    expected = oracle(problem)
    output, _ = forward(problem)
    assert_close(output.y, expected.y, 1e-12, "y")
    assert_close(states_of(output.final)[0], expected.final_h, 1e-12, "final")
    if cell != "relu":  # whose kinks a random case would meet
        assert directional_error(problem) <= 1e-7


def test_each_upstream_field_may_be_missing(backend, cell):
    problem = make(Case(lengths="zeros"), cell)
    output, saved = forward(problem)
    d = upstream(output)
    whole = rnn_backward(d, saved)
    parts = [RnnOutput(d.y), RnnOutput(None, d.final), RnnOutput(None, None, d.states)]
    if isinstance(d.final, tuple):
        parts[1:] = [
            RnnOutput(None, (d.final[0], None)),
            RnnOutput(None, (None, d.final[1])),
            RnnOutput(None, (None, None), (d.states[0], None)),
            RnnOutput(None, None, (None, d.states[1])),
        ]
    found = [gradients_of(problem, rnn_backward(part, saved)) for part in parts]
    for name, total in gradients_of(problem, whole).items():
        assert_close(sum(f[name] for f in found), total, 1e-13, name)
    nothing = gradients_of(problem, rnn_backward(RnnOutput(None), saved))
    assert all(not g.any() for g in nothing.values())


@case_of
def test_forward_and_backward_on_different_backends(two_backends, cell, case, dtype):
    first, second = two_backends
    problem = make(case, cell, dtype)
    with use_backend(first):
        output, saved = forward(problem)
    d = upstream(output)
    bound = 1e-12 if dtype == np.float64 else 1e-5
    assert_same_gradients(
        rnn_backward(d, saved._replace(backend=second)),
        rnn_backward(d, saved),
        bound,
    )


def test_backward_stays_with_the_saved_backend(backend):
    output, saved = forward(make(Case(), "lstm"))
    with use_backend("numpy"):
        assert saved.backend == backend
        rnn_backward(upstream(output), saved)
