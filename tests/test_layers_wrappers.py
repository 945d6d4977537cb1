"""Bidirectional and TimeDistributed: values by definition, gradients, errors."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers

B, T, I, H = 3, 5, 2, 4
MERGES = ["concat", "sum", "mul", "ave", None]
RIGHT = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
HOLES = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("cell", [layers.SimpleRNN, layers.LSTM, layers.GRU])
@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True}, {"return_state": True}], ids=str
)
def test_gradients(backend, rng, merge, cell, options):
    layer = layers.Bidirectional(cell(H, **options), merge)
    assert fastnn.gradcheck(layer, rng.normal(size=(B, T, I)), samples=20) <= 1e-7


@pytest.mark.parametrize(
    "steps", [{"mask": RIGHT}, {"mask": HOLES}, {"lengths": [5, 2, 0]}], ids=str
)
@pytest.mark.parametrize("sequences", [False, True])
def test_gradients_of_call_arguments(backend, rng, steps, sequences):
    layer = layers.Bidirectional(layers.LSTM(H, return_sequences=sequences))
    initial = [rng.normal(size=(B, H)) for _ in range(4)]
    x = rng.normal(size=(B, T, I))
    assert fastnn.gradcheck(layer, x, samples=20, initial_state=initial, **steps) <= 1e-7


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("sequences", [False, True])
def test_is_two_layers(backend, rng, merge, sequences):
    x = rng.normal(size=(B, T, I))
    layer = layers.Bidirectional(
        layers.GRU(H, return_sequences=sequences, return_state=True, dtype="float64"), merge
    )
    y, *states = layer(x)[:-2], *layer(x)[-2:]
    ahead, ahead_state = layer.forward_layer(x)
    back, back_state = layer.backward_layer(x)
    if sequences:
        back = back[:, ::-1]
    expected = {
        "concat": lambda: np.concatenate((ahead, back), -1),
        "sum": lambda: ahead + back,
        "mul": lambda: ahead * back,
        "ave": lambda: (ahead + back) / 2,
        None: lambda: (ahead, back),
    }[merge]()
    for one, other in zip(y, expected if merge is None else (expected,), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_array_equal(states[0], ahead_state)
    np.testing.assert_array_equal(states[1], back_state)
    shapes = layer.compute_output_shape(x.shape)
    assert [np.shape(o) for o in layer(x)] == list(shapes)


def test_a_padded_row_is_the_row_alone(backend, rng):
    x = rng.normal(size=(B, T, I))
    layer = layers.Bidirectional(layers.LSTM(H, return_sequences=True, dtype="float64"))
    for steps in ({"mask": RIGHT}, {"lengths": RIGHT.sum(axis=1)}):
        y = layer(x, **steps)
        for b, n in enumerate(RIGHT.sum(axis=1)):
            np.testing.assert_allclose(y[b, :n], layer(x[b : b + 1, :n])[0], rtol=1e-9, atol=1e-12)
            assert not y[b, n:].any()


def test_weights_are_forward_then_backward():
    layer = layers.Bidirectional(layers.GRU(H, name="cell"))
    layer.build((None, T, I))
    names = [name for name, _ in layer.named_weights()]
    assert names == [
        f"{direction}_cell.{weight}"
        for direction in ("forward", "backward")
        for weight in ("kernel", "recurrent_kernel", "bias")
    ]
    assert layer.weights[0] is layer.forward_layer.kernel
    assert not np.array_equal(layer.forward_layer.kernel, layer.backward_layer.kernel)


def test_backward_layer_of_ones_own(backend, rng):
    layer = layers.Bidirectional(
        layers.LSTM(H), backward_layer=layers.SimpleRNN(2, go_backwards=True)
    )
    x = rng.normal(size=(B, T, I))
    assert layer(x).shape == (B, H + 2) == layer.compute_output_shape(x.shape)
    assert fastnn.gradcheck(layer, x, samples=20) <= 1e-7


def test_stateful(backend, rng):
    layer = layers.Bidirectional(layers.LSTM(H, stateful=True))
    x = rng.normal(size=(B, T, I))
    first, second = layer(x), layer(x)
    assert not np.array_equal(first, second)
    layer.reset_states()
    np.testing.assert_array_equal(layer(x), first)


@pytest.mark.parametrize(
    ("inner", "shape"),
    [
        (lambda: layers.Dense(3, "softmax"), (2, 4, 5)),
        (lambda: layers.Conv2D(2, 3, activation="tanh"), (2, 3, 5, 4, 1)),
        (lambda: layers.LSTM(3), (2, 3, 4, 2)),
        (lambda: layers.Dropout(0.5), (2, 3, 4)),
        (lambda: layers.TimeDistributed(layers.Dense(2)), (2, 3, 4, 5)),
    ],
)
def test_time_distributed(backend, rng, inner, shape):
    layer = layers.TimeDistributed(inner())
    x = rng.normal(size=shape)
    assert fastnn.gradcheck(layer, x, samples=30) <= 1e-7
    y = layer(x)
    assert y.shape == layer.compute_output_shape(shape)
    np.testing.assert_allclose(y[:, 1], layer.layer(x[:, 1]), rtol=1e-5, atol=1e-6)


def test_time_distributed_embedding(backend):
    layer = layers.TimeDistributed(layers.Embedding(5, 3))
    words = np.array([[[1, 2], [3, 4]]])
    assert layer(words, training=True).shape == (1, 2, 2, 3)
    assert layer.backward(np.ones((1, 2, 2, 3), "float32")) is None


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: layers.Bidirectional(layers.Dense(3)), "layer="),
        (lambda: layers.Bidirectional(layers.LSTM(3), "max"), "merge_mode"),
        (
            lambda: layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3)),
            "go_backwards",
        ),
        (
            lambda: layers.Bidirectional(
                layers.LSTM(3),
                backward_layer=layers.LSTM(3, go_backwards=True, return_sequences=True),
            ),
            "return_sequences",
        ),
        (lambda: layers.TimeDistributed("dense"), "layer="),
        (lambda: layers.TimeDistributed(layers.Dense(3))(np.ones((2, 3))), "time"),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        run()


def test_backward_of_states_needs_a_tuple():
    layer = layers.Bidirectional(layers.LSTM(3, return_state=True))
    y = layer(np.ones((2, 5, 1)), training=True)[0]
    with pytest.raises(ValueError, match="a tuple of 5 gradients"):
        layer.backward(y)
