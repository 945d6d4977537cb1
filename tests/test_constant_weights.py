"""Weights promised not to change: the same bits as without, and changes that are noticed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastnn
from fastnn import RnnWeights, layers, ops
from fastnn.backends import constant

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def weights_of(rng, cell, inputs, units, dtype, recurrent_bias=False):
    columns = GATES[cell] * units

    def draw(*shape):
        return (rng.normal(size=shape) * 0.3).astype(dtype)

    extra = draw(columns) if recurrent_bias else None
    return RnnWeights(draw(inputs, columns), draw(units, columns), draw(columns), extra)


@pytest.mark.parametrize("cell", [*GATES, "gru_before"])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (7, 1), (3, 2), (5, 40), (1, 40)])
def test_same_bits_call_after_call(backend, rng, dtype, cell, T, B):
    cell, reset_after = cell.removesuffix("_before"), not cell.endswith("_before")
    inputs, units = 9, 37
    weights = weights_of(rng, cell, inputs, units, dtype, cell == "gru" and reset_after)
    options = {"cell": cell, "reset_after": reset_after, "keep": None}
    batches = [rng.normal(size=(T, B, inputs)).astype(dtype) for _ in range(3)]
    # Another batch size and number of steps goes another way, in the same block.
    batches.insert(2, rng.normal(size=(T + 2, B + 33, inputs)).astype(dtype))
    expected = [ops.rnn_forward(x, weights, **options)[0].y for x in batches]
    with fastnn.constant_weights():
        for x, y in zip(batches * 2, expected * 2, strict=True):
            found, saved = ops.rnn_forward(x, weights, **options)
            assert saved is None
            np.testing.assert_array_equal(found.y, y)


def test_other_weights_are_other_weights(backend, rng, dtype):
    x = rng.normal(size=(4, 3, 5)).astype(dtype)
    several = [weights_of(rng, "lstm", 5, 11, dtype) for _ in range(3)]
    # Views of one array: the same address, other strides.
    square = rng.normal(size=(8, 8)).astype(dtype)
    several += [
        RnnWeights(kernel[:5], kernel)
        for kernel in (square, square.T, np.ascontiguousarray(square.T))
    ]
    cells = ["lstm"] * 3 + ["simple_rnn"] * 3
    found = []
    with fastnn.constant_weights():
        for _ in range(2):
            found.append(
                [
                    ops.rnn_forward(x, w, cell=cell, keep=None)[0].y
                    for w, cell in zip(several, cells, strict=True)
                ]
            )
    for i, (w, cell) in enumerate(zip(several, cells, strict=True)):
        expected = ops.rnn_forward(x, w, cell=cell, keep=None)[0].y
        np.testing.assert_array_equal(found[0][i], expected)
        np.testing.assert_array_equal(found[1][i], expected)


def test_weights_that_do_not_split_are_not_kept(backend, rng):
    """Infinity is for FMA alone; the tile unit must notice it at every call."""
    weights = weights_of(rng, "lstm", 40, 64, np.float32)
    weights.kernel[3, 5] = np.inf
    x = rng.normal(size=(3, 32, 40)).astype(np.float32)
    expected = ops.rnn_forward(x, weights, cell="lstm", keep=None)[0].y
    with fastnn.constant_weights():
        for _ in range(3):
            found = ops.rnn_forward(x, weights, cell="lstm", keep=None)[0].y
            np.testing.assert_array_equal(found, expected)


def test_many_weights_made_for_a_call(rng):
    x = rng.normal(size=(2, 1, 3)).astype(np.float32)
    with fastnn.constant_weights():
        for _ in range(200):
            w = weights_of(rng, "simple_rnn", 3, 4, np.float32)
            first = ops.rnn_forward(x, w, cell="simple_rnn", keep=None)[0].y
            again = ops.rnn_forward(x, w, cell="simple_rnn", keep=None)[0].y
            np.testing.assert_array_equal(first, again)
        kept = constant.kept()
        assert kept is not None and len(kept) <= 256
    assert constant.kept() is None


def test_changes_by_the_library_are_noticed(rng):
    model = fastnn.Sequential([layers.LSTM(12), layers.Dense(2)])
    model.compile("sgd", "mse")
    x = rng.normal(size=(8, 5, 3)).astype(np.float32)
    y = rng.normal(size=(8, 2)).astype(np.float32)
    model.build(x.shape)
    with fastnn.constant_weights():
        before = model(x)
        model.train_on_batch(x, y)
        after = model(x)
        layer = model.layers[0]
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
        zeroed = layer(x)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after.shape, before.shape)
    assert not zeroed.any()


def test_predict_sees_what_changed_between_calls(rng):
    model = fastnn.Sequential([layers.Bidirectional(layers.LSTM(7)), layers.Dense(2)])
    x = rng.normal(size=(70, 5, 3)).astype(np.float32)
    first = model.predict(x, batch_size=32)
    np.testing.assert_allclose(first, model(x), rtol=1e-5, atol=1e-6)
    for weight in model.layers[0].weights:
        weight *= 0.5  # by hand: between two calls of predict nothing is kept
    second = model.predict(x, batch_size=32)
    np.testing.assert_allclose(second, model(x), rtol=1e-5, atol=1e-6)
    assert not np.allclose(first, second)


def test_the_promise_holds_for_one_thread(rng):
    found = []
    with fastnn.constant_weights():
        assert constant.kept() is not None
        with fastnn.constant_weights():
            inner = constant.kept()
        assert inner is constant.kept()
        thread = threading.Thread(target=lambda: found.append(constant.kept()))
        thread.start()
        thread.join()
    assert found == [None]


def test_threads_that_share_a_promise(rng):
    """A context copied into other threads: they fill and read the same entries at once."""
    import contextvars

    weights = [weights_of(rng, "lstm", 16, 40, np.float32) for _ in range(4)]
    x = rng.normal(size=(6, 20, 16)).astype(np.float32)
    expected = [ops.rnn_forward(x, w, cell="lstm", keep=None)[0].y for w in weights]
    wrong = []

    def work() -> None:
        for _ in range(20):
            for w, y in zip(weights, expected, strict=True):
                if not np.array_equal(ops.rnn_forward(x, w, cell="lstm", keep=None)[0].y, y):
                    wrong.append(1)

    with fastnn.constant_weights():
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
