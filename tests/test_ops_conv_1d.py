"""Convolution along one axis: paddings of a sequence, the causal one among them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_close, check_gradients

import fastnn


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
