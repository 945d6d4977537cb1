"""Pooling, against the definition written out window by window."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_close_to_reference,
    check_gradients,
    relative_error,
    same_on_every_layout,
)
from hypothesis import given
from hypothesis import strategies as st

import fastnn
from fastnn import use_backend


class Case(NamedTuple):
    x: tuple[int, int, int, int]  # B h w C
    pool_size: Any
    strides: Any = None
    padding: Any = "valid"


CASES = {
    "smallest": Case((2, 4, 4, 2), 2),
    "one pixel": Case((1, 1, 1, 1), 1),
    "overlap": Case((2, 5, 6, 3), 3, 1),
    "same": Case((2, 5, 7, 3), 3, 2, "same"),
    "stride over window": Case((2, 8, 9, 2), 2, 3),
    "pairs": Case((1, 7, 11, 5), (3, 2), (2, 3)),
    "asymmetric padding": Case((2, 4, 5, 3), (3, 2), 2, ((0, 2), (1, 0))),
    "integer padding": Case((3, 5, 5, 1), 3, 2, 1),
    "whole image": Case((2, 5, 4, 3), (5, 4)),
    "more than 256 cells": Case((1, 18, 17, 2), (18, 17), 1, "same"),
    "many channels": Case((2, 6, 6, 37), 2, 2),
    "many channels, overlap": Case((1, 7, 9, 21), 3, 2, 1),
    "20 windows a pixel": Case((1, 6, 6, 19), (5, 4), 1, "same"),
}
case_of = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
format_of = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def run_pool(kind: str, x: Any, case: Case, data_format: str = "channels_last", **more: Any):
    forward = getattr(fastnn, f"{kind}_pool2d_forward")
    options = {"pool_size": case.pool_size, "strides": case.strides, "padding": case.padding}
    return forward(x, data_format=data_format, **options, **more)


def backward(saved: Any):
    return getattr(fastnn, f"{saved.kind}_pool2d_backward")


def to_format(x: np.ndarray, data_format: str) -> np.ndarray:
    return x if data_format == "channels_last" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def windows(x: np.ndarray, window: Any):
    """((b, row, column, c), cells inside the image in row-major order, their offsets)."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), _ = window
    b, h, w, c = x.shape
    oh, ow = (h + top + bottom - kh) // sh + 1, (w + left + right - kw) // sw + 1
    for n, r, s, ch in np.ndindex(b, oh, ow, c):
        cells, offsets = [], []
        for i, j in np.ndindex(kh, kw):
            row, column = r * sh + i - top, s * sw + j - left
            if 0 <= row < h and 0 <= column < w:
                cells.append(x[n, row, column, ch])
                offsets.append(i * kw + j)
        yield (n, r, s, ch), np.array(cells), offsets


def output_shape(x: np.ndarray, window: Any) -> tuple[int, ...]:
    *_, (last, _, _) = windows(x, window)
    return tuple(n + 1 for n in last)


# --------------------------------------------------------------------------- maximum


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


# --------------------------------------------------------------------------- average


@case_of
@format_of
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_average_is_the_definition(backend, case, data_format, count_include_pad, rng):
    x = rng.standard_normal(case.x)
    y, saved = run_pool(
        "avg", to_format(x, data_format), case, data_format, count_include_pad=count_include_pad
    )
    expected = np.empty(output_shape(x, saved.window))
    for at, cells, _ in windows(x, saved.window):
        expected[at] = cells.sum() / (
            np.prod(saved.window.kernel) if count_include_pad else cells.size
        )
    assert_close(y, to_format(expected, data_format), np.float64)
    dy = rng.standard_normal(y.shape)
    dx = backward(saved)(dy, saved)
    bound = 1e-13 * np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs((dx * to_format(x, data_format)).sum() - (y * dy).sum()) <= bound


# --------------------------------------------------------------------------- stochastic


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


# --------------------------------------------------------------------------- all kinds

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "max": ("max", {}),
    "average": ("avg", {}),
    "average over padding": ("avg", {"count_include_pad": True}),
    "stochastic in training": ("stochastic", {"training": True, "seed": 4}),
    "stochastic at inference": ("stochastic", {}),
}
kind_of = pytest.mark.parametrize(("kind", "more"), KINDS.values(), ids=KINDS.keys())


