"""Keras's whole networks: a training step, and an epoch of `fit`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.bench.inputs import CLASSES, IMAGE, Arrays
from fastnn.bench.jobs import Job, Work
from fastnn.bench.networks import ADAM_EPSILON, CHECK_BATCHES, RATE_ADAM, RATE_SGD, stepped
from fastnn.bench.rows import INFERENCE, TRAINING, DenseRow, EpochRow


def dense(row: DenseRow, arrays: Arrays, xla: bool) -> Job:
    """A step in one `tf.function`, which is faster than `train_on_batch`."""
    import keras
    import tensorflow as tf

    count = len(row.widths) - 1
    model = keras.Sequential(
        [
            keras.layers.Dense(units, "relu" if i < count - 1 else None, dtype=row.dtype)
            for i, units in enumerate(row.widths[1:])
        ]
    )
    model.build((row.B, row.widths[0]))
    initial = [arrays[f"{i}.{name}"] for i in range(count) for name in ("kernel", "bias")]
    model.set_weights(initial)
    x, labels = tf.constant(arrays["x"]), tf.constant(arrays["labels"])
    variables = [weight.value for weight in model.trainable_weights]

    @tf.function(jit_compile=xla)
    def step(x: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        for variable, grad in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(RATE_SGD * grad)
        return loss

    @tf.function(jit_compile=xla)
    def infer(x: Any) -> Any:
        return tf.nn.softmax(model(x, training=False))

    def fresh(run: Any) -> Any:
        model.set_weights(initial)
        return run()

    return {
        INFERENCE: Work(
            lambda: infer(x).numpy(), lambda y: {"y": y}, lambda: fresh(lambda: infer(x).numpy())
        ),
        TRAINING: Work(
            lambda: step(x, labels).numpy(),
            lambda loss: stepped(float(loss), model.get_weights(), arrays),
            lambda: fresh(lambda: step(x, labels).numpy()),
        ),
    }


def epoch(row: EpochRow, arrays: Arrays) -> Job:
    """`Model.fit` over the images, shuffled, compiled as Keras chooses."""
    import keras

    x, labels = arrays["x"], arrays["labels"]
    weights = ["0.kernel", "0.bias", "1.kernel", "1.bias"]
    if row.network == "rnn":
        weights.insert(1, "0.recurrent_kernel")
    else:
        x = x[..., None]
        weights = ["conv.kernel", "conv.bias", *weights]

    def build() -> Any:
        head = keras.layers.Dense(CLASSES, "softmax")
        if row.network == "rnn":
            body: list[Any] = [keras.layers.SimpleRNN(row.units)]
        else:
            body = [
                keras.layers.Conv2D(row.units, 5, activation="relu"),
                keras.layers.MaxPooling2D(2),
                keras.layers.Flatten(),
                keras.layers.Dense(100, "relu"),
            ]
        model = keras.Sequential([keras.Input((IMAGE, *x.shape[2:])), *body, head])
        model.set_weights([arrays[name] for name in weights])
        adam = keras.optimizers.Adam(RATE_ADAM, epsilon=ADAM_EPSILON)
        model.compile(adam, "sparse_categorical_crossentropy")
        return model

    def fit(model: Any, count: int | None = None) -> Any:
        model.fit(x[:count], labels[:count], row.batch, verbose=0, shuffle=count is None)
        return model

    def check() -> Any:
        model = fit(build(), CHECK_BATCHES * row.batch)
        return np.asarray(model.predict_on_batch(x[: row.batch]))

    model = build()
    return {TRAINING: Work(lambda: fit(model), lambda p: {"p": p}, check)}
