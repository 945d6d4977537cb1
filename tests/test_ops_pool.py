"""Pooling of every kind: the average by definition, gradients, layouts, backends, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_close_to_reference,
    check_gradients,
    format_of,
    relative_error,
    same_on_every_layout,
    to_format,
)
from hypothesis import given
from hypothesis import strategies as st
from pool_cases import (
    CASES,
    KINDS,
    Case,
    backward,
    case_of,
    distinct,
    kind_of,
    output_shape,
    run_pool,
    windows,
)

import fastnn
from fastnn import use_backend


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
