"""What every layer does: names, casts, weights, copies, configurations, errors."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import layers
from fastnn.registry import deserialize, serialize

SEQUENCE, IMAGE = (2, 6, 4), (2, 6, 5, 4)
EVERY_LAYER = [
    (lambda **k: layers.Dense(3, "softmax", **k), SEQUENCE),
    (lambda **k: layers.Activation("relu", **k), SEQUENCE),
    (lambda **k: layers.Dropout(0.3, seed=1, **k), SEQUENCE),
    (lambda **k: layers.Flatten(**k), IMAGE),
    (lambda **k: layers.Reshape((4, -1), **k), SEQUENCE),
    (lambda **k: layers.Permute((2, 1), **k), SEQUENCE),
    (lambda **k: layers.Permute((3, 1, 2), **k), IMAGE),
    (lambda **k: layers.RepeatVector(4, **k), (3, 5)),
    (lambda **k: layers.Rescaling(1 / 255, -0.5, **k), IMAGE),
    (lambda **k: layers.Rescaling([0.5] * SEQUENCE[-1], [1.0] * SEQUENCE[-1], **k), SEQUENCE),
    (lambda **k: layers.Masking(0.5, **k), SEQUENCE),
    (lambda **k: layers.Conv1D(3, 2, padding="causal", dilation_rate=2, **k), SEQUENCE),
    (lambda **k: layers.Conv2D(4, (3, 2), strides=2, padding="same", groups=2, **k), IMAGE),
    (lambda **k: layers.DepthwiseConv2D(2, depth_multiplier=2, activation="tanh", **k), IMAGE),
    (lambda **k: layers.MaxPooling1D(3, 2, "same", **k), SEQUENCE),
    (lambda **k: layers.MaxPooling2D((3, 2), 1, **k), IMAGE),
    (lambda **k: layers.AveragePooling1D(count_include_pad=True, padding=1, **k), SEQUENCE),
    (lambda **k: layers.AveragePooling2D(2, padding="same", **k), IMAGE),
    (lambda **k: layers.StochasticPooling1D(2, seed=4, **k), SEQUENCE),
    (lambda **k: layers.StochasticPooling2D(2, seed=4, **k), IMAGE),
    (lambda **k: layers.GlobalMaxPooling1D(keepdims=True, **k), SEQUENCE),
    (lambda **k: layers.GlobalMaxPooling2D(**k), IMAGE),
    (lambda **k: layers.GlobalAveragePooling1D(**k), SEQUENCE),
    (lambda **k: layers.GlobalAveragePooling2D(data_format="channels_first", **k), IMAGE),
    (lambda **k: layers.SimpleRNN(3, "relu", go_backwards=True, **k), SEQUENCE),
    (lambda **k: layers.LSTM(3, return_sequences=True, zoneout=(0.1, 0.2), seed=2, **k), SEQUENCE),
    (lambda **k: layers.GRU(3, reset_after=False, recurrent_dropout=0.2, seed=2, **k), SEQUENCE),
    (lambda **k: layers.Bidirectional(layers.GRU(3, **k), "sum"), SEQUENCE),
    (lambda **k: layers.TimeDistributed(layers.Dense(3, **k)), SEQUENCE),
]
IDS = [f"{make().__class__.__name__}-{i}" for i, (make, _) in enumerate(EVERY_LAYER)]
every_layer = pytest.mark.parametrize(("make", "shape"), EVERY_LAYER, ids=IDS)


def test_every_layer_is_here():
    tested = {type(make()) for make, _ in EVERY_LAYER}
    # These have tests of their own: integers, functions, no computation, and several inputs
    # (test_functional.py).
    assert set(layers.TABLE.classes.values()) - tested == {
        layers.Embedding,
        layers.Lambda,
        layers.InputLayer,
        layers.Add,
        layers.Average,
        layers.Concatenate,
        layers.Multiply,
    }


@every_layer
def test_output_shape_dtype_and_rebuild(backend, rng, make, shape):
    x = np.abs(rng.normal(size=shape)).astype("float32")
    layer = make()
    y = layer(x, training=True)
    assert y.shape == layer.compute_output_shape(shape) and y.dtype == np.float32
    unknown = layer.compute_output_shape((None, *shape[1:]))
    assert unknown == (None, *y.shape[1:])
    dx = layer.backward(np.ones_like(y))
    assert dx.shape == x.shape and dx.dtype == np.float32
    assert [g.shape for g in layer.gradients] == [w.shape for w in layer.weights]

    again = deserialize(json.loads(json.dumps(serialize(layer))), layers.TABLE)
    assert again.get_config() == layer.get_config()
    again.build(shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x, training=True), y)  # the same seed: the same noise


@every_layer
def test_empty_batch(backend, make, shape):
    layer = make()
    x = np.ones((0, *shape[1:]), "float32")
    y = layer(x, training=True)
    assert y.shape == layer.compute_output_shape(x.shape)
    assert layer.backward(y).shape == x.shape
    assert all(not np.any(g) for g in layer.gradients)


@every_layer
def test_inputs_are_not_changed(backend, rng, make, shape):
    x = np.abs(rng.normal(size=shape)).astype("float32")
    x.setflags(write=False)
    before = x.copy()
    layer = make()
    y = layer(x, training=True)
    dy = rng.normal(size=y.shape).astype("float32")
    dy.setflags(write=False)
    layer.backward(dy)
    np.testing.assert_array_equal(x, before)


@every_layer
def test_backward_needs_a_call_in_training(make, shape):
    layer = make()
    with pytest.raises(RuntimeError, match="before a call; a call with training=True is needed"):
        layer.backward(np.ones(shape, "float32"))
    layer(np.ones(shape, "float32"))
    with pytest.raises(RuntimeError, match="after training=False; a call with training=True"):
        layer.backward(np.ones(shape, "float32"))


@every_layer
def test_float64(backend, rng, make, shape):
    layer = make(dtype="float64")
    x = np.abs(rng.normal(size=shape))
    assert layer(x, training=True).dtype == np.float64
    assert layer.dtype == "float64" and all(w.dtype == np.float64 for w in layer.weights)


def test_other_dtypes_are_cast():
    layer = layers.Dense(2)
    for dtype in (np.uint8, np.int64, np.float16, np.float64, bool):
        assert layer(np.ones((3, 4), dtype)).dtype == np.float32
    assert layer([[1, 2, 3, 4]]).shape == (1, 2)
    with pytest.raises(TypeError, match=r"\[dense.*complex128.*needed"):
        layer(np.ones((3, 4), complex))


def test_names():
    a, b = layers.MaxPooling2D(), layers.MaxPooling2D()
    assert a.name != b.name and b.name.startswith("max_pooling2d_")
    assert layers.Dense(1, name="head").name == "head"
    assert "head" in repr(layers.Dense(1, name="head"))


def test_weights_are_attributes_and_missing_ones_are_not():
    layer = layers.Dense(2)
    with pytest.raises(AttributeError, match="kernel"):
        _ = layer.kernel
    layer.build((None, 3))
    assert layer.kernel is layer.weights[0]


def test_set_weights_copies_and_checks():
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="before the layer is built"):
        layer.set_weights([])
    with pytest.raises(ValueError, match="before the layer is built"):
        layer.count_params()
    layer.build((None, 3))
    kernel = layer.kernel
    given = np.ones((3, 2))
    layer.set_weights([given, np.zeros(2)])
    given[:] = 7
    assert kernel is layer.kernel and np.all(kernel == 1)
    layer.get_weights()[0][:] = 9
    assert np.all(layer.kernel == 1)
    with pytest.raises(ValueError, match="1 weights; 2 are needed"):
        layer.set_weights([given])
    with pytest.raises(ValueError, match=r"weight 1 has shape \(3,\); \(2,\) is needed"):
        layer.set_weights([given, np.ones(3)])
    assert np.all(layer.kernel == 1)  # nothing was changed


def test_copies_and_pickles_are_independent(rng):
    layer = layers.LSTM(3)
    x = rng.normal(size=SEQUENCE).astype("float32")
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.kernel[:] = 0
        with pytest.raises(RuntimeError, match="training=True"):
            other.backward(y)
    np.testing.assert_array_equal(layer(x), y)


def test_seeds(rng):
    fastnn.set_random_seed(5)
    first = layers.Dense(3, kernel_initializer="he_normal")
    first.build((None, 4))
    fastnn.set_random_seed(5)
    second = layers.Dense(3, kernel_initializer="he_normal")
    second.build((None, 4))
    third = layers.Dense(3, kernel_initializer="he_normal")
    third.build((None, 4))
    np.testing.assert_array_equal(first.kernel, second.kernel)
    assert not np.array_equal(second.kernel, third.kernel)
    with pytest.raises(ValueError, match=r"\[set_random_seed\] seed=-1"):
        fastnn.set_random_seed(-1)


def test_a_layer_of_ones_own(rng):
    class Scale(layers.Layer):
        """y = x * scale."""

        config_fields = ("start",)

        def __init__(self, start=1.0, **kwargs):
            super().__init__(**kwargs)
            self.start = start

        def create_weights(self, input_shape):
            self.add_weight("scale", (input_shape[-1],), lambda shape: np.full(shape, self.start))

        def forward(self, x, training):
            return x * self.scale, x

        def vjp(self, dy, saved):
            self.set_gradient("scale", (dy * saved).sum(axis=0))
            return dy * self.scale

    assert fastnn.gradcheck(Scale(1.5), rng.normal(size=(3, 4))) <= 1e-7
    again = deserialize(serialize(Scale(1.5)), layers.TABLE, {"Scale": Scale})
    assert again.start == 1.5


def test_unknown_class_is_told_by_name():
    with pytest.raises(ValueError, match=r"'LTSM' is not a known layer \(did you mean 'LSTM'"):
        layers.TABLE.find("LTSM")
    with pytest.raises(ValueError, match="class_name and config"):
        deserialize({"name": "x"}, layers.TABLE)
