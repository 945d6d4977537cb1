"""Gates too large for a cache, which are written past it."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import need
from rnn_cases import Case, make

from fastnn import ops, use_backend
from fastnn.types import RnnOutput

# 3 or 4 planes of T B H numbers: at least 17 MB, and at most 11 MB a quarter of them
T, B, I, H = 100, 900, 16, 16


@pytest.mark.parametrize("cell", ["lstm", "gru_after", "gru_before"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_are_saved_and_read_as_others_are(cell, dtype, backend):
    """A part of the batch, whose gates are small, has the same bits."""
    if not backend.startswith("cython"):
        pytest.skip("the other backends have one way")
    problem = make(Case(T=T, B=B, I=I, H=H, initial=False), cell, dtype)
    part = slice(0, B // 4)
    whole, saved = ops.rnn_forward(problem.x, problem.weights, None, **problem.options)
    some, saved_some = ops.rnn_forward(problem.x[:, part], problem.weights, None, **problem.options)
    np.testing.assert_array_equal(whole.y[:, part], some.y)
    np.testing.assert_array_equal(saved.gates_by_row[:, part], saved_some.gates_by_row)
    dy = np.ones_like(whole.y)
    dx = ops.rnn_backward(RnnOutput(dy), saved).dx
    dx_some = ops.rnn_backward(RnnOutput(dy[:, part]), saved_some).dx
    np.testing.assert_array_equal(dx[:, part], dx_some)


def test_they_are_the_reference_s():
    need("cython")
    problem = make(Case(T=T, B=B, I=I, H=H, initial=False), "lstm", "float32")
    found = []
    for name in ("cython", "numpy"):
        with use_backend(name):
            found.append(ops.rnn_forward(problem.x, problem.weights, None, **problem.options)[1])
    np.testing.assert_allclose(found[0].gates_by_row, found[1].gates_by_row, rtol=1e-4, atol=1e-5)
