"""A ReLU before max pooling is made by the pooling: less work, the same results."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, ops


class PlainPooling2D(layers.MaxPooling2D):
    """With a forward of its own, which no model adds a ReLU to."""

    def forward(self, x, training):
        return super().forward(x, training)


class PlainPooling1D(layers.MaxPooling1D):
    def forward(self, x, training):
        return super().forward(x, training)


class PlainGlobalPooling2D(layers.GlobalMaxPooling2D):
    def forward(self, x, training):
        return super().forward(x, training)


PLAIN = {
    layers.MaxPooling2D: PlainPooling2D,
    layers.MaxPooling1D: PlainPooling1D,
    layers.GlobalMaxPooling2D: PlainGlobalPooling2D,
}
# Layers up to the pooling, and the pooling with its options.
STACKS = {
    "convolution": (lambda: [layers.Conv2D(5, 3, activation="relu")], layers.MaxPooling2D, {}),
    "overlapping": (
        lambda: [layers.Conv2D(5, 3, activation="relu")],
        layers.MaxPooling2D,
        {"pool_size": 3, "strides": 2, "padding": "same"},
    ),
    "activation layer": (
        lambda: [layers.Conv2D(4, 3), layers.Activation("relu")],
        layers.MaxPooling2D,
        {},
    ),
    "channels first": (
        lambda: [layers.Conv2D(3, 3, data_format="channels_first", activation="relu")],
        layers.MaxPooling2D,
        {"data_format": "channels_first"},
    ),
    "depthwise, global": (
        lambda: [layers.DepthwiseConv2D(3, activation="relu")],
        layers.GlobalMaxPooling2D,
        {},
    ),
    "dense over a sequence": (
        lambda: [layers.Reshape((9, 28)), layers.Dense(6, activation="relu")],
        layers.MaxPooling1D,
        {"pool_size": 3},
    ),
}


def network(name: str, pooling, graph: bool):
    """The stack, its pooling, and a classifier; as a Sequential or a Model."""
    make, _, options = STACKS[name]
    body = [*make(), pooling(**options), layers.Flatten(), layers.Dense(3, activation="softmax")]
    if not graph:
        return fastnn.Sequential([layers.Input((9, 7, 4)), *body])
    x = y = layers.Input((9, 7, 4))
    for layer in body:
        y = layer(y)
    return fastnn.Model(x, y)


def pair(name: str, graph: bool = False):
    """The model with the fused pair and its twin without, with the same weights, compiled."""
    kind = STACKS[name][1]
    fused, plain = network(name, kind, graph), network(name, PLAIN[kind], graph)
    plain.set_weights(fused.get_weights())
    for model in (fused, plain):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return fused, plain


@pytest.fixture
def poolings(monkeypatch):
    """The activations that calls of max pooling were given."""
    seen: list[str | None] = []
    original = ops.max_pool2d_forward

    def spy(*args, **kwargs):
        seen.append(kwargs.get("activation"))
        return original(*args, **kwargs)

    monkeypatch.setattr(ops, "max_pool2d_forward", spy)
    return seen


@pytest.mark.parametrize("graph", [False, True], ids=["Sequential", "Model"])
@pytest.mark.parametrize("name", STACKS)
def test_training_is_the_same(backend, rng, poolings, name, graph):
    fused, plain = pair(name, graph)
    x = rng.normal(size=(13, 9, 7, 4)).astype("float32")
    target = rng.integers(0, 3, 13)
    np.testing.assert_array_equal(fused(x), plain(x))
    assert poolings == ["relu", None]
    dy = rng.normal(size=(13, 3)).astype("float32")
    for model in (fused, plain):
        model(x, training=True)
    np.testing.assert_array_equal(fused.backward(dy), plain.backward(dy))
    for one, other in zip(fused.gradients, plain.gradients, strict=True):
        np.testing.assert_array_equal(one, other)
    options = {"batch_size": 5, "epochs": 2, "verbose": 0, "shuffle": False}
    assert fused.fit(x, target, **options).history == plain.fit(x, target, **options).history
    for one, other in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert fused.evaluate(x, target) == plain.evaluate(x, target)
    np.testing.assert_array_equal(fused.predict(x), plain.predict(x))


def test_what_is_said_and_saved_is_the_same(tmp_path, rng, poolings):
    fused, _ = pair("convolution")
    x = rng.normal(size=(3, 9, 7, 4)).astype("float32")
    before: list[str] = []
    fused.summary(before.append)
    y = fused(x, training=True)
    after: list[str] = []
    fused.summary(after.append)
    assert before == after
    assert fused.get_config()["layers"][1]["config"]["activation"] == "relu"
    fused.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(fastnn.load_model(tmp_path / "model.safetensors")(x), y)
    # A layer called alone is what it says.
    assert fused.layers[1](x).min() == 0


def test_nan_goes_through(backend):
    fused, plain = pair("activation layer")
    x = np.zeros((2, 9, 7, 4), "float32")
    x[0, 4, 4] = np.nan
    y = fused(x)
    assert np.isnan(y[0]).all() and not np.isnan(y[1]).any()
    np.testing.assert_array_equal(y, plain(x))


def test_gradients_by_differences(backend, rng):
    model = fastnn.Sequential(
        [layers.Conv2D(3, 2, activation="relu"), layers.MaxPooling2D(2), layers.Flatten()]
    )
    assert fastnn.gradcheck(model, rng.normal(size=(2, 5, 5, 2)), samples=40) <= 1e-7


def test_a_relu_that_others_read_too_stays(rng, poolings):
    x = layers.Input((6, 6, 2))
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    one, other = layers.MaxPooling2D(2)(a), layers.AveragePooling2D(2)(a)
    model = fastnn.Model(x, layers.Add()([one, other]))
    image = rng.normal(size=(1, 6, 6, 2)).astype("float32")
    y = model(image)
    assert poolings == [None]
    a = model.layers[1](image)
    expected = ops.max_pool2d_forward(a, pool_size=2)[0] + ops.avg_pool2d_forward(a, pool_size=2)[0]
    np.testing.assert_array_equal(y, expected)


def test_only_relu_and_only_the_next_layer(rng, poolings):
    for between in (
        [layers.Conv2D(2, 1, activation="tanh")],
        [layers.Conv2D(2, 1, activation="relu"), layers.Flatten(), layers.Reshape((4, 4, 2))],
        [layers.Conv2D(2, 1, activation="relu"), layers.Dropout(0.5)],
    ):
        model = fastnn.Sequential([*between, layers.MaxPooling2D(2)])
        model(rng.normal(size=(1, 4, 4, 2)).astype("float32"), training=True)
    assert poolings == [None] * 3
