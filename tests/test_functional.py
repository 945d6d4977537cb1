"""Models that are graphs: against stacks, by differences, saved and loaded, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import Model, Sequential, layers


def deep_rnn(units: int = 4) -> Model:
    """Three recurrent layers, the final states of all three joined."""
    inputs = layers.Input((6, 3))
    y, first = layers.SimpleRNN(units, return_sequences=True, return_state=True)(inputs)
    y, _, second = layers.LSTM(units, return_sequences=True, return_state=True)(y)
    last = layers.GRU(units)(y)
    states = layers.Concatenate()([first, second, last])
    return Model(inputs, layers.Dense(2)(states))


def residual(merge) -> Model:
    inputs = layers.Input((5,))
    one = layers.Dense(4, activation="tanh")(inputs)
    other = layers.Dense(4, activation="sigmoid")(inputs)
    return Model(inputs, layers.Dense(3)(merge([one, other, one])))


def test_a_graph_that_is_a_stack_trains_as_the_stack(backend, rng):
    x = rng.normal(size=(40, 7, 3)).astype("float32")
    y = rng.integers(0, 3, 40)
    inputs = layers.Input((7, 3))
    graph = Model(inputs, layers.Dense(3, activation="softmax")(layers.GRU(5)(inputs)))
    stack = Sequential([layers.GRU(5), layers.Dense(3, activation="softmax")])
    stack.build((None, 7, 3))
    stack.set_weights(graph.get_weights())
    for model in (graph, stack):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    for a, b in zip(graph.get_weights(), stack.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert graph.evaluate(x, y) == stack.evaluate(x, y)


def test_gradients_by_differences(backend, rng):
    assert fastnn.gradcheck(deep_rnn(), rng.normal(size=(3, 6, 3))) < 1e-7


@pytest.mark.parametrize("merge", [layers.Add, layers.Average, layers.Multiply, layers.Concatenate])
def test_merging_layers(merge, rng):
    x = rng.normal(size=(4, 5)).astype("float32")
    model = residual(merge())
    assert fastnn.gradcheck(model, x.astype("float64")) < 1e-7
    one, other = rng.normal(size=(2, 4, 6)).astype("float32")
    expected = {
        "Add": one + other,
        "Average": (one + other) / 2,
        "Multiply": one * other,
        "Concatenate": np.concatenate([one, other], axis=1),
    }[merge.__name__]
    layer = merge()
    np.testing.assert_allclose(layer([one, other]), expected, rtol=1e-6)
    assert layer.compute_output_shape([one.shape, other.shape]) == expected.shape


def test_concatenate_along_time(rng):
    one, other = rng.normal(size=(2, 3, 4, 2)).astype("float32")
    layer = layers.Concatenate(axis=1)
    y = layer([one, other[:, :1]], training=True)
    assert y.shape == (3, 5, 2)
    pieces = layer.backward(y)
    np.testing.assert_array_equal(pieces[0], one)
    np.testing.assert_array_equal(pieces[1], other[:, :1])
    mask = np.array([[True, False, True, True]] * 3)
    joined = layer.compute_mask([one, other[:, :1]], [mask, None])
    np.testing.assert_array_equal(joined, [[True, False, True, True, True]] * 3)
    assert layer.compute_mask([one, other], [None, None]) is None
    both = layers.Add().compute_mask([one, other], [mask, ~mask])
    assert not both.any()


def test_masks_follow_the_paths(backend, rng):
    tokens = np.array([[3, 1, 0, 0], [2, 2, 4, 0]])
    inputs = layers.Input((4,), dtype="int32")
    words = layers.Embedding(5, 3, mask_zero=True)(inputs)
    y = layers.Add()([layers.LSTM(4)(words), layers.GRU(4)(words)])
    model = Model(inputs, y)
    for n, row in ((2, 0), (3, 1)):
        short = model(tokens[row : row + 1, :n])
        np.testing.assert_allclose(model(tokens)[row], short[0], rtol=1e-5, atol=1e-6)
    model.compile("sgd", "mean_squared_error")
    before = model.get_weights()[0].copy()
    model.train_on_batch(tokens, np.ones((2, 4), "float32"))
    changed = np.any(model.get_weights()[0] != before, axis=1)
    np.testing.assert_array_equal(changed, [False, True, True, True, True])


def test_saved_and_loaded(tmp_path, rng):
    x = rng.normal(size=(9, 6, 3)).astype("float32")
    model = deep_rnn()
    model.compile("adam", "mean_squared_error")
    model.fit(x, np.ones((9, 2)), verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = fastnn.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    one, other = (m.train_on_batch(x, np.zeros((9, 2))) for m in (model, loaded))
    assert one == other
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


def test_a_graph_in_a_stack(rng):
    stack = Sequential([deep_rnn(), layers.Dense(1)])
    assert fastnn.gradcheck(stack, rng.normal(size=(2, 6, 3))) < 1e-7
    assert (
        fastnn.gradcheck(Sequential.from_config(stack.get_config()), rng.normal(size=(2, 6, 3)))
        < 1e-7
    )


def test_summary_and_shapes(capsys):
    model = deep_rnn()
    model.summary()
    out = capsys.readouterr().out
    assert "concatenate" in out and "(None, 12)" in out
    assert model.output_shape == (None, 2) and model.input_shape == (None, 6, 3)
    assert model.compute_output_shape((8, 6, 3)) == (8, 2)
    assert model.count_params() == sum(w.size for w in model.get_weights())


def test_what_is_refused():
    inputs, other = layers.Input((4,)), layers.Input((4,))
    dense = layers.Dense(4)
    y = dense(inputs)
    with pytest.raises(ValueError, match="two places of a graph"):
        dense(y)
    with pytest.raises(ValueError, match="also comes from"):
        Model(inputs, layers.Add()([y, layers.Dense(4)(other)]))
    with pytest.raises(ValueError, match="one is needed"):
        Model([inputs, other], y)
    with pytest.raises(ValueError, match=r"what layers\.Input gives"):
        Model(y, layers.Dense(2)(y))
    with pytest.raises(ValueError, match="also comes from"):
        Model(other, y)
    with pytest.raises(TypeError, match="Input"):
        Model(np.zeros(3), y)
    with pytest.raises(TypeError, match="the input alone"):
        layers.SimpleRNN(3)(layers.Input((5, 2)), initial_state=0)
    with pytest.raises(ValueError, match="one shape is needed"):
        layers.Add()([y, layers.Dense(3)(inputs)])
    with pytest.raises(ValueError, match="differ along this axis"):
        layers.Concatenate()([np.zeros((2, 3, 1)), np.zeros((2, 4, 1))])
    with pytest.raises(TypeError, match="a list of arrays"):
        layers.Add()(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="two layers named"):
        named = layers.Input((4,))
        Model(named, layers.Dense(1, name="a")(layers.Dense(2, name="a")(named)))
