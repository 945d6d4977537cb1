"""Convolution layers: gradients with every option, layouts, errors."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, ops

CONV2D = [
    {},
    {"padding": "same", "strides": 2},
    {"padding": "SAME", "kernel_size": (2, 3)},
    {"padding": 1, "strides": (1, 2)},
    {"padding": ((0, 2), (1, 0))},
    {"dilation_rate": (2, 1)},
    {"groups": 2, "activation": "tanh"},
    {"groups": 4, "activation": "sigmoid"},
    {"activation": "softmax", "use_bias": False},
    {"data_format": "channels_first", "padding": "same", "strides": 2},
]


@pytest.mark.parametrize("options", CONV2D, ids=str)
def test_conv2d(backend, rng, options):
    options = {"filters": 4, "kernel_size": 3} | options
    layer = layers.Conv2D(**options)
    shape = (2, 4, 6, 5) if "data_format" in options else (2, 6, 5, 4)
    x = rng.normal(size=shape)
    assert fastnn.gradcheck(layer, x, samples=60) <= 1e-7
    assert layer(x).shape == layer.compute_output_shape(shape)


@pytest.mark.parametrize("size", range(3, 9))
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same", 1, (2, 0), "causal"])
def test_conv1d_output_shape(size, strides, padding):
    layer = layers.Conv1D(2, 3, strides, padding)
    shape = layer.compute_output_shape((2, size, 4))
    assert layer(np.ones((2, size, 4))).shape == shape
    assert layer.compute_output_shape((None, None, 4)) == (None, None, 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "causal", "dilation_rate": 2},
        {"padding": (0, 2), "strides": 2},
        {"padding": "same", "groups": 2, "activation": "elu"},
        {"data_format": "channels_first", "activation": "tanh"},
    ],
    ids=str,
)
def test_conv1d(backend, rng, options):
    layer = layers.Conv1D(**({"filters": 4, "kernel_size": 3} | options))
    shape = (2, 4, 7) if "data_format" in options else (2, 7, 4)
    x = rng.normal(size=shape)
    assert fastnn.gradcheck(layer, x, samples=60) <= 1e-7
    assert layer(x).shape == layer.compute_output_shape(shape)


def test_causal_sees_no_future(backend, rng):
    layer = layers.Conv1D(2, 3, padding="causal", dilation_rate=2)
    x = rng.normal(size=(1, 9, 3)).astype("float32")
    later = x.copy()
    later[:, 6:] = 5
    np.testing.assert_array_equal(layer(x)[:, :6], layer(later)[:, :6])
    assert np.any(layer(x)[:, 6:] != layer(later)[:, 6:])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth_multiplier": 3, "strides": 2},
        {"padding": "same", "dilation_rate": 2, "activation": "tanh"},
        {"data_format": "channels_first", "depth_multiplier": 2, "use_bias": False},
    ],
    ids=str,
)
def test_depthwise(backend, rng, options):
    layer = layers.DepthwiseConv2D(**({"kernel_size": 2} | options))
    shape = (2, 3, 6, 5) if "data_format" in options else (2, 6, 5, 3)
    x = rng.normal(size=shape)
    assert fastnn.gradcheck(layer, x, samples=60) <= 1e-7
    assert layer(x).shape == layer.compute_output_shape(shape)


def test_depthwise_is_a_convolution_of_each_channel(backend, rng):
    layer = layers.DepthwiseConv2D(2, depth_multiplier=3, dtype="float64")
    x = rng.normal(size=(2, 5, 4, 2))
    y = layer(x)
    assert layer.kernel.shape == (2, 2, 2, 3)
    for channel in range(2):
        alone, _ = ops.conv2d_forward(
            x[..., channel : channel + 1], layer.kernel[:, :, channel][:, :, None]
        )
        np.testing.assert_allclose(y[..., 3 * channel : 3 * channel + 3], alone, rtol=1e-12)


def test_initial_weights_have_keras_fans():
    """Glorot's limit counts the window's cells."""
    layer = layers.Conv2D(64, 5)
    layer.build((None, 8, 8, 32))
    limit = (6 / (25 * 32 + 25 * 64)) ** 0.5
    assert 0.99 * limit < np.abs(layer.kernel).max() <= limit
    assert not layer.bias.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Conv2D(0, 3), "filters"),
        (lambda: layers.Conv2D(3, (3, 3, 3)), "kernel_size"),
        (lambda: layers.Conv2D(3, 3, strides=0), "strides"),
        (lambda: layers.Conv2D(3, 3, padding="full"), "padding"),
        (lambda: layers.Conv2D(3, 3, padding="causal"), "padding"),
        (lambda: layers.Conv2D(3, 3, groups=2), "divisible"),
        (lambda: layers.Conv2D(4, 3, groups=2).build((None, 9, 9, 3)), "divisible"),
        (lambda: layers.Conv2D(4, 3).build((None, 9, 9)), "dimensions"),
        (lambda: layers.Conv2D(4, 3).build((None, 9, 9, None)), "channels"),
        (lambda: layers.Conv2D(4, 3, data_format="nchw"), "data_format"),
        (lambda: layers.Conv2D(4, 7)(np.ones((1, 5, 5, 2))), "window"),
        (lambda: layers.Conv2D(4, 7).compute_output_shape((1, 5, 5, 2)), "window"),
        (lambda: layers.Conv1D(4, 3, activation="cosine"), "activation"),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier"),
    ],
)
def test_errors_say_what_is_needed(make, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        make()
