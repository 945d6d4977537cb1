"""fit(tbptt_steps=k): truncated back-propagation through time, against the same written out."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, losses, optimizers

N, T, I, H = 6, 10, 2, 4
CELLS = [layers.SimpleRNN, layers.LSTM, layers.GRU]


def network(cell, sequences, **options):
    return fastnn.Sequential(
        [
            layers.Input((None, I)),
            cell(H, return_sequences=True, dtype="float64", **options),
            cell(3, return_sequences=sequences, dtype="float64"),
            layers.Dense(2, dtype="float64"),
        ]
    )


def data(rng, sequences):
    return rng.normal(size=(N, T, I)), rng.normal(size=(N, T, 2) if sequences else (N, 2))


def trained(model, x, y, **options):
    """A copy after fit, and its losses."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    copy.compile(optimizers.SGD(0.1), "mse")
    history = copy.fit(x, y, batch_size=4, shuffle=False, verbose=0, **options)
    return copy.get_weights(), history.history["loss"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("k", [T, T + 7])
def test_k_that_covers_the_sequence_is_full_bptt(backend, rng, cell, sequences, k):
    model = network(cell, sequences)
    x, y = data(rng, sequences)
    full, loss = trained(model, x, y, epochs=3)
    cut, cut_loss = trained(model, x, y, epochs=3, tbptt_steps=k)
    assert cut_loss == pytest.approx(loss, rel=1e-12)
    for one, other in zip(full, cut, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_windows_with_a_target_at_every_step(backend, rng, k):
    """Each window a step of its own, from the states (not the gradients) of the one before."""
    model = network(layers.LSTM, True)
    x, y = data(rng, True)
    actual, logged = trained(model, x, y, tbptt_steps=k)
    loss, sgd = losses.MeanSquaredError(), optimizers.SGD(0.1)
    total = 0.0
    for rows in (slice(0, 4), slice(4, N)):
        states = [None, None]
        for start in range(0, T, k):
            steps = slice(start, start + k)
            h = x[rows, steps]
            for i, layer in enumerate(model.layers[1:3]):
                # The same weights, in a layer that tells its states.
                teller = layers.LSTM(
                    layer.units, return_sequences=True, return_state=True, dtype="float64"
                )
                teller.build(h.shape)
                teller.set_weights(layer.get_weights())
                begin = states[i]
                states[i] = teller(h, initial_state=begin)[1:]
                h = layer(h, training=True, initial_state=begin)
            y_pred = model.layers[3](h, training=True)
            total += loss(y[rows, steps], y_pred, training=True) * y_pred.shape[0] * y_pred.shape[1]
            dy = loss.backward()
            for layer in reversed(model.layers[1:]):
                dy = layer.backward(dy)
            sgd.apply(model.gradients, model.weights)
    assert logged == [pytest.approx(total / (N * T), rel=1e-9)]
    for one, other in zip(model.get_weights(), actual, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 7])
def test_one_target_a_sequence_learns_from_the_last_window(backend, rng, k):
    model = network(layers.GRU, False)
    x, y = data(rng, False)
    actual, _ = trained(model, x[:4], y[:4], tbptt_steps=k)
    first, second, head = model.layers[1:]
    states = first(x[:4, :-k])[:, -1], second(first(x[:4, :-k]))
    h = first(x[:4, -k:], training=True, initial_state=states[0])
    y_pred = head(second(h, training=True, initial_state=states[1]), training=True)
    loss, sgd = losses.MeanSquaredError(), optimizers.SGD(0.1)
    loss(y[:4], y_pred, training=True)
    first.backward(second.backward(head.backward(loss.backward())))
    sgd.apply(model.gradients, model.weights)
    for one, other in zip(model.get_weights(), actual, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_masks_weights_and_labels_are_cut_too(backend, rng):
    """Padding changes nothing: the windows of padded rows alone give no gradient."""
    words = rng.integers(1, 9, (4, 12))
    labels = rng.integers(0, 3, (4, 12))
    words[:, 9:] = 0
    model = fastnn.Sequential(
        [
            layers.Embedding(9, 5, mask_zero=True),
            layers.LSTM(H, return_sequences=True),
            layers.TimeDistributed(layers.Dense(3, "softmax")),
        ]
    )
    results = []
    for x, y in ((words, labels), (words[:, :9], labels[:, :9])):
        model.build((None, 12))
        copy = fastnn.Sequential.from_config(model.get_config())
        copy.set_weights(model.get_weights())
        copy.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        weight = np.linspace(0.5, 1.5, x.size).reshape(x.shape) if x is words else None
        weight = np.linspace(0.5, 1.5, words.size).reshape(words.shape)[:, : x.shape[1]]
        history = copy.fit(x, y, 4, 1, 0, shuffle=False, sample_weight=weight, tbptt_steps=3)
        results.append((copy.get_weights(), history.history["accuracy"]))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert results[0][1] == results[1][1]


def test_layers_are_left_as_they_were(backend, rng):
    x, y = data(rng, True)
    model = network(layers.SimpleRNN, True)
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0, tbptt_steps=3, validation_data=(x[:2, :4], y[:2, :4]))
    assert not model.layers[1].stateful and model.layers[1].states is None
    once = model.predict(x)
    np.testing.assert_array_equal(model.predict(x), once)


def test_stateful_layers_keep_their_state_from_batch_to_batch(backend, rng):
    """A long series in windows: the batches are its pieces, and fit goes on where it stopped."""
    series = rng.normal(size=(1, 24, I))
    targets = rng.normal(size=(1, 24, 2))
    whole = network(layers.LSTM, True)
    pieces = fastnn.Sequential(
        [
            layers.Input((None, I)),
            layers.LSTM(H, return_sequences=True, stateful=True, dtype="float64"),
            layers.LSTM(3, return_sequences=True, stateful=True, dtype="float64"),
            layers.Dense(2, dtype="float64"),
        ]
    )
    pieces.set_weights(whole.get_weights())
    expected, _ = trained(whole, series, targets, tbptt_steps=6)
    pieces.compile(optimizers.SGD(0.1), "mse")
    cut = [a.reshape(4, 6, 2) for a in (series, targets)]
    reset = fastnn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: pieces.reset_states())
    pieces.fit(*cut, batch_size=1, shuffle=False, verbose=0, callbacks=[reset])
    assert pieces.layers[1].states is None
    for one, other in zip(pieces.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_long_series_is_learned(rng):
    fastnn.set_random_seed(3)
    t = np.arange(400) * 0.2
    x = np.sin(t)[None, :-1, None]
    model = fastnn.Sequential([layers.GRU(12, return_sequences=True), layers.Dense(1)])
    model.compile(optimizers.Adam(0.01), "mse")
    loss = model.fit(x, np.sin(t)[None, 1:, None], epochs=8, verbose=0, tbptt_steps=25).history
    assert loss["loss"][-1] < 0.05 * loss["loss"][0]


def model_of(*stack):
    return fastnn.Sequential([layers.Input((T, I)), *stack])


@pytest.mark.parametrize(
    ("stack", "k", "message"),
    [
        ([layers.Dense(2)], 3, "without a recurrent layer"),
        ([layers.LSTM(2, return_sequences=True, go_backwards=True)], 3, "'lstm.*last step"),
        ([layers.Bidirectional(layers.LSTM(2))], 3, "backward_lstm.*last step"),
        (
            [layers.Conv1D(2, 3, padding="same"), layers.SimpleRNN(2, return_sequences=True)],
            3,
            "other outputs",
        ),
        (
            [layers.Conv1D(2, 3, padding="causal"), layers.SimpleRNN(2)],
            3,
            "other outputs",
        ),
        ([layers.SimpleRNN(2, return_sequences=True), layers.GlobalMaxPooling1D()], 3, "other out"),
        (
            [layers.SimpleRNN(2, return_sequences=True), layers.Flatten(), layers.Dense(2)],
            3,
            "not take windows",
        ),
        ([layers.SimpleRNN(2, return_sequences=True), layers.MaxPooling1D(2)], 4, "one output a"),
        ([layers.SimpleRNN(2)], 0, "tbptt_steps"),
        ([layers.SimpleRNN(2)], 2.5, "tbptt_steps"),
    ],
)
def test_what_cannot_be_cut_is_refused(rng, stack, k, message):
    model = model_of(*stack)
    model.compile("sgd", "mse")
    x = rng.normal(size=(4, T, I))
    with pytest.raises((ValueError, TypeError), match=rf"^\[fit\].*{message}.*needed"):
        model.fit(x, model.predict(x), verbose=0, tbptt_steps=k)


def test_targets_that_do_not_fit(rng):
    model = model_of(layers.SimpleRNN(2, return_sequences=True))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"y of shape \(4, 2\).*\[4, 10, ...\] is needed"):
        model.fit(np.ones((4, T, I)), np.ones((4, 2)), verbose=0, tbptt_steps=5)


def test_a_graph_can_be_cut(backend, rng):
    x = layers.Input((None, I))
    a = layers.SimpleRNN(3, return_sequences=True)(x)
    b = layers.LSTM(2, return_sequences=True)(a)
    model = fastnn.Model(x, layers.Dense(2)(layers.Concatenate()([a, b])))
    model.compile("adam", "mse")
    history = model.fit(*data(rng, True), epochs=3, verbose=0, tbptt_steps=4).history["loss"]
    assert history[-1] < history[0]
