"""SimpleRNN, LSTM, GRU: gradients with every option, state, masks, lengths, noise, errors."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers

CELLS = {
    "simple_rnn": (layers.SimpleRNN, {}),
    "simple_rnn_relu": (layers.SimpleRNN, {"activation": "relu"}),
    "lstm": (layers.LSTM, {}),
    "gru": (layers.GRU, {}),
    "gru_before": (layers.GRU, {"reset_after": False}),
}
every_cell = pytest.mark.parametrize("cell", CELLS)
B, T, I, H = 3, 5, 2, 4


def make(cell: str, **options):
    cls, own = CELLS[cell]
    return cls(H, **(own | options))


def states(cell: str, rng) -> list[np.ndarray]:
    return [rng.normal(size=(B, H)) for _ in range(CELLS[cell][0].states_per_cell)]


HOLES = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]], bool)
RIGHT = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


@every_cell
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True},
        {"return_state": True},
        {"return_sequences": True, "return_state": True, "go_backwards": True},
        {"go_backwards": True},
        {"use_bias": False},
        {"dropout": 0.3, "recurrent_dropout": 0.2, "return_sequences": True},
        {"zoneout": 0.3, "go_backwards": True},
        {"output_dropout": 0.4, "return_sequences": True, "go_backwards": True},
        {"output_dropout": 0.4, "dropout": 0.3, "return_state": True},
    ],
    ids=str,
)
def test_gradients(backend, rng, cell, options):
    layer = make(cell, bias_initializer="random_normal", **options)
    assert fastnn.gradcheck(layer, rng.normal(size=(B, T, I)), samples=40) <= 1e-7


@every_cell
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("steps", ["holes", "right", "zero", "lengths", "resets", "state"])
def test_gradients_of_call_arguments(backend, rng, cell, sequences, backwards, steps):
    options = {"return_sequences": sequences, "go_backwards": backwards}
    arguments = {
        "holes": {"mask": HOLES},
        "right": {"mask": RIGHT},
        "zero": {"mask": HOLES},
        "lengths": {"lengths": np.array([5, 2, 0])},
        "resets": {"resets": np.roll(HOLES, 1, axis=0)},
        "state": {},
    }[steps]
    layer = make(cell, zero_output_for_mask=steps == "zero", **options)
    initial = states(cell, rng)
    x = rng.normal(size=(B, T, I))
    assert fastnn.gradcheck(layer, x, samples=30, initial_state=initial, **arguments) <= 1e-7
    assert fastnn.gradcheck(layer, x, samples=30, **arguments) <= 1e-7


def by_steps(layer, x, mask, initial):
    """The definition: one step a call, the state held where the mask is False."""
    cell = type(layer).from_config(
        layer.get_config()
        | {"return_state": True, "return_sequences": False, "go_backwards": False}
    )
    cell.build(x.shape)
    cell.set_weights(layer.get_weights())
    state = [s.copy() for s in initial]
    order = range(x.shape[1])
    outputs = []
    for t in reversed(order) if layer.go_backwards else order:
        _, *new = cell(x[:, t : t + 1], initial_state=state)
        kept = mask[:, t, None]
        state = [np.where(kept, n, s) for n, s in zip(new, state, strict=True)]
        outputs.append(np.where(kept | (not layer.zero_output_for_mask), state[0], 0))
    return np.stack(outputs, axis=1), state


@every_cell
@pytest.mark.parametrize("mask", [HOLES, RIGHT], ids=["holes", "right"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_masks_are_by_definition(backend, rng, cell, mask, backwards, zero, given):
    x = rng.normal(size=(B, T, I))
    initial = states(cell, rng) if given else [np.zeros((B, H))] * len(states(cell, rng))
    for sequences in (False, True):
        layer = make(
            cell,
            dtype="float64",
            return_sequences=sequences,
            return_state=True,
            go_backwards=backwards,
            zero_output_for_mask=zero,
        )
        layer.build(x.shape)
        expected, state = by_steps(layer, x, mask, initial)
        y, *final = layer(x, mask=mask, initial_state=initial if given else None)
        np.testing.assert_allclose(y, expected if sequences else state[0], rtol=1e-9, atol=1e-12)
        for one, other in zip(final, state, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@every_cell
def test_lengths(backend, rng, cell):
    x = rng.normal(size=(B, T, I))
    lengths = [5, 2, 0]
    for backwards in (False, True):
        layer = make(cell, dtype="float64", return_sequences=True, go_backwards=backwards)
        y = layer(x, lengths=lengths)
        for b, n in enumerate(lengths):
            alone = layer(x[b : b + 1, :n])[0]
            padding = np.zeros((T - n, H))
            # Backwards the steps come in the order they were made, after those that were not.
            expected = np.concatenate((padding, alone) if backwards else (alone, padding))
            np.testing.assert_allclose(y[b], expected, rtol=1e-9, atol=1e-12)


@every_cell
def test_stateful_is_one_long_sequence(backend, rng, cell):
    x = rng.normal(size=(B, 2 * T, I))
    whole = make(cell, dtype="float64", return_sequences=True)
    parts = make(cell, dtype="float64", return_sequences=True, stateful=True)
    expected = whole(x)
    parts.build(x.shape)
    parts.set_weights(whole.get_weights())
    for _ in range(2):
        first, second = parts(x[:, :T]), parts(x[:, T:], training=True)
        np.testing.assert_allclose(np.concatenate((first, second), axis=1), expected, rtol=1e-9)
        parts.reset_states()
    parts(x[:, :T])
    with pytest.raises(ValueError, match=r"batch of 2 after one of 3.*reset_states\(\), is needed"):
        parts(x[:2])


def test_inference_of_noise(backend, rng):
    """Dropout is the identity, zoneout the expected value: both without a draw."""
    x = rng.normal(size=(B, T, I))
    rates = {"dropout": 0.5, "recurrent_dropout": 0.5, "output_dropout": 0.5}
    noisy = layers.LSTM(H, **rates, seed=1, dtype="float64")
    plain = layers.LSTM(H, dtype="float64")
    y = noisy(x)
    plain.build(x.shape)
    plain.set_weights(noisy.get_weights())
    np.testing.assert_array_equal(y, plain(x))
    np.testing.assert_array_equal(noisy(x), y)
    one = x[:, :1]
    zoned = layers.GRU(H, zoneout=0.25, dtype="float64")
    full = layers.GRU(H, dtype="float64")
    y = zoned(one)
    full.build(one.shape)
    full.set_weights(zoned.get_weights())
    np.testing.assert_allclose(y, 0.75 * full(one), rtol=1e-12)


@pytest.mark.parametrize("noise", ["dropout", "recurrent_dropout", "output_dropout", "zoneout"])
def test_noise_is_of_seed_and_call(backend, rng, noise):
    x = rng.normal(size=(B, T, I)).astype("float32")
    runs = []
    for seed in (1, 1, 2):
        layer = layers.LSTM(H, seed=seed, kernel_initializer="ones", **{noise: 0.5})
        layer.build(x.shape)
        layer.set_weights([np.full(w.shape, 0.1) for w in layer.weights])
        runs.append([layer(x, training=True) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[0][1])
    assert not np.array_equal(runs[0][0], runs[2][0])


def test_input_dropout_is_one_mask_a_sequence(backend):
    layer = layers.SimpleRNN(1, "relu", return_sequences=True, dropout=0.5, seed=0)
    x = np.ones((50, 4, 1))
    layer.build(x.shape)
    layer.set_weights([np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1)])
    y = layer(x, training=True)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert set(np.unique(y)) == {0.0, 2.0}


@pytest.mark.parametrize("sequences", [False, True])
def test_output_dropout_is_one_mask_a_sequence(backend, rng, sequences):
    options = {"return_sequences": sequences, "return_state": True, "dtype": "float64"}
    plain, noisy = layers.LSTM(H, **options), layers.LSTM(H, output_dropout=0.5, seed=3, **options)
    x = rng.normal(size=(40, T, I))
    for layer in (plain, noisy):
        layer.build(x.shape)
    noisy.set_weights(plain.get_weights())
    y, *states = plain(x, training=True)
    thinned, *thinned_states = noisy(x, training=True)
    for one, other in zip(states, thinned_states, strict=True):
        np.testing.assert_array_equal(one, other)
    kept = thinned != 0
    assert 0.4 < kept.mean() < 0.6
    np.testing.assert_array_equal(thinned, np.where(kept, 2 * y, 0))
    if sequences:
        np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1], kept.shape))


def test_weights_and_their_first_values(rng):
    lstm = layers.LSTM(H)
    lstm.build((None, T, I))
    assert [w.shape for w in lstm.weights] == [(I, 4 * H), (H, 4 * H), (4 * H,)]
    np.testing.assert_array_equal(lstm.bias, np.repeat([0, 1, 0, 0], H))
    recurrent = lstm.recurrent_kernel
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(H), atol=1e-6)
    plain = layers.LSTM(H, unit_forget_bias=False)
    plain.build((None, T, I))
    assert not plain.bias.any()
    gru = layers.GRU(H)
    gru.build((None, T, I))
    assert [w.shape for w in gru.weights] == [(I, 3 * H), (H, 3 * H), (2, 3 * H)]
    before = layers.GRU(H, reset_after=False)
    before.build((None, T, I))
    assert before.bias.shape == (3 * H,)


def test_output_shapes():
    shape = (None, T, I)
    assert layers.LSTM(H).compute_output_shape(shape) == (None, H)
    assert layers.LSTM(H, return_sequences=True).compute_output_shape(shape) == (None, T, H)
    assert layers.LSTM(H, return_state=True).compute_output_shape(shape) == ((None, H),) * 3


def test_masks_go_on_with_sequences():
    mask = np.ones((B, T), bool)
    assert layers.LSTM(H, return_sequences=True).compute_mask(None, mask) is mask
    assert layers.LSTM(H).compute_mask(None, mask) is None


def test_no_steps(backend):
    layer = layers.LSTM(H, return_sequences=True, return_state=True)
    y, h, c = layer(np.ones((B, 0, I), "float32"), training=True)
    assert y.shape == (B, 0, H) and not h.any() and not c.any()
    dx = layer.backward((y, np.ones_like(h), None))
    assert dx.shape == (B, 0, I)
    np.testing.assert_array_equal(layer.initial_state_gradient[0], np.ones_like(h))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: layers.LSTM(0), "units"),
        (lambda: layers.LSTM(3, "relu"), "activation"),
        (lambda: layers.SimpleRNN(3, "sigmoid"), "activation"),
        (lambda: layers.GRU(3, recurrent_activation="hard_sigmoid"), "recurrent_activation"),
        (lambda: layers.LSTM(3, dropout=1.0), "dropout"),
        (lambda: layers.LSTM(3, recurrent_dropout=-0.5), "recurrent_dropout"),
        (lambda: layers.LSTM(3, output_dropout=2), "output_dropout"),
        (lambda: layers.LSTM(3, zoneout=(0.1, 0.1, 0.1)), "zoneout"),
        (lambda: layers.GRU(3, zoneout=(0.1, 0.1)), "zoneout"),
        (lambda: layers.LSTM(3, zoneout=float("nan")), "zoneout"),
        (lambda: layers.LSTM(3, seed=1.5), "seed"),
        (lambda: layers.LSTM(3).build((None, 4)), "features"),
        (lambda: layers.LSTM(3).build((None, 4, None)), "features"),
        (lambda: layers.LSTM(3)(np.ones((2, 5))), "features"),
        (lambda: layers.LSTM(3)(np.ones((2, 5, 1)), mask=np.ones((5, 2), bool)), "mask"),
        (lambda: layers.LSTM(3)(np.ones((2, 5, 1)), resets=[[True, False]]), "resets"),
        (lambda: layers.LSTM(3)(np.ones((2, 5, 1)), lengths=[6, 1]), "lengths"),
        (lambda: layers.LSTM(3)(np.ones((2, 5, 1)), lengths=[-1, 1]), "lengths"),
        (lambda: layers.LSTM(3)(np.ones((2, 5, 1)), initial_state=np.ones((2, 3))), "initial"),
        (lambda: layers.GRU(3)(np.ones((2, 5, 1)), initial_state=np.ones((2, 4))), "initial"),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        run()


def test_backward_of_states_needs_a_tuple():
    layer = layers.LSTM(3, return_state=True)
    y = layer(np.ones((2, 5, 1)), training=True)[0]
    with pytest.raises(ValueError, match="a tuple of 3 gradients"):
        layer.backward(y)
