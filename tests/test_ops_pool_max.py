"""Max pooling, against the definition written out window by window; the ReLU fused into it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import check_gradients, format_of, to_format
from pool_cases import CASES, backward, case_of, distinct, output_shape, run_pool, windows

import fastnn


@case_of
@format_of
def test_max_is_the_definition(backend, dtype, case, data_format, rng):
    # Few different values: most windows have a tie, which the first cell wins.
    x = rng.integers(-3, 3, case.x).astype(dtype)
    y, saved = run_pool("max", to_format(x, data_format), case, data_format)
    expected = np.empty(output_shape(x, saved.window))
    taken = np.empty(expected.shape, int)
    for at, cells, offsets in windows(x, saved.window):
        expected[at], taken[at] = cells.max(), offsets[int(cells.argmax())]
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, to_format(expected, data_format))
    np.testing.assert_array_equal(saved.offsets, to_format(taken, data_format))
    assert saved.offsets.dtype == (np.int32 if case.x[1] == 18 else np.uint8)
    assert saved.backend == backend

    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = backward(saved)(dy, saved)
    assert dx.shape == saved.x_shape and dx.dtype == dtype
    # Adjoint: y is linear in x as long as the same cells are taken.
    inner = np.vdot(y.astype(np.float64), dy)
    bound = 1e-6 * np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs(np.vdot(to_format(x, data_format).astype(np.float64), dx) - inner) <= bound


def test_max_takes_the_first_nan_and_never_padding(backend, dtype):
    x = np.full((1, 3, 3, 1), -np.inf, dtype)
    y, saved = fastnn.max_pool2d_forward(x, pool_size=2, strides=1, padding=1)
    assert np.isneginf(y).all()
    # The corner windows: the only cell inside the image is the last, ..., the first.
    assert saved.offsets[0, 0, 0, 0] == 3 and saved.offsets[0, 0, 3, 0] == 2
    assert saved.offsets[0, 3, 0, 0] == 1 and saved.offsets[0, 3, 3, 0] == 0
    dx = fastnn.max_pool2d_backward(np.ones_like(y), saved)
    assert dx.sum() == y.size

    x = np.array([[1, np.inf], [np.nan, np.nan]], dtype).reshape(1, 2, 2, 1)
    y, saved = fastnn.max_pool2d_forward(x, pool_size=2)
    assert np.isnan(y).all() and saved.offsets.item() == 2


@case_of
@format_of
def test_fused_relu_is_a_relu_before_the_pooling(backend, dtype, case, data_format, rng):
    x = to_format(rng.integers(-4, 3, case.x).astype(dtype), data_format)
    x[rng.random(x.shape) < 0.03] = np.nan
    a, before = fastnn.activation_forward(x, "relu")
    expected, saved = run_pool("max", a, case, data_format)
    y, fused = run_pool("max", x, case, data_format, activation="relu")
    np.testing.assert_array_equal(y, expected)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = fastnn.activation_backward(backward(saved)(dy, saved), before)
    np.testing.assert_array_equal(backward(fused)(dy, fused), dx)
    y, nothing = run_pool("max", x, case, data_format, activation="relu", keep=False)
    np.testing.assert_array_equal(y, expected)
    assert nothing is None


@pytest.mark.parametrize(("pool", "offset"), [((15, 17), np.uint8), ((16, 16), np.int32)])
@format_of
def test_fused_relu_needs_one_offset_for_no_cell(backend, data_format, pool, offset):
    cells = pool[0] * pool[1]
    x = to_format(np.arange(cells, dtype="float32").reshape(1, *pool, 1), data_format)
    x = np.concatenate([x, -x])
    y, saved = fastnn.max_pool2d_forward(
        x, pool_size=pool, data_format=data_format, activation="relu"
    )
    assert y.ravel().tolist() == [cells - 1, 0]
    assert saved.offsets.dtype == offset
    assert saved.offsets.ravel().tolist() == [cells - 1, 255 if offset is np.uint8 else -1]
    dx = fastnn.max_pool2d_backward(np.ones_like(y), saved)
    np.testing.assert_array_equal(dx, x == cells - 1)


def test_fused_relu_gradients_by_central_differences(backend, rng):
    def run(x):
        y, saved = run_pool("max", x, CASES["same"], activation="relu")
        return y, lambda dy: [backward(saved)(dy, saved)]

    x = distinct(CASES["same"].x, rng) - 0.502  # none is near the kink at 0
    check_gradients(run, [x], full=False)


def test_max_refuses_other_activations(backend):
    with pytest.raises(ValueError, match="activation is 'tanh'; one of None, linear, relu is need"):
        fastnn.max_pool2d_forward(np.ones((1, 4, 4, 1)), pool_size=2, activation="tanh")