def distinct(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Positive values far enough apart that a small step changes no maximum."""
    return (rng.permutation(np.prod(shape)).reshape(shape) + 1.0) / np.prod(shape)


# A draw has no derivative in the probabilities; its adjoint is tested above.
@pytest.mark.parametrize(
    ("kind", "more"), [kind for kind in KINDS.values() if "training" not in kind[1]]
)
@format_of
@pytest.mark.parametrize("name", ["smallest", "same"])
def test_gradients_by_central_differences(backend, kind, more, data_format, name, rng):
    case = CASES[name]

    def run(x):
        y, saved = run_pool(kind, x, case, data_format, **more)
        return y, lambda dy: [backward(saved)(dy, saved)]

    check_gradients(run, [to_format(distinct(case.x, rng), data_format)], full=name == "smallest")


@case_of
@kind_of
@format_of
def test_agrees_with_the_reference(backend, dtype, case, kind, more, data_format, rng):
    x = to_format(distinct(case.x, rng).astype(dtype), data_format)
    if more.get("training"):  # decided by sums in x's own dtype: compare within it
        y, saved = run_pool(kind, x, case, data_format, **more)
        with use_backend("numpy"):
            expected, reference = run_pool(kind, x, case, data_format, **more)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(saved.offsets, reference.offsets)
        return
    dy = rng.standard_normal(10**4).astype(dtype)

    def run(x, dy):
        y, saved = run_pool(kind, x, case, data_format, **more)
        return y, backward(saved)(dy[: y.size].reshape(y.shape), saved)

    assert_close_to_reference(run, [x, dy])


@kind_of
@format_of
def test_memory_layouts(backend, dtype, kind, more, data_format, rng):
    case = CASES["same"]
    x = to_format(distinct(case.x, rng).astype(dtype), data_format)
    y, _ = run_pool(kind, x, case, data_format, **more)
    dy = rng.standard_normal(y.shape).astype(dtype)

    def run(x, dy):
        y, saved = run_pool(kind, x, case, data_format, **more)
        return y, backward(saved)(dy, saved)

    same_on_every_layout(run, [x, dy])


@kind_of
def test_forward_here_backward_there(two_backends, dtype, kind, more, rng):
    first, second = two_backends
    x = distinct((2, 5, 7, 3), rng).astype(dtype)
    with use_backend(first):
        y, saved = run_pool(kind, x, CASES["same"], **more)
    here = backward(saved)(y, saved)
    there = backward(saved)(y, saved._replace(backend=second))
    assert_close(here, there, dtype)


@kind_of
@format_of
def test_empty_batch(backend, dtype, kind, more, data_format):
    x = to_format(np.zeros((0, 4, 6, 3), dtype), data_format)
    y, saved = run_pool(kind, x, CASES["smallest"], data_format, **more)
    assert y.dtype == dtype
    assert y.shape == ((0, 2, 3, 3) if data_format == "channels_last" else (0, 3, 2, 3))
    dx = backward(saved)(y, saved)
    assert dx.shape == x.shape and dx.dtype == dtype


@pytest.mark.parametrize("kind", ["max", "stochastic"])
def test_keep_false_makes_no_record(backend, kind, rng):
    x = rng.random((1, 4, 4, 2))
    y, saved = run_pool(kind, x, CASES["smallest"], keep=False)
    assert saved is None
    np.testing.assert_array_equal(y, run_pool(kind, x, CASES["smallest"])[0])


@given(data=st.data())
def test_any_geometry(backend, data):
    def size(low, high):
        return data.draw(st.integers(low, high))

    pool = (size(1, 5), size(1, 4))
    padding = tuple((size(0, k - 1), size(0, k - 1)) for k in pool)
    image = [size(max(1, k - sum(p)), 9) for k, p in zip(pool, padding, strict=True)]
    case = Case((size(1, 3), *image, size(1, 4)), pool, (size(1, 6), size(1, 6)), padding)
    x = np.random.default_rng(size(0, 99)).standard_normal(case.x)
    y, saved = run_pool("max", x, case)
    mean, _ = run_pool("avg", x, case)
    for at, cells, offsets in windows(x, saved.window):
        assert y[at] == cells.max() and saved.offsets[at] == offsets[int(cells.argmax())]
        assert abs(mean[at] - cells.mean()) <= 1e-14 * 10
    assert relative_error(backward(saved)(y, saved).sum(), y.sum()) <= 1e-12


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("kind", ["max", "avg", "stochastic"])
@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (np.zeros((4, 4, 1)), {}, ValueError, r"\[B, h, w, C\] is needed"),
        (np.zeros((1, 4, 4, 1), int), {}, TypeError, "float32 or float64"),
        (np.zeros((1, 4, 4, 0)), {}, ValueError, "only the batch may be empty"),
        (np.zeros((1, 4, 4, 1)), {"pool_size": 0}, ValueError, "1 <= pool_size"),
        (np.zeros((1, 4, 4, 1)), {"pool_size": 5}, ValueError, "window of 5 .* padded to 4"),
        (np.zeros((1, 4, 4, 1)), {"strides": 0}, ValueError, "strides is 0"),
        (np.zeros((1, 4, 4, 1)), {"padding": 2}, ValueError, "smaller than the window"),
        (np.zeros((1, 4, 4, 1)), {"padding": "valis"}, ValueError, "'valid', 'same'"),
        (np.zeros((1, 4, 4, 1)), {"data_format": "last"}, ValueError, "channels_last"),
        (None, {}, TypeError, "x is None"),
        (
            np.zeros((1, 2**9, 2**9, 1)),
            {"pool_size": 2**15, "padding": 2**15 - 1, "strides": 1},
            ValueError,
            r"the windows would be .* fewer than 2\*\*60",
        ),
    ],
)
def test_forward_refuses(backend, kind, x, options, error, message):
    forward = getattr(fastnn, f"{kind}_pool2d_forward")
    with pytest.raises(error, match=rf"^\[{kind}_pool2d_forward\] .*{message}"):
        forward(x, **{"pool_size": 2, **options})


def test_max_refuses_other_activations(backend):
    with pytest.raises(ValueError, match="activation is 'tanh'; one of None, linear, relu is need"):
        fastnn.max_pool2d_forward(np.ones((1, 4, 4, 1)), pool_size=2, activation="tanh")


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


def test_backward_refuses(backend):
    x = np.ones((1, 4, 4, 1))
    y, saved = fastnn.max_pool2d_forward(x, pool_size=2)
    with pytest.raises(TypeError, match="saved is of max pooling; the record of avg pooling"):
        fastnn.avg_pool2d_backward(y, saved)
    with pytest.raises(ValueError, match=r"dy is float64 \[1, 4, 4, 1\]; the output's"):
        fastnn.max_pool2d_backward(x, saved)
    _, nothing = fastnn.max_pool2d_forward(x, pool_size=2, keep=False)
    with pytest.raises(TypeError, match=r"saved is None \(the forward call kept nothing\)"):
        fastnn.max_pool2d_backward(y, nothing)
