"""Frozen cases of what learns: losses, steps of optimizers, whole fits."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from frozen import Case, grid, numbered
from keras_cases import CASES, RNG, make


def losses():
    names = {
        "mean_squared_error": "MeanSquaredError",
        "mean_absolute_error": "MeanAbsoluteError",
        "huber": "Huber",
        "binary_crossentropy": "BinaryCrossentropy",
        "categorical_crossentropy": "CategoricalCrossentropy",
        "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    }
    for name, cls in names.items():
        variants = [{"from_logits": b} for b in (True, False)] if "entropy" in name else [{}]
        if name == "huber":
            variants.append({"delta": 0.5})
        for config in variants:
            for shape in ((5, 4), (2, 3, 4)):
                for weighted in (False, True):
                    loss_case(name, cls, config, shape, weighted)
            # Sparse from probabilities: Keras's backends differ (TensorFlow clips, then divides by
            # the sum; JAX and PyTorch, as its dense form, divide and then clip).
            if "entropy" in name and (config["from_logits"] or not name.startswith("sparse")):
                saturated(name, cls, config)


def loss_case(name, cls, config, shape, weighted):
    logits = grid(RNG, *shape, scale=2.0)
    labels = RNG.integers(0, shape[-1], shape[:-1])
    y_pred, y_true = logits, grid(RNG, *shape)
    if name == "binary_crossentropy":
        y_true = RNG.integers(0, 2, shape).astype(float)
    elif name == "sparse_categorical_crossentropy":
        y_true = labels
    elif name == "categorical_crossentropy":
        y_true = np.eye(shape[-1])[labels]
    if config.get("from_logits") is False:
        y_pred = 1 / (1 + np.exp(-logits))
        if "categorical" in name:
            y_pred = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        y_pred = y_pred.astype(np.float32).astype(np.float64)
    sample_weight = RNG.integers(0, 9, shape[:-1]) / 4 if weighted else None
    freeze_loss(name, cls, config, f"{len(shape)}d", y_true, y_pred, sample_weight)


def saturated(name, cls, config):
    """Certainty, right and wrong: probabilities of 0 and 1, logits of +-60."""
    certain = np.array([[0.0, 1, 0], [0, 1, 0], [0.5, 0.5, 0], [0.25, 0.5, 0.25]])
    labels = np.array([1, 2, 2, 0])
    y_true = labels if name.startswith("sparse") else np.eye(3)[labels]
    y_pred = certain * 120 - 60 if config["from_logits"] else certain
    freeze_loss(name, cls, config, "saturated", y_true, y_pred, None)


def freeze_loss(name, cls, config, tag, y_true, y_pred, sample_weight):
    arrays = {"y_true": y_true, "y_pred": y_pred}
    if sample_weight is not None:
        arrays["sample_weight"] = sample_weight
    source = tf.Variable(y_pred)
    with tf.GradientTape() as tape:
        loss = getattr(keras.losses, cls)(**config, dtype="float64")
        value = loss(tf.constant(y_true), source, sample_weight=sample_weight)
    arrays["value"] = value.numpy()
    arrays["dy"] = tape.gradient(value, source).numpy()
    parts = [name, *(f"{k}={v}" for k, v in config.items()), tag]
    tag = "-".join(parts + ["weighted"] * (sample_weight is not None))
    spec = {"kind": "loss", "loss": name, "class": cls, "config": config}
    CASES.append(Case(f"loss/{tag}", spec, arrays))


# Keras rounds Python numbers to float32 on their way into a float64 computation; not these.
EXACT_BETAS = {"beta_1": 0.875, "beta_2": 1 - 2**-10}


def optimizers():
    start = [grid(RNG, 3, 2), grid(RNG, 4)]
    gradients = [[grid(RNG, *p.shape, scale=2.0) for p in start] for _ in range(5)]
    for cls, config in (
        ("SGD", {"learning_rate": 0.125}),
        ("SGD", {"learning_rate": 0.125, "momentum": 0.75}),
        ("SGD", {"learning_rate": 0.125, "momentum": 0.75, "nesterov": True}),
        ("SGD", {"learning_rate": 0.125, "clipnorm": 1.5}),
        ("SGD", {"learning_rate": 0.125, "clipvalue": 0.75}),
        ("SGD", {"learning_rate": 0.125, "global_clipnorm": 2.0}),
        ("RMSprop", {}),
        ("RMSprop", {"learning_rate": 0.0625, "rho": 0.75, "momentum": 0.5}),
        ("RMSprop", {"learning_rate": 0.0625, "centered": True}),
        ("RMSprop", {"learning_rate": 0.0625, "clipnorm": 1.5}),
        ("Adam", {}),
        ("Adam", {"learning_rate": 0.0625, "beta_1": 0.75, "beta_2": 0.875, "epsilon": 0.001}),
        ("Adam", {"learning_rate": 0.0625, "amsgrad": True, **EXACT_BETAS}),
        ("Adam", {"learning_rate": 0.0625, "global_clipnorm": 2.0, **EXACT_BETAS}),
        ("Adam", {"learning_rate": 0.0625, "clipvalue": 0.75, **EXACT_BETAS}),
    ):
        optimizer = getattr(keras.optimizers, cls)(**config)
        variables = [keras.Variable(p, dtype="float64") for p in start]
        arrays = numbered("p", start)
        for step, grads in enumerate(gradients):
            optimizer.apply([tf.constant(g) for g in grads], variables)
            arrays |= numbered(f"g{step}_", grads)
            arrays |= numbered(f"p{step}_", [v.numpy() for v in variables])
        tag = "-".join([cls.lower(), *(f"{k}={v}" for k, v in config.items())])
        spec = {"kind": "optimizer", "optimizer": cls, "config": config}
        CASES.append(Case(f"optimizer/{tag}", spec, arrays))


def training():
    """Whole fits without shuffling: weights before and after, and the history."""
    x, rows = grid(RNG, 10, 4, 2), RNG.integers(0, 3, 10)
    classes = [["SimpleRNN", {"units": 3}], ["Dense", {"units": 3, "activation": "softmax"}]]
    line = [["GRU", {"units": 2}], ["Dense", {"units": 1}]]
    scce = ["SparseCategoricalCrossentropy", {}]
    adam = ["Adam", {"learning_rate": 0.0625, **EXACT_BETAS}]
    fit_case("classes", classes, adam, scce, ["accuracy"], x, rows)
    weight = RNG.integers(1, 9, 10) / 4
    fit_case("weighted", classes, adam, scce, ["accuracy"], x, rows, sample_weight=weight)
    sgd = ["SGD", {"learning_rate": 0.125, "momentum": 0.5, "clipnorm": 0.25}]
    fit_case("regression", line, sgd, ["MeanSquaredError", {}], ["mae"], x, grid(RNG, 10, 1))
    words = np.array([[1, 2, 0], [3, 0, 0], [2, 2, 1], [0, 1, 3], [1, 0, 0]])
    tags = [
        ["Embedding", {"input_dim": 4, "output_dim": 2, "mask_zero": True}],
        ["LSTM", {"units": 2, "return_sequences": True}],
        ["Dense", {"units": 3, "activation": "softmax"}],
    ]
    rows = RNG.integers(0, 3, (5, 3))
    # Not Adam: Keras on TensorFlow squares an embedding's gradient before it adds up the rows of
    # one word, so that its Adam there is not Adam.
    plain = ["SGD", {"learning_rate": 0.5}]
    fit_case("masked", tags, plain, scce, ["accuracy"], words, rows)
    weight = RNG.integers(1, 9, (5, 3)) / 4
    fit_case("masked-weighted", tags, plain, scce, [], words, rows, sample_weight=weight)


def fit_case(name, layers, optimizer, loss, metrics, x, y, sample_weight=None):
    keras.utils.set_random_seed(1)
    model = make(["Sequential", {"layers": layers}])
    model(x)
    weights = [grid(RNG, *w.shape, scale=0.5) for w in model.get_weights()]
    model.set_weights(weights)
    model.compile(
        getattr(keras.optimizers, optimizer[0])(**optimizer[1]),
        getattr(keras.losses, loss[0])(**loss[1]),
        metrics=metrics,
        jit_compile=False,
    )
    arguments = {"batch_size": 4, "epochs": 3, "shuffle": False, "verbose": 0}
    history = model.fit(
        x,
        y,
        validation_data=(x[:3], y[:3]),
        sample_weight=sample_weight,
        **arguments,
    ).history
    arrays = {"x": x, "y": y} | numbered("w", weights) | numbered("after", model.get_weights())
    arrays |= {f"history_{key}": np.array(values) for key, values in history.items()}
    if sample_weight is not None:
        arrays["sample_weight"] = sample_weight
    spec = {
        "kind": "fit",
        "layers": layers,
        "optimizer": optimizer,
        "loss": loss,
        "metrics": metrics,
        "arguments": arguments,
    }
    CASES.append(Case(f"fit/{name}", spec, arrays))
