"""Backward passes without the gradient of their input: the other gradients keep their bits."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import RnnOutput, RnnWeights, layers


def normal(rng, dtype, *sizes):
    return [rng.normal(size=size).astype(dtype) for size in sizes]


def rnn(cell):
    def make(rng, dtype):
        columns = {"simple_rnn": 1, "lstm": 4, "gru": 3}[cell] * 6
        x, *weights = normal(rng, dtype, (5, 4, 3), (3, columns), (6, columns), (columns,))
        output, saved = fastnn.rnn_forward(x, RnnWeights(*weights), cell=cell)
        d = RnnOutput(rng.normal(size=output.y.shape).astype(dtype))
        return lambda **kw: fastnn.rnn_backward(d, saved, **kw)

    return make


def conv2d(rng, dtype):
    x, kernel, bias = normal(rng, dtype, (2, 7, 6, 3), (3, 2, 3, 5), (5,))
    y, saved = fastnn.conv2d_forward(x, kernel, bias, strides=2)
    dy = rng.normal(size=y.shape).astype(dtype)
    return lambda **kw: fastnn.conv2d_backward(dy, saved, **kw)


def conv1d(rng, dtype):
    x, kernel, bias = normal(rng, dtype, (2, 9, 3), (3, 3, 5), (5,))
    y, saved = fastnn.conv1d_forward(x, kernel, bias)
    dy = rng.normal(size=y.shape).astype(dtype)
    return lambda **kw: fastnn.conv1d_backward(dy, saved, **kw)


def dense(batch):
    def make(rng, dtype):
        x, kernel, bias = normal(rng, dtype, (batch, 7), (7, 5), (5,))
        y, saved = fastnn.dense_forward(x, kernel, bias, activation="tanh")
        dy = rng.normal(size=y.shape).astype(dtype)
        return lambda **kw: fastnn.dense_backward(dy, saved, **kw)

    return make


def leaves(grads):
    """The arrays of a record of gradients, dx left out."""
    for value in grads[1:]:
        yield from value if isinstance(value, tuple) else [value]


@pytest.mark.parametrize(
    "make",
    [rnn("simple_rnn"), rnn("lstm"), rnn("gru"), conv2d, conv1d, dense(2), dense(40)],
    ids=["simple_rnn", "lstm", "gru", "conv2d", "conv1d", "dense_few", "dense"],
)
def test_operations(make, backend, dtype, rng):
    backward = make(rng, dtype)
    whole, part = backward(), backward(need_dx=False)
    assert whole.dx is not None and part.dx is None
    for a, b in zip(leaves(whole), leaves(part), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "first",
    [
        lambda: [layers.SimpleRNN(5)],
        lambda: [layers.Bidirectional(layers.LSTM(5))],
        lambda: [layers.Activation("tanh"), layers.Reshape((4, 3, 1)), layers.Conv2D(2, 2)],
    ],
    ids=["rnn", "bidirectional", "conv_behind_others"],
)
def test_training_does_not_ask_for_the_gradient_of_the_data(first, backend, rng):
    """A step with it and a step without leave the same weights."""
    x = rng.normal(size=(8, 4, 3)).astype("float32")
    labels = rng.integers(0, 3, 8)
    results = []
    for whole in (False, True):
        fastnn.set_random_seed(3)
        model = fastnn.Sequential([*first(), layers.Flatten(), layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        seen = []

        def backward(dy, model=model, whole=whole, seen=seen, plain=model.backward):
            assert not model.need_dx
            model.need_dx = whole
            seen.append(plain(dy))
            return seen[-1]

        model.backward = backward
        model.train_on_batch(x, labels)
        assert model.need_dx and all(layer.need_dx for layer in model.layers)
        assert (seen[0] is not None) == whole
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
