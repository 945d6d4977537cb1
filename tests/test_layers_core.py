"""Dense, embedding, dropout, masking, shape layers: values, gradients, shapes, errors."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, ops
from fastnn.ops.dense import dense_backward_into
from fastnn.parameters import FlatParameters


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid", "softmax", "gelu", "elu"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_gradients(backend, rng, activation, use_bias):
    layer = layers.Dense(4, activation, use_bias)
    assert fastnn.gradcheck(layer, rng.normal(size=(3, 5))) <= 1e-7
    assert fastnn.gradcheck(layer, rng.normal(size=(2, 3, 5))) <= 1e-7


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_activation_gradients(backend, rng, activation):
    x = rng.uniform(0.1, 2.5, (3, 6)) * rng.choice((-1, 1), (3, 6))
    assert fastnn.gradcheck(layers.Activation(activation), x) <= 1e-7


def test_dense_is_the_formula(backend, rng):
    layer = layers.Dense(3, "relu")
    x = rng.normal(size=(2, 4, 5)).astype("float32")
    y = layer(x)
    expected = np.maximum(x @ layer.kernel + layer.bias, 0)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape((None, 4, 5)) == (None, 4, 3)
    assert layer.count_params() == 18


def test_logits_leave_the_activation_out(backend, rng):
    x = rng.normal(size=(4, 5)).astype("float32")
    for activation in ("softmax", "sigmoid"):
        layer = layers.Dense(3, activation)
        logits = layer(x, training=True, logits=True)
        np.testing.assert_allclose(logits, x @ layer.kernel + layer.bias, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            ops.activation_forward(logits, activation)[0], layer(x), rtol=1e-5, atol=1e-6
        )


def test_embedding(backend, rng):
    layer = layers.Embedding(7, 3, mask_zero=True)
    x = np.array([[1, 4, 0], [6, 1, 0]], np.int32)
    y = layer(x, training=True)
    np.testing.assert_array_equal(y, layer.embeddings[x])
    np.testing.assert_array_equal(layer.compute_mask(x, None), x != 0)
    dy = rng.normal(size=y.shape).astype("float32")
    assert layer.backward(dy) is None
    expected = np.zeros((7, 3), "float32")
    np.add.at(expected, x, dy)
    np.testing.assert_allclose(layer.gradients[0], expected, rtol=1e-6)
    assert layer.compute_output_shape((None, 3)) == (None, 3, 3)
    assert layers.Embedding(7, 3).compute_mask(x, None) is None
    fastnn.gradcheck(layer, x)


def test_embedding_refuses_other_inputs(backend):
    layer = layers.Embedding(7, 3)
    with pytest.raises(ValueError, match=r"0 <= indices < 7"):
        layer(np.array([[7]]))
    with pytest.raises(TypeError, match="integers"):
        layer(np.array([[1.0]]))


def test_masking(backend, rng):
    layer = layers.Masking(2.0)
    x = rng.normal(size=(2, 3, 2)).astype("float32")
    x[0, 1] = 2.0
    x[1, 2, 0] = 2.0  # one feature of two: not masked
    y = layer(x, training=True)
    expected = np.array([[True, False, True], [True, True, True]])
    np.testing.assert_array_equal(layer.compute_mask(x, None), expected)
    np.testing.assert_array_equal(y, np.where(expected[..., None], x, 0))
    dx = layer.backward(np.ones_like(x))
    np.testing.assert_array_equal(dx[..., 0], expected)


def test_dropout_noise(backend):
    x = np.ones((40, 50), "float32")
    layer = layers.Dropout(0.25, seed=3)
    assert layer(x) is x
    first, second = layer(x, training=True), layer(x, training=True)
    assert not np.array_equal(first, second)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.03
    again = layers.Dropout(0.25, seed=3)
    np.testing.assert_array_equal(again(x, training=True), first)
    np.testing.assert_array_equal(again(x, training=True), second)
    np.testing.assert_array_equal(again.backward(x), second)


def test_dropout_noise_shape(backend):
    y = layers.Dropout(0.5, noise_shape=(None, 1, 4), seed=0)(np.ones((3, 5, 4)), training=True)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert 0 < np.count_nonzero(y) < y.size


def test_dropout_gradients(backend, rng):
    assert fastnn.gradcheck(layers.Dropout(0.4), rng.normal(size=(5, 6))) <= 1e-7


def test_flatten_and_reshape(backend, rng):
    x = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    flat = layers.Flatten()
    assert flat(x, training=True).shape == (2, 60)
    np.testing.assert_array_equal(flat.backward(x.reshape(2, 60)), x)
    first = layers.Flatten("channels_first")
    np.testing.assert_array_equal(first(x), x.transpose(0, 2, 3, 1).reshape(2, 60))
    fastnn.gradcheck(first, x)
    assert layers.Flatten()(np.ones((0, 3, 4))).shape == (0, 12)
    assert layers.Flatten()(np.ones(3)).shape == (3, 1)
    reshape = layers.Reshape((-1, 6))
    assert reshape(x).shape == (2, 10, 6)
    assert reshape.compute_output_shape((None, 3, 4)) == (None, 2, 6)
    assert reshape.compute_output_shape((None, None, 4)) == (None, None, 6)
    fastnn.gradcheck(reshape, x)
    with pytest.raises(ValueError, match="as many elements"):
        layers.Reshape((7, -1))(x)
    with pytest.raises(ValueError, match="as many elements"):
        layers.Reshape((7, 2))(x)


def test_permute_repeat_rescale(backend, rng):
    x = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    np.testing.assert_array_equal(layers.Permute((3, 1, 2))(x), np.transpose(x, (0, 3, 1, 2)))
    np.testing.assert_array_equal(
        layers.RepeatVector(3)(x[:, 0, 0]), np.stack([x[:, 0, 0]] * 3, axis=1)
    )
    scaled = layers.Rescaling([1, 2, 3, 4, 5], 0.5)(x)
    np.testing.assert_allclose(scaled, x * np.arange(1, 6) + 0.5, rtol=1e-5, atol=1e-6)
    pixels = np.array([[0, 255]], np.uint8)
    np.testing.assert_array_equal(layers.Rescaling(1 / 255)(pixels), [[0, 1]])
    for layer, shape in (
        (layers.Permute((3, 1, 2)), (2, 3, 4, 5)),
        (layers.RepeatVector(3), (2, 4)),
        (layers.Rescaling([1, 2], 3), (3, 2)),
    ):
        assert fastnn.gradcheck(layer, rng.normal(size=shape), samples=None) <= 1e-7


def test_lambda(backend, rng):
    x = rng.normal(size=(3, 4))
    square = layers.Lambda(np.square, gradient=lambda dy, x, y: dy * 2 * x)
    assert fastnn.gradcheck(square, x) <= 1e-7
    plain = layers.Lambda(lambda x: x[:, :2], output_shape=(2,))
    assert plain.compute_output_shape((None, 4)) == (None, 2)
    assert plain(x, training=True).shape == (3, 2)
    np.testing.assert_array_equal(plain.backward(np.ones((3, 2), "float32")), [[1, 1, 0, 0]] * 3)
    assert layers.Lambda(np.square, output_shape=lambda s: (s[0], 9)).compute_output_shape(
        (None, 1)
    ) == (None, 9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dense(0), "units"),
        (lambda: layers.Dense(2.5), "units"),
        (lambda: layers.Dense(2, "swoosh"), "activation"),
        (lambda: layers.Dense(2, kernel_initializer="nope"), "nope"),
        (lambda: layers.Dense(2).build((None, None)), "features"),
        (lambda: layers.Dense(2)(np.float32(3)), "features"),
        (lambda: layers.Dropout(1.0), "rate"),
        (lambda: layers.Dropout(-0.1), "rate"),
        (lambda: layers.Dropout(0.1, seed=-1), "seed"),
        (lambda: layers.Embedding(0, 3), "input_dim"),
        (lambda: layers.Reshape((0, 2)), "target_shape"),
        (lambda: layers.Flatten("channels_middle"), "channels_middle"),
        (lambda: layers.Lambda(3), "function"),
        (lambda: layers.Permute((1, 3)), "dims"),
        (lambda: layers.Permute((2, 1))(np.ones((2, 3))), "dimensions"),
        (lambda: layers.RepeatVector(0), "n is"),
        (lambda: layers.RepeatVector(2)(np.ones((2, 3, 4))), "features"),
        (lambda: layers.Rescaling("a"), "scale"),
        (lambda: layers.Rescaling([1, 2])(np.ones((2, 3))), "last axis"),
        (lambda: layers.Dense(2, dtype="int8"), "dtype"),
        (lambda: layers.Dense(2)(np.array([["a"]])), "dtype"),
    ],
)
def test_errors_say_what_is_needed(make, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        make()


@pytest.mark.parametrize("use_bias", [True, False])
def test_gradients_of_a_dense_layer_are_written_in_place(backend, rng, use_bias):
    """Bound to a model's flat buffer, or not: the same gradients, in the buffer."""
    x = rng.normal(size=(30, 17)).astype(np.float32)
    dy = rng.normal(size=(30, 21)).astype(np.float32)
    layer = layers.Dense(21, activation="relu", use_bias=use_bias)
    layer(x, training=True)
    dx = layer.backward(dy)
    expected = [np.array(g) for g in layer.gradients]
    flat = FlatParameters([layer])
    for _ in range(2):
        flat.gradients[0][...] = 7
        layer(x, training=True)
        np.testing.assert_array_equal(layer.backward(dy), dx)
        assert all(g is view for g, view in zip(layer.gradients, flat.gradient_views, strict=True))
        np.testing.assert_array_equal(
            flat.gradients[0], np.concatenate([g.ravel() for g in expected])
        )


def test_arrays_for_gradients_that_do_not_fit_are_left_alone(rng):
    x, kernel, dy = (rng.normal(size=s).astype(np.float32) for s in [(9, 5), (5, 7), (9, 7)])
    with fastnn.use_backend("cython"):
        saved = ops.dense_forward(x, kernel, np.zeros(7, np.float32))[1]
    expected = ops.dense_backward(dy, saved)
    wrong = [np.zeros((7, 5), np.float32), np.zeros((5, 7)), np.zeros((5, 14), np.float32)[:, ::2]]
    for place in [*wrong, np.zeros((5, 7), np.float32)[::-1]]:
        grads = dense_backward_into(dy, saved, (place, None))
        assert grads.dkernel is not place and not place.any()
        for one, two in zip(grads, expected, strict=True):
            np.testing.assert_array_equal(one, two)
    place = np.full((5, 7), 3, np.float32), np.full(7, 3, np.float32)
    grads = dense_backward_into(dy, saved, place)
    assert grads.dkernel is place[0] and grads.dbias is place[1]
    np.testing.assert_array_equal(place[0], expected.dkernel)
    np.testing.assert_array_equal(place[1], expected.dbias)
