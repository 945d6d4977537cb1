"""Sequential: structure, and what its errors say."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import blobs, classifier

import fastnn
from fastnn import callbacks, layers, metrics


def test_building_by_input_shape_by_call_and_by_add():
    for model in (
        fastnn.Sequential([layers.Input((5, 4)), layers.LSTM(3), layers.Dense(2)]),
        fastnn.Sequential([layers.LSTM(3, input_shape=(5, 4)), layers.Dense(2)]),
    ):
        assert model.built and model.output_shape == (None, 2)
        assert model.count_params() == 4 * 3 * (4 + 3 + 1) + 8
    late = fastnn.Sequential([layers.Dense(2)])
    assert not late.built and late.output_shape is None
    late(np.ones((3, 4)))
    late.add(layers.Dense(5))
    assert late.output_shape == (3, 5) and len(late.weights) == 4
    assert late(np.ones((3, 4))).shape == (3, 5)


def test_input_of_integers(rng):
    model = fastnn.Sequential([layers.Input((5,), dtype="int32"), layers.Embedding(9, 3)])
    words = rng.integers(0, 9, (2, 5)).astype("int32")
    np.testing.assert_array_equal(model.predict(words), model.layers[1].embeddings[words])


def test_names_are_unique():
    model = fastnn.Sequential([layers.Dense(2, name="a"), layers.Dense(2)])
    with pytest.raises(ValueError, match="two layers named 'a'"):
        model.add(layers.Dense(2, name="a"))
    other = layers.Dense(2)
    other.name = model.layers[1].name  # as after loading a model in another process
    model.add(other)
    assert len({layer.name for layer in model.layers}) == 3
    assert model.get_layer("a") is model.layers[0]
    with pytest.raises(ValueError, match="no layer named 'b'"):
        model.get_layer("b")


def test_summary():
    lines = []
    fastnn.Sequential(
        [layers.Input((8,)), layers.Dense(4, name="body", trainable=False), layers.Dense(2)],
        name="net",
    ).summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "net" in lines[0] and "body (Dense)" in text and "(None, 4)" in text
    assert lines[-1] == "46 weights, 10 of them trainable"
    lines.clear()
    fastnn.Sequential([layers.Dense(4)]).summary(print_fn=lines.append)
    assert "not built" in "\n".join(lines)


def test_a_model_is_a_layer(backend, rng):
    inner = fastnn.Sequential([layers.Dense(4, "tanh"), layers.Dropout(0.3)])
    model = fastnn.Sequential([inner, layers.Dense(3)])
    x = rng.normal(size=(5, 2))
    assert fastnn.gradcheck(model, x) <= 1e-7
    model.build(x.shape)
    assert model.weights[0] is inner.layers[0].kernel
    again = fastnn.Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(x), model(x))


X, Y = np.ones((6, 4), "float32"), np.zeros(6, int)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: fastnn.Sequential([3]), "layer"),
        (
            lambda: fastnn.Sequential([layers.Input((5, 2)), layers.LSTM(2, return_state=True)]),
            "one",
        ),
        (lambda: fastnn.Sequential().predict(X), "no layers"),
        (lambda: fastnn.Sequential([layers.Dense(2)]).fit(X, Y), "compile"),
        (lambda: fastnn.Sequential([layers.Dense(2)]).evaluate(X, Y), "compile"),
        (lambda: classifier(optimizer="adamant"), "adamant"),
        (lambda: classifier(loss="cross"), "cross"),
        (lambda: classifier(metrics=["acuracy"]), "acuracy"),
        (lambda: classifier(metrics=["mse", "mse"]), "different names"),
        (lambda: classifier().fit(X, Y[:5]), "samples"),
        (lambda: classifier().fit(X, Y, sample_weight=np.ones(5)), "sample_weight"),
        (lambda: classifier().fit(X[:0], Y[:0]), "samples"),
        (lambda: classifier().fit(X, Y, batch_size=0), "batch_size"),
        (lambda: classifier().fit(X, Y, validation_split=1.5), "validation_split"),
        (lambda: classifier().fit(X, Y, validation_split=1e-20), "validation_split"),
        (lambda: classifier().fit(X, Y, validation_data=(X,)), "validation_data"),
        (lambda: classifier().fit(X, Y, callbacks=[print]), "callback"),
        (lambda: classifier().fit(X, Y + 3, verbose=0), "y_true"),
        (lambda: classifier().fit(np.array(["a"] * 6), Y), "dtype"),
        (lambda: classifier().predict(3.0), "scalar"),
        (lambda: classifier().predict(np.ones((6, 5))), "kernel"),
        (
            lambda: classifier().fit(X, Y, verbose=0, callbacks=[callbacks.EarlyStopping()]),
            "val_loss",
        ),
        (lambda: callbacks.EarlyStopping(mode="best"), "mode"),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError, RuntimeError), match=rf"(?s)^\[.*{message}.*needed"):
        run()


def test_metric_objects_are_used(rng):
    x, y = blobs(rng, 20)
    model = classifier(metrics=[metrics.SparseTopKCategoricalAccuracy(2, "top2"), "sparse_top_k"])
    logs = model.evaluate(x, y, return_dict=True)
    assert set(logs) == {"loss", "top2", "sparse_top_k"} and logs["sparse_top_k"] == 1.0
