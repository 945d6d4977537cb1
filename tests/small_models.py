"""A small model and data that it can learn, for tests of training."""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn import layers, optimizers


def blobs(rng, count=240, classes=3, features=4):
    """Classes that a linear model can tell apart."""
    y = rng.integers(0, classes, count).astype(np.int32)
    x = rng.normal(size=(count, features)).astype("float32")
    x[np.arange(count), y] += 4
    return x, y


def classifier(*, features=4, classes=3, **compiling):
    model = fastnn.Sequential(
        [layers.Input((features,)), layers.Dense(8, "tanh"), layers.Dense(classes, "softmax")]
    )
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | compiling
    model.compile(options.pop("optimizer", optimizers.Adam(0.05)), **options)
    return model
