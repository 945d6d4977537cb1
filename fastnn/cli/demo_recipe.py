"""What the demo trains: which data, split how, which model, for how long."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastnn import datasets, layers, optimizers
from fastnn.models import Sequential

UNITS = 150
LEARNING_RATE = 0.001
VALIDATION_SHARE = 20  # one training image in so many is held out


class Plan(NamedTuple):
    """How a data set is called and trained for unless the user says otherwise."""

    title: str
    largest: float  # value of a pixel
    epochs: int
    batch_size: int


# The embedded digits are few: smaller batches and more epochs give them as many updates.
PLANS = {
    "mnist": Plan("MNIST", 255.0, 6, 150),
    "fashion_mnist": Plan("Fashion-MNIST", 255.0, 6, 150),
    "digits": Plan("the UCI digits", 16.0, 30, 30),
}


class Split(NamedTuple):
    """Images scaled to 0..1 as float32 ``[N, height, width]``, labels int64 ``[N]``."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load_data(name: str) -> tuple[datasets.Dataset, str | None]:
    """The data set, and why it is not MNIST where "auto" had to take the embedded digits."""
    if name != "auto":
        return datasets.load(name), None
    try:
        return datasets.mnist(), None
    except datasets.DatasetUnavailableError as error:
        return datasets.digits(), str(error)


def split(data: datasets.Dataset, seed: int) -> Split:
    """Scale the images by their largest possible value and hold out images for validation."""
    largest = np.float32(PLANS[data.name].largest)
    order = np.random.default_rng(seed).permutation(len(data.x_train))
    held_out = max(1, len(order) // VALIDATION_SHARE)
    val, train = order[:held_out], order[held_out:]
    return Split(
        data.x_train[train] / largest,
        data.y_train[train],
        data.x_train[val] / largest,
        data.y_train[val],
        data.x_test / largest,
        data.y_test,
    )


def build_model(name: str, image: tuple[int, int], classes: int) -> tuple[Sequential, str]:
    """A compiled model for images ``[B, height, width]``, and what it is in words.

    The recurrent models read an image as a sequence, one row of pixels a step.
    """
    height, width = image
    reads = f"{height} steps of {width} pixels"
    if name == "cnn":
        body = [
            layers.Reshape((height, width, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
        ]
        words = "Conv2D(32) - MaxPooling2D - Conv2D(64) - MaxPooling2D"
        reads = f"{height} x {width} pixels"
    else:
        cell = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[name]
        body = [cell(UNITS)]
        words = f"{cell.__name__}({UNITS})"
    model = Sequential([*body, layers.Dense(classes, activation="softmax")])
    model.build((None, height, width))
    model.compile(
        optimizer=optimizers.Adam(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model, f"{words} - Dense({classes}, softmax), on {reads}"
