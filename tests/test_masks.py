"""Padding changes nothing: outputs, losses, metrics and gradients, through every kind of stack."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers

STEPS, EXTRA, WORDS = 5, 4, 9


def words_with_gaps(rng):
    """Rows of different lengths, one of them with a gap, one of a single word."""
    words = rng.integers(1, WORDS, (6, STEPS))
    words[1, 3:] = words[2, 1:] = words[3, 2] = words[4, 4:] = 0
    return words


def embedded(*stack, **options):
    return fastnn.Sequential(
        [layers.Embedding(WORDS, 3, mask_zero=True, dtype="float64"), *stack], **options
    )


def double(cell, units, **options):
    return cell(units, dtype="float64", **options)


def question_network():
    """Recurrent dropout too: its masks are of the sequence, not of its steps."""
    rates = {"dropout": 0.3, "recurrent_dropout": 0.2, "output_dropout": 0.4, "seed": 5}
    return embedded(
        layers.Bidirectional(double(layers.LSTM, 4, return_sequences=True, **rates)),
        layers.Dropout(0.0, dtype="float64"),
        layers.Bidirectional(double(layers.LSTM, 3)),
        layers.Dense(4, "relu", dtype="float64"),
        layers.Dense(1, "sigmoid", dtype="float64"),
    )


def pooled():
    return embedded(
        double(layers.GRU, 4, return_sequences=True),
        layers.TimeDistributed(layers.Dense(3, "tanh", dtype="float64")),
        layers.Activation("relu", dtype="float64"),
        layers.GlobalAveragePooling1D(dtype="float64"),
        layers.Dense(1, "sigmoid", dtype="float64"),
    )


def stacked_backwards():
    return embedded(
        double(layers.SimpleRNN, 4, return_sequences=True),
        layers.Bidirectional(double(layers.GRU, 3, return_sequences=True), merge_mode="sum"),
        double(layers.SimpleRNN, 2, go_backwards=True),
        layers.Dense(1, "sigmoid", dtype="float64"),
    )


def graph():
    x = layers.Input((None,))
    e = layers.Embedding(WORDS, 3, mask_zero=True, dtype="float64")(x)
    a, last = double(layers.GRU, 4, return_sequences=True, return_state=True)(e)
    b = double(layers.SimpleRNN, 4, return_sequences=True)(a)
    c = double(layers.LSTM, 2)(layers.Add(dtype="float64")([a, b]))
    both = layers.Concatenate(dtype="float64")([last, c])
    return fastnn.Model(x, layers.Dense(1, "sigmoid", dtype="float64")(both))


def nested():
    inner = fastnn.Sequential(
        [
            double(layers.LSTM, 3, return_sequences=True),
            layers.Bidirectional(double(layers.GRU, 2, return_sequences=True)),
        ]
    )
    return embedded(inner, double(layers.SimpleRNN, 2), layers.Dense(1, "sigmoid", dtype="float64"))


NETWORKS = [question_network, pooled, stacked_backwards, graph, nested]


def gradients_of(make, x, y, weights):
    """Loss and gradients of one training step, after a prediction."""
    fastnn.set_random_seed(2)
    model = make()
    model.build((None, x.shape[1]))
    if weights is not None:
        model.set_weights(weights)
    before = model.get_weights()
    predicted = model.predict(x)
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    results = model.train_on_batch(x, y)
    return before, predicted, results, [np.array(g) for g in model.gradients]


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("where", ["post", "pre", "both"])
def test_padding_changes_nothing(backend, rng, make, where):
    words = words_with_gaps(rng)
    labels = np.arange(len(words)) % 2
    margin = {"post": (0, EXTRA), "pre": (EXTRA, 0), "both": (1, EXTRA - 1)}[where]
    padded = np.pad(words, ((0, 0), margin))
    weights, predicted, results, gradients = gradients_of(make, words, labels, None)
    _, predicted_padded, results_padded, gradients_padded = gradients_of(
        make, padded, labels, weights
    )
    np.testing.assert_allclose(predicted_padded, predicted, rtol=1e-9)
    assert results_padded == pytest.approx(results, rel=1e-9)
    for one, other in zip(gradients, gradients_padded, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-7, atol=1e-12)
        assert np.abs(one).sum() > 0
    # What padding is made of does not matter either: the row of word 0 gets no gradient.
    assert not gradients_padded[0][0].any()


@pytest.mark.parametrize("where", ["post", "pre"])
def test_targets_at_every_step(backend, rng, where):
    """Masked steps count neither in the loss nor in the metrics, whatever their labels."""
    words = words_with_gaps(rng)
    labels = rng.integers(0, 3, words.shape)
    margin = (0, EXTRA) if where == "post" else (EXTRA, 0)
    padded = np.pad(words, ((0, 0), margin))
    padded_labels = np.pad(labels, ((0, 0), margin), constant_values=2)
    model = embedded(
        layers.Bidirectional(double(layers.LSTM, 4, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(3, "softmax", dtype="float64")),
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy", "sparse_top_k"])
    expected = model.evaluate(words, labels)
    assert model.evaluate(padded, padded_labels) == pytest.approx(expected, rel=1e-12)


def test_masking_of_numbers(backend, rng):
    """Steps of the mask's value are passed over; a step with any other number is not."""
    x = rng.normal(size=(4, 6, 2))
    x[:, 4:] = -1.0
    x[0, 2] = -1.0
    x[1, 3, 0] = -1.0  # only one of two features
    model = fastnn.Sequential(
        [
            layers.Masking(-1.0, dtype="float64"),
            double(layers.GRU, 3, return_sequences=True),
            double(layers.LSTM, 2),
        ]
    )
    y = model.predict(x)
    np.testing.assert_allclose(model.predict(x[:, :4]), y, rtol=1e-9)
    np.testing.assert_allclose(model.predict(np.delete(x[:1], 2, axis=1)), y[:1], rtol=1e-9)
    moved = x.copy()
    moved[1, 3, 1] += 1
    assert not np.allclose(model.predict(moved)[1], y[1])


