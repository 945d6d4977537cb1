"""Two-dimensional convolution, against the definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from conv_cases import CASES, arrays_of, case_of, definition
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

import fastnn
from fastnn import use_backend


@case_of
@format_of
def test_forward_is_the_definition(backend, case, data_format, rng):
    x, kernel, bias = arrays_of(case, rng)
    y, saved = fastnn.conv2d_forward(
        to_format(x, data_format), kernel, bias, data_format=data_format, **case.options()
    )
    expected = definition(x, kernel, bias, saved.window, case.groups)
    assert_close(y, to_format(expected, data_format), np.float64)
    assert saved.backend == backend and saved.y is y


@case_of
@format_of
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
def test_agrees_with_the_reference(backend, dtype, case, data_format, activation, rng):
    x, kernel, bias = arrays_of(case, rng, dtype)
    # Sums of size 1: of a saturated tanh, 1 - y^2 has few digits left.
    kernel /= kernel.dtype.type(np.sqrt(np.prod(case.kernel[:3])))
    dy = rng.standard_normal(10**5).astype(dtype)

    def run(x, kernel, bias, dy):
        y, saved = fastnn.conv2d_forward(
            x, kernel, bias, data_format=data_format, activation=activation, **case.options()
        )
        return y, *fastnn.conv2d_backward(dy[: y.size].reshape(y.shape), saved)

    assert_close_to_reference(run, (to_format(x, data_format), kernel, bias, dy))


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
@format_of
def test_gradients_by_central_differences(backend, activation, data_format, rng):
    case = CASES["smallest"]
    x, *weights = arrays_of(case, rng)

    def run(x, kernel, bias):
        y, saved = fastnn.conv2d_forward(
            x, kernel, bias, data_format=data_format, activation=activation, **case.options()
        )
        return y, lambda dy: fastnn.conv2d_backward(dy, saved)

    check_gradients(run, [to_format(x, data_format), *weights], full=True)


@case_of
@format_of
def test_gradients_in_a_direction(backend, case, data_format, rng):
    x, *weights = arrays_of(case, rng)

    def run(x, kernel, bias):
        y, saved = fastnn.conv2d_forward(
            x, kernel, bias, data_format=data_format, activation="tanh", **case.options()
        )
        return y, lambda dy: fastnn.conv2d_backward(dy, saved)

    check_gradients(run, [to_format(x, data_format), *weights], full=False)


@case_of
def test_backward_is_the_adjoint(backend, case, rng):
    x, kernel, _ = arrays_of(case, rng)
    y, saved = fastnn.conv2d_forward(x, kernel, **case.options())
    dy = rng.standard_normal(y.shape)
    grads = fastnn.conv2d_backward(dy, saved)
    inner = (y * dy).sum()
    scale = np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs((x * grads.dx).sum() - inner) <= 1e-13 * scale
    assert abs((kernel * grads.dkernel).sum() - inner) <= 1e-13 * scale
    assert grads.dbias is None


@format_of
def test_memory_layouts(backend, dtype, data_format, rng):
    case = CASES["groups"]
    x, kernel, bias = arrays_of(case, rng, dtype)
    x = to_format(x, data_format)
    y, _ = fastnn.conv2d_forward(x, kernel, bias, data_format=data_format, **case.options())
    dy = rng.standard_normal(y.shape).astype(dtype)

    def run(x, kernel, bias, dy):
        y, saved = fastnn.conv2d_forward(
            x, kernel, bias, data_format=data_format, activation="tanh", **case.options()
        )
        return y, *fastnn.conv2d_backward(dy, saved)

    same_on_every_layout(run, [x, kernel, bias, dy])


def test_forward_here_backward_there(two_backends, dtype, rng):
    first, second = two_backends
    x, kernel, bias = arrays_of(CASES["3x3"], rng, dtype)
    with use_backend(first):
        y, saved = fastnn.conv2d_forward(x, kernel, bias, padding="same", activation="tanh")
    here = fastnn.conv2d_backward(y, saved)
    there = fastnn.conv2d_backward(y, saved._replace(backend=second))
    for one, other in zip(here, there, strict=True):
        assert_close(one, other, dtype)


@format_of
def test_empty_batch(backend, dtype, data_format):
    x = to_format(np.zeros((0, 5, 6, 2), dtype), data_format)
    kernel, bias = np.ones((3, 3, 2, 4), dtype), np.ones(4, dtype)
    y, saved = fastnn.conv2d_forward(x, kernel, bias, data_format=data_format)
    assert y.dtype == dtype
    assert y.shape == ((0, 3, 4, 4) if data_format == "channels_last" else (0, 4, 3, 4))
    grads = fastnn.conv2d_backward(y, saved)
    assert grads.dx.shape == x.shape
    assert grads.dkernel.shape == kernel.shape and not grads.dkernel.any()
    assert grads.dbias.shape == bias.shape and not grads.dbias.any()


def test_nan_and_infinity_stay_where_they_reach(backend, dtype):
    x = np.ones((1, 4, 4, 1), dtype)
    x[0, 0, 0, 0], x[0, 3, 3, 0] = np.nan, np.inf
    y, _ = fastnn.conv2d_forward(x, np.ones((2, 2, 1, 1), dtype))
    expected = np.full((3, 3), 4.0)
    expected[0, 0], expected[2, 2] = np.nan, np.inf
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


# --------------------------------------------------------------------------- geometry at random


@given(data=st.data())
def test_any_geometry(backend, data):
    def size(low, high):
        return data.draw(st.integers(low, high))

    groups, inner, each = size(1, 3), size(1, 3), size(1, 3)
    kernel_size, dilation = (size(1, 4), size(1, 4)), (size(1, 2), size(1, 3))
    padding = ((size(0, 3), size(0, 3)), (size(0, 3), size(0, 3)))
    image = [
        size(max(1, (k - 1) * d + 1 - sum(p)), 9)
        for k, d, p in zip(kernel_size, dilation, padding, strict=True)
    ]
    strides = (size(1, 5), size(1, 5))
    rng = np.random.default_rng(size(0, 99))
    x = rng.standard_normal((size(1, 3), *image, groups * inner))
    kernel = rng.standard_normal((*kernel_size, inner, groups * each))
    y, saved = fastnn.conv2d_forward(
        x, kernel, strides=strides, padding=padding, dilation=dilation, groups=groups
    )
    assert relative_error(y, definition(x, kernel, 0.0, saved.window, groups)) <= 1e-13
    dy = rng.standard_normal(y.shape)
    grads = fastnn.conv2d_backward(dy, saved)
    inner_product = (y * dy).sum()
    bound = 1e-12 * np.linalg.norm(x) * np.linalg.norm(kernel) * np.linalg.norm(dy)
    assert abs((x * grads.dx).sum() - inner_product) <= bound
    assert abs((kernel * grads.dkernel).sum() - inner_product) <= bound


@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 6),
    wide=st.integers(1, 3),
)
def test_same_padding_is_tensorflows(size, kernel, stride, wide):
    x = np.zeros((1, size, size, 1))
    y, saved = fastnn.conv2d_forward(
        x, np.zeros((kernel, kernel, 1, 1)), strides=stride, dilation=wide, padding="same"
    )
    assert y.shape[1:3] == (-(-size // stride),) * 2
    before, after = saved.window.padding[0]
    assert 0 <= after - before <= 1
    span = (kernel - 1) * wide + 1
    assert before + after == max((y.shape[1] - 1) * stride + span - size, 0)
