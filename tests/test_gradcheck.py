"""The gradient check itself: it passes what is right, and tells what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, ops
from fastnn.gradient_check import GradientError
from fastnn.types import RnnWeights


def test_the_name_is_a_function():
    import fastnn.gradient_check

    assert callable(fastnn.gradcheck) and fastnn.gradcheck is fastnn.gradient_check.gradcheck


@pytest.mark.parametrize(
    ("target", "shapes", "options"),
    [
        ("dense", [(3, 4), (4, 2), (2,)], {"activation": "tanh"}),
        ("dense", [(3, 4), (4, 2), None], {}),
        (ops.conv2d_forward, [(2, 5, 5, 2), (3, 3, 2, 3), (3,)], {"padding": "same"}),
        ("conv1d", [(2, 5, 2), (3, 2, 3)], {}),
        ("max_pool2d", [(2, 4, 4, 2)], {"pool_size": 2}),
        ("avg_pool2d", [(2, 4, 4, 2)], {"pool_size": 2}),
        ("activation", [(3, 4)], {"activation": "softmax"}),
        ("dropout", [(3, 4)], {"rate": 0.5, "seed": 1}),
        ("loss", [(3, 4), (3, 4)], {"loss": "mean_squared_error"}),
    ],
)
def test_operations(backend, rng, target, shapes, options):
    arrays = [None if s is None else rng.normal(size=s).astype("float32") for s in shapes]
    before = [None if a is None else a.copy() for a in arrays]
    assert fastnn.gradcheck(target, *arrays, **options) <= 1e-7
    for one, other in zip(arrays, before, strict=True):
        if one is not None:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_recurrent_operation(backend, rng, cell):
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3}[cell]
    weights = RnnWeights(
        rng.normal(size=(2, gates * 3)), rng.normal(size=(3, gates * 3)), rng.normal(size=gates * 3)
    )
    initial = rng.normal(size=(2, 3))
    if cell == "lstm":
        initial = (initial, rng.normal(size=(2, 3)))
    x = rng.normal(size=(4, 2, 2))
    assert fastnn.gradcheck("rnn", x, weights, initial, cell=cell) <= 1e-7
    assert fastnn.gradcheck(ops.rnn_forward, x, weights, None, cell=cell, reverse=True) <= 1e-7


def test_embedding_and_labels(backend, rng):
    assert fastnn.gradcheck("embedding", np.array([[0, 2, 2]]), rng.normal(size=(4, 3))) <= 1e-7
    labels, logits = np.array([0, 2]), rng.normal(size=(2, 3))
    options = {"loss": "sparse_categorical_crossentropy", "from_logits": True}
    assert fastnn.gradcheck("loss", labels, logits, **options) <= 1e-7


class Wrong(layers.Layer):
    """y = 2 x, whose gradient is off by a given factor."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def forward(self, x, training):
        return 2 * x, None

    def vjp(self, dy, saved):
        return 2 * dy * self.factor


@pytest.mark.parametrize("factor", [0.0, 1 + 1e-5, -1.0, np.nan, np.inf])
def test_wrong_gradients_are_told(rng, factor):
    with pytest.raises(GradientError, match=r"wrong.*relative error .*is needed\n  x: error"):
        fastnn.gradcheck(Wrong(factor), rng.normal(size=(3, 4)))


def test_error_is_returned_below_the_tolerance(rng):
    error = fastnn.gradcheck(Wrong(1.01), rng.normal(size=(3, 4)), tolerance=0.1)
    assert error == pytest.approx(0.01 / 1.01, rel=1e-4)
    assert isinstance(error, float)


def test_one_wrong_element_is_found_and_located(rng):
    class OneWrong(layers.Layer):
        def forward(self, x, training):
            return x * 1.0, None

        def vjp(self, dy, saved):
            dx = dy.copy()
            dx[1, 2] += 1
            return dx

    with pytest.raises(GradientError, match=r"worst at \[1, 2\]"):
        fastnn.gradcheck(OneWrong(), rng.normal(size=(3, 4)))


def test_wrong_shape_is_told(rng):
    class Flat(layers.Layer):
        def forward(self, x, training):
            return x, None

        def vjp(self, dy, saved):
            return dy.reshape(-1)

    with pytest.raises(GradientError, match=r"gradient of x has shape \(12,\); \(3, 4\) is needed"):
        fastnn.gradcheck(Flat(), rng.normal(size=(3, 4)))


def test_the_layer_stays_as_it_is(backend, rng):
    layer = layers.LSTM(3, recurrent_dropout=0.3, seed=1, stateful=True)
    x = rng.normal(size=(2, 4, 2)).astype("float32")
    layer(x, training=True)
    before, counter, state = layer.get_weights(), layer.seed_generator.counter, layer.states
    fastnn.gradcheck(layer, x)
    for one, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert layer.dtype == "float32" and layer.seed_generator.counter == counter
    assert layer.states is state


def test_a_whole_model(backend, rng):
    model = fastnn.Sequential(
        [
            layers.Conv1D(3, 2, activation="tanh"),
            layers.Bidirectional(layers.GRU(3, return_sequences=True)),
            layers.Dropout(0.3),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2, "softmax"),
        ]
    )
    assert fastnn.gradcheck(model, rng.normal(size=(2, 5, 2)), samples=30) <= 1e-7


def test_report(rng, capsys):
    fastnn.gradcheck(layers.Dense(2, name="head"), rng.normal(size=(3, 4)), verbose=True, samples=5)
    text = capsys.readouterr().out
    assert text.startswith("[gradcheck] head: relative error ")
    assert "  x: error" in text and "  kernel: error" in text and "5 of 12 elements" in text


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: fastnn.gradcheck("conv3d", np.ones(2)), "conv3d"),
        (lambda: fastnn.gradcheck(np.tanh, np.ones(2)), "neither"),
        (lambda: fastnn.gradcheck(layers.Dense(2)), "0 inputs"),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[gradcheck\].*{message}.*needed"):
        run()
