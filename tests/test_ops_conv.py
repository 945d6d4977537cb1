"""Convolution and its column form, against the definition written out."""

from __future__ import annotations

from typing import Any, NamedTuple

import conftest
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
    kernel: tuple[int, int, int, int]  # kh kw C/groups O
    strides: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    groups: int = 1

    def options(self) -> dict[str, Any]:
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }


CASES = {
    "smallest": Case((2, 3, 3, 2), (2, 2, 2, 2)),
    "one pixel": Case((1, 1, 1, 1), (1, 1, 1, 1)),
    "3x3": Case((2, 6, 7, 3), (3, 3, 3, 5), padding="same"),
    "1x1": Case((2, 4, 5, 8), (1, 1, 8, 3)),
    "primes": Case((3, 7, 11, 5), (3, 2, 5, 7), strides=(2, 3), padding="same"),
    "stride over window": Case((2, 8, 9, 2), (2, 2, 2, 3), strides=3),
    "asymmetric padding": Case((2, 4, 5, 2), (3, 2, 2, 3), padding=((0, 2), (1, 0))),
    "integer padding": Case((1, 3, 4, 2), (3, 3, 2, 2), padding=2, strides=2),
    "dilation": Case((2, 7, 8, 3), (3, 2, 3, 4), dilation=(2, 3), padding="same"),
    "groups": Case((2, 5, 5, 6), (3, 3, 3, 4), groups=2, padding="same"),
    "depthwise": Case((2, 5, 6, 5), (3, 3, 1, 5), groups=5),
    "depthwise twice": Case((2, 5, 6, 3), (2, 3, 1, 6), groups=3, strides=2),
    "whole image": Case((2, 5, 4, 3), (5, 4, 3, 2)),
    "many channels": Case((2, 5, 5, 37), (3, 3, 37, 35), padding="same"),
    "one channel": Case((2, 9, 9, 1), (5, 5, 1, 17)),
}
case_of = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
format_of = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def to_format(x: np.ndarray, data_format: str) -> np.ndarray:
    return x if data_format == "channels_last" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def arrays_of(case: Case, rng: np.random.Generator, dtype: Any = np.float64) -> list[np.ndarray]:
    shapes = (case.x, case.kernel, (case.kernel[3],))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def definition(x, kernel, bias, window, groups):
    """Cross-correlation pixel by pixel, channels last."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw) = window
    b, h, w, _ = x.shape
    inner, outputs = kernel.shape[2:]
    each = outputs // groups
    oh = (h + top + bottom - (kh - 1) * dh - 1) // sh + 1
    ow = (w + left + right - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((b, oh, ow, outputs)) + bias
    for r, c, i, j, o in np.ndindex(oh, ow, kh, kw, outputs):
        row, column = r * sh + i * dh - top, c * sw + j * dw - left
        if 0 <= row < h and 0 <= column < w:
            first = (o // each) * inner
            y[:, r, c, o] += x[:, row, column, first : first + inner] @ kernel[i, j, :, o]
    return y


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


# --------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("x_shape", "filter_size", "stride", "pad"),
    [
        ((2, 3, 4, 5), (2, 3), 1, 0),
        ((1, 1, 1, 1), (1, 1), 1, 0),
        ((2, 2, 5, 7), (3, 2), (2, 3), 1),
        ((3, 1, 4, 4), (2, 2), 3, ((0, 2), (1, 0))),
        ((2, 2, 5, 5), (3, 3), 2, "same"),
        ((0, 2, 3, 3), (2, 2), 1, 0),
    ],
)
def test_im2col_is_the_definition_and_col2im_its_adjoint(
    backend, dtype, x_shape, filter_size, stride, pad, rng
):
    x = rng.standard_normal(x_shape).astype(dtype)
    cols = fastnn.im2col(x, *filter_size, stride, pad)
    kh, kw = filter_size
    # Each column is a convolution with a kernel that picks one cell of one channel.
    pick = np.zeros((kh, kw, x_shape[1], x_shape[1] * kh * kw))
    for column, (c, i, j) in enumerate(np.ndindex(x_shape[1], kh, kw)):
        pick[i, j, c, column] = 1
    with use_backend("numpy"):
        images = x.astype(np.float64).transpose(0, 2, 3, 1)
        _, saved = fastnn.conv2d_forward(images, pick, strides=stride, padding=pad)
    expected = definition(images, pick, np.zeros(pick.shape[3]), saved.window, 1)
    assert cols.dtype == dtype
    np.testing.assert_array_equal(cols, expected.reshape(-1, pick.shape[3]))

    dcols = rng.standard_normal(cols.shape).astype(dtype)
    dx = fastnn.col2im(dcols, x_shape, *filter_size, stride, pad)
    assert dx.shape == x_shape and dx.dtype == dtype
    inner = np.vdot(cols.astype(np.float64), dcols)
    bound = 1e-6 * np.linalg.norm(cols) * np.linalg.norm(dcols)
    assert abs(np.vdot(x.astype(np.float64), dx) - inner) <= bound


def test_column_memory_layouts(backend, dtype, rng):
    x = rng.standard_normal((2, 3, 5, 4)).astype(dtype)
    same_on_every_layout(lambda x: [fastnn.im2col(x, 2, 3, 1, 1)], [x])
    cols = rng.standard_normal((2 * 6 * 4, 3 * 6)).astype(dtype)
    same_on_every_layout(lambda c: [fastnn.col2im(c, (2, 3, 5, 4), 2, 3, 1, 1)], [cols])


# --------------------------------------------------------------------------- one dimension


@pytest.mark.parametrize("padding", ["valid", "same", "causal", 1, (2, 0)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_conv1d(backend, padding, data_format, rng):
    x = rng.standard_normal((2, 9, 4))
    kernel, bias = rng.standard_normal((3, 2, 6)), rng.standard_normal(6)
    given_x = x if data_format == "channels_last" else np.ascontiguousarray(x.transpose(0, 2, 1))

    def run(x, kernel, bias):
        y, saved = fastnn.conv1d_forward(
            x,
            kernel,
            bias,
            strides=2,
            padding=padding,
            groups=2,
            data_format=data_format,
            activation="tanh",
        )
        return y, lambda dy: fastnn.conv1d_backward(dy, saved)

    left, right = {
        "valid": (0, 0),
        "same": (1, 1),
        "causal": (2, 0),
        1: (1, 1),
        (2, 0): (2, 0),
    }[padding]
    padded = np.pad(x, ((0, 0), (left, right), (0, 0)))
    steps = (9 + left + right - 3) // 2 + 1
    expected = np.zeros((2, steps, 6)) + bias
    for t, k, o in np.ndindex(steps, 3, 6):
        group = o // 3
        expected[:, t, o] += padded[:, 2 * t + k, 2 * group : 2 * group + 2] @ kernel[k, :, o]
    expected = np.tanh(expected)
    y = run(given_x, kernel, bias)[0]
    assert_close(y if data_format == "channels_last" else y.transpose(0, 2, 1), expected, y.dtype)
    check_gradients(run, [given_x, kernel, bias], full=True)


def test_causal_with_dilation_sees_no_future(backend, rng):
    x, kernel = rng.standard_normal((1, 12, 2)), rng.standard_normal((3, 2, 3))
    y, _ = fastnn.conv1d_forward(x, kernel, padding="causal", dilation=2)
    x[0, 7:] = 0
    changed, _ = fastnn.conv1d_forward(x, kernel, padding="causal", dilation=2)
    assert y.shape == (1, 12, 3)
    np.testing.assert_array_equal(y[0, :7], changed[0, :7])
    assert (y[0, 7] != changed[0, 7]).all()


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


# --------------------------------------------------------------------------- bad input


def f(*shape: int) -> np.ndarray:
    return np.zeros(shape)


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((f(4, 4, 2), f(2, 2, 2, 3)), {}, ValueError, r"x is float64 \[4, 4, 2\]; \[B, h, w, C\]"),
        ((f(1, 4, 4, 2), f(2, 2, 3)), {}, ValueError, r"\[kh, kw, C/groups, O\] is needed"),
        ((f(1, 4, 4, 2).astype(int), f(2, 2, 2, 3)), {}, TypeError, "int64.*float32 or float64"),
        ((f(1, 4, 4, 2).astype("f2"), f(2, 2, 2, 3)), {}, TypeError, "float16"),
        ((f(1, 4, 4, 2).astype(">f8"), f(2, 2, 2, 3)), {}, TypeError, ">f8"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3).astype("f")), {}, TypeError, "one dtype is needed"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3), f(3).astype("f")), {}, TypeError, "bias is float32"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3), f(4)), {}, ValueError, r"the shape \[3\] is needed"),
        ((f(1, 4, 4, 2), f(2, 2, 3, 3)), {}, ValueError, "2 channels in x, kernel .* 1 groups"),
        ((f(1, 4, 4, 4), f(2, 2, 2, 3)), {"groups": 2}, ValueError, "O a multiple of groups"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"groups": 0}, ValueError, "1 <= groups"),
        ((f(1, 4, 4, 0), f(2, 2, 0, 3)), {}, ValueError, "axes of at least 1"),
        ((f(1, 0, 4, 2), f(2, 2, 2, 3)), {}, ValueError, "only the batch may be empty"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 0)), {}, ValueError, "axes of at least 1"),
        ((f(1, 4, 4, 2), f(5, 2, 2, 3)), {}, ValueError, "window of 5 .* padded to 4, .* height"),
        ((f(1, 4, 4, 2), f(2, 3, 2, 3)), {"dilation": 2}, ValueError, "window of 5 .* width"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"strides": 0}, ValueError, "strides is 0; 1 <= strides"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"strides": 1.5}, TypeError, "an integer is needed"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"strides": (1, 2, 3)}, ValueError, "integer or a pair"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"strides": True}, TypeError, "an integer is needed"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"dilation": -1}, ValueError, "1 <= dilation"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"padding": -1}, ValueError, "0 <= padding"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"padding": 2**40}, ValueError, "padding <= 2147483647"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"padding": "full"}, ValueError, "'valid', 'same'"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"padding": (1, 1)}, ValueError, "pairs"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"data_format": "NHWC"}, ValueError, "channels_first"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"activation": "softmax"}, ValueError, "relu, tanh"),
        (([[1.0]], f(2, 2, 2, 3)), {}, TypeError, "x is a list"),
        ((f(1, 4, 4, 2), f(2, 2, 2, 3)), {"padding": 2**31 - 1}, ValueError, r"2\*\*60"),
    ],
)
def test_conv2d_refuses(backend, arrays, options, error, message):
    with pytest.raises(error, match=r"^\[conv2d_forward\] .*" + message):
        fastnn.conv2d_forward(*arrays, **options)


def test_conv2d_backward_refuses(backend):
    y, saved = fastnn.conv2d_forward(f(1, 4, 4, 2), f(2, 2, 2, 3))
    with pytest.raises(
        ValueError, match=r"^\[conv2d_backward\] dy is float64 \[1, 3, 3, 2\]; the out"
    ):
        fastnn.conv2d_backward(f(1, 3, 3, 2), saved)
    with pytest.raises(TypeError, match="dy is float32"):
        fastnn.conv2d_backward(y.astype("f"), saved)
    with pytest.raises(TypeError, match="dy is a list"):
        fastnn.conv2d_backward(y.tolist(), saved)
    with pytest.raises(TypeError, match="saved is a tuple; the ConvSaved"):
        fastnn.conv2d_backward(y, tuple(saved))


def test_conv1d_refuses(backend):
    with pytest.raises(ValueError, match=r"^\[conv1d_forward\] x is float64 \[4, 2\]; \[B, L, C\]"):
        fastnn.conv1d_forward(f(4, 2), f(2, 2, 3))
    with pytest.raises(ValueError, match=r"^\[conv1d_forward\] kernel .*\[k, C/groups, O\]"):
        fastnn.conv1d_forward(f(1, 4, 2), f(1, 2, 2, 3))
    with pytest.raises(TypeError, match=r"^\[conv1d_forward\] strides is \(1, 1\); an integer"):
        fastnn.conv1d_forward(f(1, 4, 2), f(2, 2, 3), strides=(1, 1))
    _, saved = fastnn.conv2d_forward(f(1, 4, 4, 2), f(2, 2, 2, 3))
    with pytest.raises(ValueError, match="saved is of a two-dimensional call"):
        fastnn.conv1d_backward(f(1, 3, 3), saved)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastnn.im2col(f(4, 4), 2, 2), ValueError, r"\[im2col\] .*\[B, C, h, w\]"),
        (lambda: fastnn.im2col(f(1, 2, 4, 4), 0, 2), ValueError, r"\[im2col\] filter_h is 0"),
        (lambda: fastnn.im2col(f(1, 2, 4, 4), 5, 2), ValueError, r"\[im2col\] a window of 5"),
        (lambda: fastnn.im2col(f(1, 2, 4, 4), 2, 2, 0), ValueError, r"\[im2col\] strides is 0"),
        (lambda: fastnn.col2im(f(9, 7), (1, 2, 4, 4), 2, 2), ValueError, r"the shape \[9, 8\]"),
        (lambda: fastnn.col2im(f(9, 8), (2, 4, 4), 2, 2), ValueError, r"\(B, C, h, w\) is needed"),
        (lambda: fastnn.col2im(f(9), (1, 2, 4, 4), 2, 2), ValueError, r"\[B\*oh\*ow, C\*fh\*fw\]"),
    ],
)
def test_columns_refuse(backend, call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_array_that_is_not_aligned_is_refused(backend):
    if backend in conftest.DEVICES:
        pytest.skip("an array on a device is always aligned")
    packed = np.zeros((1, 4, 4, 1), dtype=[("flag", "i1"), ("value", "f8")])["value"]
    with pytest.raises(ValueError, match=r"x is not aligned in memory"):
        fastnn.conv2d_forward(packed, f(2, 2, 1, 1))
    with pytest.raises(ValueError, match=r"dy is not aligned in memory"):
        fastnn.conv2d_backward(packed, fastnn.conv2d_forward(f(1, 4, 4, 1), f(1, 1, 1, 1))[1])
