"""fastnn's whole networks: a training step, and an epoch of `fit`."""

from __future__ import annotations

from typing import Any

from fastnn import Sequential, layers, optimizers
from fastnn.bench.inputs import CLASSES, IMAGE, Arrays
from fastnn.bench.jobs import Job, Work
from fastnn.bench.networks import ADAM_EPSILON, CHECK_BATCHES, RATE_ADAM, RATE_SGD, stepped
from fastnn.bench.rows import INFERENCE, TRAINING, DenseRow, EpochRow

LOSS = "sparse_categorical_crossentropy"


def dense(row: DenseRow, arrays: Arrays) -> Job:
    """`Sequential.train_on_batch` with SGD."""
    x, labels = arrays["x"], arrays["labels"]
    count = len(row.widths) - 1
    body = [
        layers.Dense(units, "relu" if i < count - 1 else "softmax", dtype=row.dtype)
        for i, units in enumerate(row.widths[1:])
    ]
    model = Sequential(body)
    model.build((None, row.widths[0]))
    initial = [arrays[f"{i}.{name}"] for i in range(count) for name in ("kernel", "bias")]
    model.set_weights(initial)
    model.compile(optimizers.SGD(RATE_SGD), LOSS)

    def check() -> Any:
        model.set_weights(initial)
        loss = model.train_on_batch(x, labels)
        return loss, model.get_weights()

    def infer() -> Any:
        return model.predict_on_batch(x)

    def inferred() -> Any:
        model.set_weights(initial)
        return infer()

    return {
        INFERENCE: Work(infer, lambda y: {"y": y}, inferred),
        TRAINING: Work(
            lambda: model.train_on_batch(x, labels), lambda r: stepped(r[0], r[1], arrays), check
        ),
    }


def epoch(row: EpochRow, arrays: Arrays) -> Job:
    """`Sequential.fit` over the images, shuffled."""
    x, labels = arrays["x"], arrays["labels"]
    weights = ["0.kernel", "0.bias", "1.kernel", "1.bias"]
    if row.network == "rnn":
        body: list[Any] = [layers.SimpleRNN(row.units), layers.Dense(CLASSES, "softmax")]
        weights.insert(1, "0.recurrent_kernel")
    else:
        x = x[..., None]
        body = [
            layers.Conv2D(row.units, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(100, "relu"),
            layers.Dense(CLASSES, "softmax"),
        ]
        weights = ["conv.kernel", "conv.bias", *weights]

    def build() -> Sequential:
        model = Sequential([type(one).from_config(one.get_config()) for one in body])
        model.build((None, IMAGE, *x.shape[2:]))
        model.set_weights([arrays[name] for name in weights])
        model.compile(optimizers.Adam(RATE_ADAM, epsilon=ADAM_EPSILON), LOSS)
        return model

    def fit(model: Sequential, count: int | None = None) -> Sequential:
        model.fit(x[:count], labels[:count], row.batch, verbose=0, shuffle=count is None)
        return model

    def check() -> Any:
        return fit(build(), CHECK_BATCHES * row.batch).predict(x[: row.batch], row.batch)

    model = build()
    return {TRAINING: Work(lambda: fit(model), lambda p: {"p": p}, check)}