def test_rows_that_are_padding_alone(backend, rng):
    """They give the initial state, no NaN, and no gradient."""
    words = words_with_gaps(rng)
    words[0] = 0
    labels = np.arange(len(words)) % 2
    model = question_network()
    model.compile("sgd", "binary_crossentropy")
    assert np.isfinite(model.fit(words, labels, epochs=2, verbose=0).history["loss"]).all()
    empty = model.predict(np.zeros((2, STEPS), int))
    np.testing.assert_array_equal(empty[0], empty[1])


def padded(rng):
    words = rng.integers(1, 7, (4, 6))
    for row, length in zip(words, (6, 3, 1, 4), strict=True):
        row[length:] = 0
    return words


@pytest.mark.parametrize("body", ["final", "sequence", "bidirectional"])
def test_padding_does_not_count(backend, rng, body):
    """A padded row is what the row alone is, through a stack of recurrent layers."""
    stack = {
        "final": [layers.LSTM(4)],
        "sequence": [layers.LSTM(4, return_sequences=True), layers.Dropout(0.1), layers.GRU(3)],
        "bidirectional": [
            layers.Bidirectional(layers.GRU(3, return_sequences=True)),
            layers.Bidirectional(layers.SimpleRNN(2)),
        ],
    }[body]
    model = fastnn.Sequential([layers.Embedding(7, 5, mask_zero=True), *stack, layers.Dense(2)])
    words = padded(rng)
    y = model.predict(words)
    for row, alone in zip(words, y, strict=True):
        np.testing.assert_allclose(
            model.predict(row[row > 0][None])[0], alone, rtol=1e-4, atol=1e-6
        )
    gaps = np.zeros((4, 6, 5))
    gaps[words > 0] = rng.normal(size=(np.count_nonzero(words), 5))
    masked = fastnn.Sequential([layers.Masking(), layers.LSTM(3)])
    for row, kept, alone in zip(gaps, words > 0, masked.predict(gaps), strict=True):
        np.testing.assert_allclose(masked.predict(row[kept][None])[0], alone, rtol=1e-4, atol=1e-6)


def test_masked_steps_are_not_in_loss_and_metrics(backend, rng):
    words = padded(rng)
    labels = rng.integers(0, 3, words.shape)
    model = fastnn.Sequential(
        [
            layers.Embedding(7, 4, mask_zero=True),
            layers.LSTM(3, return_sequences=True),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    probabilities = model.predict(words)
    kept = words > 0
    chosen = np.take_along_axis(probabilities, labels[..., None], -1)[..., 0][kept]
    loss, accuracy = model.evaluate(words, labels)
    assert loss == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    assert accuracy == np.mean((probabilities.argmax(-1) == labels)[kept])
    other = np.where(kept, labels, (labels + 1) % 3)
    assert model.evaluate(words, other) == [loss, accuracy]
    trained = model.train_on_batch(words, labels)
    assert trained == [pytest.approx(loss, rel=1e-5), accuracy]
