"""Layers and models told something impossible: one line, with what is needed."""

import numpy as np
import pytest

import fastnn
from fastnn import layers
from fastnn.callbacks import EarlyStopping

X = np.ones((2, 5, 3), np.float32)


def called(layer, x=X, training=True):
    layer(x, training=training)
    return layer


def compiled():
    model = fastnn.Sequential([layers.Input((3,)), layers.Dense(4, "softmax", name="last")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics="accuracy")
    return model


def fit(**options):
    return lambda: compiled().fit(np.ones((6, 3)), np.zeros(6, int), verbose=0, **options)


CASES = {
    "rank": lambda: layers.LSTM(3)(X[0]),
    "features": lambda: called(layers.LSTM(3))(X[:, :, :2]),
    "text": lambda: called(layers.LSTM(3))("abc"),
    "mask": lambda: layers.LSTM(3)(X, mask=np.ones((5, 2), bool)),
    "lengths": lambda: layers.LSTM(3)(X, lengths=[6, 1]),
    "two states": lambda: layers.LSTM(3)(X, initial_state=np.ones((2, 3))[:1]),
    "dy shape": lambda: called(layers.LSTM(3)).backward(np.ones((2, 4), np.float32)),
    "dy text": lambda: called(layers.Dense(3)).backward("a"),
    "dy of a pool": lambda: called(layers.GlobalMaxPooling1D()).backward(np.ones((1, 1))),
    "weights": lambda: called(layers.Dense(3)).set_weights(None),
    "complex weights": lambda: called(layers.Dense(1)).set_weights([np.ones((3, 1)) * 1j, [0]]),
    "states of Bidirectional": lambda: layers.Bidirectional(layers.LSTM(3))(X, initial_state=5),
    "dy of Bidirectional": lambda: called(layers.Bidirectional(layers.GRU(3), None)).backward((X,)),
    "backward layer": lambda: layers.Bidirectional(layers.GRU(3), backward_layer=layers.Dense(3)),
    "units to add": lambda: layers.Bidirectional(
        layers.GRU(3), "sum", backward_layer=layers.GRU(4, go_backwards=True)
    ),
    "mask of a mean": lambda: layers.GlobalAveragePooling1D()(X, mask=np.ones((3, 3), bool)),
    "reshape": lambda: layers.Reshape("ab"),
    "noise shape": lambda: layers.Dropout(0.5, noise_shape=5),
    "input": lambda: layers.Input((-1, 3)),
    "mask value": lambda: layers.Masking("a"),
    "epochs": fit(epochs=1.5),
    "shuffle": fit(shuffle=5),
    "validation data": fit(validation_data=5),
    "callbacks": fit(callbacks=5),
    "callback": fit(callbacks=[5]),
    "patience": lambda: EarlyStopping(patience=-1),
    "metrics": lambda: compiled().compile("sgd", "mse", 5),
    "ragged rows": lambda: compiled().predict([[1, 2], [1]]),
    "rank of a model": lambda: compiled().predict(np.ones(3)),
    "labels": lambda: compiled().fit(np.ones((6, 3)), np.full(6, 4), verbose=0),
}


@pytest.mark.parametrize("case", CASES)
def test_is_told_in_one_line(case):
    with pytest.raises((TypeError, ValueError)) as error:
        CASES[case]()
    text = str(error.value)
    assert text.startswith("[") and "] " in text and "needed" in text and "\n" not in text


def test_one_callback_needs_no_list():
    stop = EarlyStopping("loss", min_delta=1e9)
    assert len(fit(callbacks=stop, epochs=5)().epoch) == 2
