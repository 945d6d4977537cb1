"""Stochastic pooling: the draw by the running sum, the weighted sum, values at the limits."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_close, format_of, to_format
from pool_cases import backward, case_of, output_shape, run_pool, windows

import fastnn
from fastnn import use_backend


@case_of
@format_of
def test_stochastic_draws_by_the_running_sum(backend, dtype, case, data_format, rng):
    x = np.maximum(rng.standard_normal(case.x), 0).astype(dtype)
    x[:, : case.x[1] // 2] = 0  # windows of zeros
    y, saved = run_pool(
        "stochastic", to_format(x, data_format), case, data_format, training=True, seed=2**63 + 5
    )
    u = fastnn.random_uniform(y.shape, seed=2**63 + 5, stream=5, dtype=dtype.name)
    if data_format == "channels_first":
        u = u.transpose(0, 2, 3, 1)
    expected = np.empty(u.shape)
    taken = np.empty(u.shape, int)
    for at, cells, offsets in windows(x, saved.window):
        running = np.cumsum(cells)
        k = int((running > u[at] * running[-1]).argmax())  # nothing is above 0 * 0: the first
        expected[at], taken[at] = cells[k], offsets[k]
    np.testing.assert_array_equal(y, to_format(expected, data_format))
    np.testing.assert_array_equal(saved.offsets, to_format(taken, data_format))
    assert saved.x is None
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = backward(saved)(dy, saved)
    inner = np.vdot(y.astype(np.float64), dy)
    bound = 1e-6 * np.linalg.norm(y) * np.linalg.norm(dy) + 1e-30
    assert abs(np.vdot(to_format(x, data_format).astype(np.float64), dx) - inner) <= bound


@case_of
@format_of
def test_stochastic_at_inference_is_the_weighted_sum(backend, case, data_format, rng):
    x = np.maximum(rng.standard_normal(case.x), 0)
    x[:, : case.x[1] // 2] = 0
    y, saved = run_pool("stochastic", to_format(x, data_format), case, data_format)
    expected = np.empty(output_shape(x, saved.window))
    for at, cells, _ in windows(x, saved.window):
        expected[at] = (cells**2).sum() / cells.sum() if cells.any() else 0
    assert_close(y, to_format(expected, data_format), np.float64)
    assert saved.offsets is None


def test_stochastic_frequencies(backend):
    cells = np.array([1.0, 0.0, 4.0, 5.0], np.float32)
    x = np.broadcast_to(cells.reshape(1, 2, 2, 1), (1, 2, 2, 40000))
    y, _ = fastnn.stochastic_pool2d_forward(x, pool_size=2, training=True, seed=3)
    for value in cells:
        share = (y == value).mean()
        p = value / 10
        assert abs(share - p) <= 4 * np.sqrt(p * (1 - p) / 40000)  # four standard deviations


def test_stochastic_draws_alike_in_both_dtypes_and_on_all_backends(two_backends, rng):
    x = np.maximum(rng.standard_normal((2, 9, 9, 3)), 0).astype(np.float32)
    results = []
    for name in two_backends:
        with use_backend(name):
            y, saved = fastnn.stochastic_pool2d_forward(x, pool_size=3, training=True, seed=11)
            results.append((y, saved.offsets))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("pool", [2, 40])
def test_stochastic_with_a_value_that_is_not_finite_draws_it(
    backend, dtype, bad, data_format, pool
):
    x = np.ones((1, pool, pool, 8), dtype)
    x[0, 1, 0] = bad
    if bad is np.nan:
        x[0, 1, 1] = bad  # the first of two
    if data_format == "channels_first":
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    options = {"pool_size": pool, "data_format": data_format}
    y, saved = fastnn.stochastic_pool2d_forward(x, **options, training=True, seed=1)
    np.testing.assert_array_equal(y, np.full_like(y, bad))
    assert (saved.offsets == pool).all()
    y, _ = fastnn.stochastic_pool2d_forward(x, **options)
    assert not np.isfinite(y).any()


def test_stochastic_of_large_values_does_not_overflow(backend):
    x = np.full((1, 2, 2, 1), 1e38, np.float32)
    x[0, 0, 0, 0] = 0
    y, _ = fastnn.stochastic_pool2d_forward(x, pool_size=2)
    np.testing.assert_allclose(y, 1e38, rtol=1e-6)


def test_stochastic_refuses(backend):
    x = np.ones((1, 4, 4, 1))
    with pytest.raises(ValueError, match="training without a seed; an integer seed is needed"):
        fastnn.stochastic_pool2d_forward(x, pool_size=2, training=True)
    with pytest.raises(ValueError, match="seed is -1; 0 <= seed"):
        fastnn.stochastic_pool2d_forward(x, pool_size=2, training=True, seed=-1)
    x[0, 3, 3, 0] = -1e-300
    x[0, 0, 0, 0] = np.nan
    for training in (False, True):
        with pytest.raises(ValueError, match="x has negative values; values of at least 0"):
            fastnn.stochastic_pool2d_forward(x, pool_size=2, training=training, seed=1)
