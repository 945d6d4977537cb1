"""Bad input of convolutions and of columns."""

from __future__ import annotations

import conftest
import numpy as np
import pytest

import fastnn


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
