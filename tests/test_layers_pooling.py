"""Pooling layers: values, gradients, noise, masks, errors."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers

KINDS = ["MaxPooling", "AveragePooling", "StochasticPooling"]
WINDOWS = [
    {},
    {"pool_size": 3, "strides": 1},
    {"pool_size": 3, "strides": 2, "padding": "same"},
    {"pool_size": 2, "strides": 3},
    {"pool_size": 2, "padding": 1},
    {"pool_size": 2, "data_format": "channels_first"},
]


def distinct(rng, shape):
    """Positive values no two of which are close: no kinks for differences to meet."""
    return (rng.permutation(int(np.prod(shape))).reshape(shape) + 1.0) / 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", WINDOWS, ids=str)
@pytest.mark.parametrize("rank", [1, 2])
def test_window(backend, rng, kind, options, rank):
    layer = getattr(layers, f"{kind}{rank}D")(**options)
    space = (7, 6)[:rank]
    shape = (2, 3, *space) if "data_format" in options else (2, *space, 3)
    x = distinct(rng, shape)
    assert layer(x).shape == layer.compute_output_shape(shape)
    assert fastnn.gradcheck(layer, x, samples=40) <= 1e-7


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank", [1, 2])
def test_global(backend, rng, kind, keepdims, data_format, rank):
    layer = getattr(layers, f"Global{kind}Pooling{rank}D")(data_format, keepdims, dtype="float64")
    shape = (2, 5, 4, 3)[: rank + 2]
    x = distinct(rng, shape)
    first = 1 if data_format == "channels_last" else 2
    axes = tuple(range(first, first + rank))
    reduce = np.max if kind == "Max" else np.mean
    np.testing.assert_allclose(layer(x), reduce(x, axis=axes, keepdims=keepdims), rtol=1e-12)
    assert layer(x).shape == layer.compute_output_shape(shape)
    assert fastnn.gradcheck(layer, x) <= 1e-7


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_global_average_over_a_mask(backend, rng, data_format):
    layer = layers.GlobalAveragePooling1D(data_format, dtype="float64")
    x = rng.normal(size=(3, 5, 4))
    steps = x if data_format == "channels_last" else x.transpose(0, 2, 1)
    mask = rng.random(steps.shape[:2]) < 0.6
    mask[0], mask[1, 0] = True, True
    expected = [row[kept].mean(axis=0) for row, kept in zip(steps, mask, strict=True)]
    keep = mask.any(axis=1)
    y = layer(x, mask=mask)
    np.testing.assert_allclose(y[keep], np.array(expected)[keep], rtol=1e-12)
    mask[:, 1] = True
    assert fastnn.gradcheck(layer, x, mask=mask) <= 1e-7
    mask[2] = False
    assert np.isnan(layer(x, mask=mask)[2]).all()  # as in Keras
    assert not np.isnan(layer(x, mask=mask)[:2]).any()


def test_counting_padding(backend):
    x = np.ones((1, 2, 2, 1), "float32")
    without = layers.AveragePooling2D(2, 2, padding=1)(x)
    counted = layers.AveragePooling2D(2, 2, padding=1, count_include_pad=True)(x)
    assert np.all(without == 1.0) and np.all(counted == 0.25)


def test_stochastic_noise_is_of_seed_and_call(backend, rng):
    x = rng.random((4, 8, 8, 3)).astype("float32")
    layer = layers.StochasticPooling2D(2, seed=1)
    first, second = layer(x, training=True), layer(x, training=True)
    assert not np.array_equal(first, second)
    again = layers.StochasticPooling2D(2, seed=1)
    np.testing.assert_array_equal(again(x, training=True), first)
    cells = x.reshape(4, 4, 2, 4, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4)
    assert np.all((cells == first.reshape(-1, 1)).any(axis=1))  # each one of its window's
    weighted = (cells**2).sum(axis=1) / cells.sum(axis=1)
    np.testing.assert_allclose(layer(x).reshape(-1), weighted, rtol=1e-5)


def test_stochastic_frequencies(backend):
    x = np.tile(np.array([1.0, 3.0], "float32"), 4000).reshape(4000, 2, 1)
    y = layers.StochasticPooling1D(2, seed=0)(x, training=True)
    assert abs((y == 3).mean() - 0.75) < 0.03


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.MaxPooling2D(0), "pool_size"),
        (lambda: layers.MaxPooling2D((1, 2, 3)), "pool_size"),
        (lambda: layers.MaxPooling1D(2, -1), "strides"),
        (lambda: layers.MaxPooling1D(2, padding="causal"), "padding"),
        (lambda: layers.MaxPooling2D(2, padding="maximal"), "padding"),
        (lambda: layers.MaxPooling2D(2)(np.ones((2, 4, 4))), "dimensions"),
        (lambda: layers.GlobalMaxPooling2D()(np.ones((2, 4, 4))), "dimensions"),
        (lambda: layers.GlobalMaxPooling2D("nchw"), "data_format"),
        (lambda: layers.MaxPooling2D(5)(np.ones((2, 4, 4, 1))), "window"),
        (lambda: layers.StochasticPooling2D(2)(-np.ones((2, 4, 4, 1))), "negative|>= 0"),
    ],
)
def test_errors_say_what_is_needed(make, message):
    with pytest.raises(ValueError, match=rf"^\[.*({message}).*needed"):
        make()
