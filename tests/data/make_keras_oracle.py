"""Make keras_oracle.npz: what Keras 3 (TensorFlow, CPU, float64) computes.

Run it where tensorflow-cpu and keras are installed, from anywhere:

    pip install tensorflow-cpu==2.21.0 && python tests/data/make_keras_oracle.py

Every layer case holds inputs ``x0..`` (and ``mask``, ``state0..``), weights ``w0..`` in the order
of ``get_weights``, outputs ``y0..``, a fixed random ``r0..`` of the shapes of the outputs, and
the gradients of ``sum(y * r)``: ``dx0..``, ``dw0..``, ``dstate0..``. Inputs and weights are exact
in float32, so the float64 results serve both dtypes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import tensorflow as tf
from frozen import Case, grid, numbered, save

keras.config.set_floatx("float64")
RNG = np.random.default_rng(20)
CASES: list[Case] = []

MASK_RIGHT = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
MASK_HOLES = np.array([[0, 1, 0, 1, 1], [1, 1, 0, 0, 1], [0, 0, 0, 0, 0]], bool)


def make(spec):
    """A Keras layer of ``[class name, arguments]``, nested where an argument is a layer."""
    name, arguments = spec
    if name == "Sequential":
        return keras.Sequential([make(inner) for inner in arguments["layers"]])
    arguments = {k: make(v) if k == "layer" else v for k, v in arguments.items()}
    return getattr(keras.layers, name)(**arguments)


TRANSPOSED = ("Conv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D")


def transposed(spec):
    """A channels-first layer by the channels-last one: TensorFlow has no other on the CPU."""
    cls, config = spec
    layer = make([cls, config | {"data_format": "channels_last"}])

    def call(x):
        return tf.transpose(layer(tf.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))

    return layer, call


def layer_case(name, spec, x, *, mask=None, states=(), calls=1):
    """Freeze one layer: outputs and gradients of the last of ``calls`` calls.

    Integer inputs have no gradient.
    """
    keras.utils.set_random_seed(1)
    if spec[0] in TRANSPOSED and spec[1].get("data_format") == "channels_first":
        layer, run = transposed(spec)
    else:
        layer = run = make(spec)
    x = np.asarray(x)
    source = tf.Variable(x) if x.dtype.kind == "f" else tf.constant(x)
    states = [tf.Variable(s) for s in states]
    call = {}
    if mask is not None:
        call["mask"] = tf.constant(mask)
    if states:
        call["initial_state"] = states if len(states) > 1 else states[0]
    run(source, **call)
    if spec[1].get("stateful"):
        layer.reset_state()
    weights = [grid(RNG, *w.shape, scale=0.5) for w in layer.get_weights()]
    layer.set_weights(weights)
    for _ in range(calls - 1):  # a stateful layer goes on from where the call before ended
        run(source, **call)
    with tf.GradientTape() as tape:
        out = tf.nest.flatten(run(source, **call))
        upstream = [grid(RNG, *o.shape) for o in out]
        total = tf.add_n([tf.reduce_sum(o * r) for o, r in zip(out, upstream, strict=True)])
    inputs = [source] if x.dtype.kind == "f" else []
    variables = [w.value for w in layer.trainable_weights]
    assert len(variables) == len(weights)
    grads = tape.gradient(total, inputs + states + variables)
    grads = [tf.convert_to_tensor(g).numpy() for g in grads]
    n, m = len(inputs), len(inputs) + len(states)
    arrays = (
        {"x0": x}
        | numbered("w", weights)
        | numbered("state", [s.numpy() for s in states])
        | numbered("y", [o.numpy() for o in out])
        | numbered("r", upstream)
        | numbered("dx", grads[:n])
        | numbered("dstate", grads[n:m])
        | numbered("dw", grads[m:])
    )
    if mask is not None:
        arrays["mask"] = mask
    CASES.append(Case(f"layer/{name}", {"kind": "layer", "layer": spec, "calls": calls}, arrays))


def recurrent():
    x = grid(RNG, 3, 5, 2)
    cells = {
        "simple_rnn": ["SimpleRNN", {"units": 3}],
        "simple_rnn_relu": ["SimpleRNN", {"units": 3, "activation": "relu"}],
        "lstm": ["LSTM", {"units": 3}],
        "gru": ["GRU", {"units": 3, "reset_after": True}],
        "gru_before": ["GRU", {"units": 3, "reset_after": False}],
    }
    for cell, (cls, base) in cells.items():
        for sequences in (False, True):
            for backwards in (False, True):
                config = base | {"return_sequences": sequences, "go_backwards": backwards}
                tag = cell + "-sequences" * sequences + "-backwards" * backwards
                layer_case(tag, [cls, config], x)
                if cell != "simple_rnn_relu":
                    if sequences or not backwards:
                        layer_case(tag + "-mask_right", [cls, config], x, mask=MASK_RIGHT)
                    layer_case(tag + "-mask_holes", [cls, config], x, mask=MASK_HOLES)
        state = [grid(RNG, 3, 3) for _ in range(2 if cls == "LSTM" else 1)]
        config = base | {"return_sequences": True, "return_state": True}
        layer_case(f"{cell}-states", [cls, config], x, states=state)
        layer_case(f"{cell}-states-mask", [cls, config], x, states=state, mask=MASK_RIGHT)
        layer_case(f"{cell}-stateful", [cls, base | {"stateful": True}], x, calls=2)
        layer_case(f"{cell}-state_only", [cls, base | {"return_state": True}], x)
        layer_case(f"{cell}-no_bias", [cls, base | {"use_bias": False}], x)
    for mode in ("concat", "sum", "mul", "ave", None):
        for sequences in (False, True):
            inner = ["LSTM", {"units": 3, "return_sequences": sequences}]
            spec = ["Bidirectional", {"layer": inner, "merge_mode": mode}]
            layer_case(f"bidirectional-{mode}" + "-sequences" * sequences, spec, x)
    for cell in ("lstm", "gru", "simple_rnn"):
        for sequences in (False, True):
            cls, base = cells[cell]
            spec = ["Bidirectional", {"layer": [cls, base | {"return_sequences": sequences}]}]
            tag = f"bidirectional-{cell}" + "-sequences" * sequences
            layer_case(tag + "-mask_right", spec, x, mask=MASK_RIGHT)
            layer_case(tag + "-mask_holes", spec, x, mask=MASK_HOLES)
    inner = ["LSTM", {"units": 3, "return_state": True}]
    layer_case("bidirectional-states", ["Bidirectional", {"layer": inner}], x)
    stack = [
        ["LSTM", {"units": 3, "return_sequences": True}],
        ["GRU", {"units": 4, "return_sequences": True}],
        ["SimpleRNN", {"units": 2}],
        ["Dense", {"units": 3, "activation": "tanh"}],
    ]
    layer_case("stacked", ["Sequential", {"layers": stack}], x)
    gaps = x * MASK_HOLES[:, :, None]
    skip = [["Masking", {}], ["LSTM", {"units": 3, "return_sequences": True}]]
    layer_case("masking-lstm", ["Sequential", {"layers": skip}], gaps)
    words = np.array([[1, 4, 2, 0, 0], [3, 3, 5, 1, 2], [6, 0, 0, 0, 0]])
    embedding = ["Embedding", {"input_dim": 7, "output_dim": 3}]
    masked = ["Embedding", {"input_dim": 7, "output_dim": 3, "mask_zero": True}]
    layer_case("embedding", embedding, words)
    for tag, first in (("embedding", embedding), ("mask_zero", masked)):
        pair = [first, ["LSTM", {"units": 3}]]
        layer_case(f"{tag}-lstm", ["Sequential", {"layers": pair}], words)
    deep = [
        masked,
        ["Bidirectional", {"layer": ["GRU", {"units": 2, "return_sequences": True}]}],
        ["LSTM", {"units": 2, "return_sequences": True}],
        ["TimeDistributed", {"layer": ["Dense", {"units": 2}]}],
    ]
    layer_case("mask_zero-deep", ["Sequential", {"layers": deep}], words)


def convolution():
    image = grid(RNG, 2, 7, 6, 4)
    base = {"filters": 4, "kernel_size": 3}
    variants = {
        "valid": {},
        "same": {"padding": "same"},
        "strides": {"strides": 2},
        "same-strides": {"strides": [2, 3], "padding": "same", "kernel_size": [3, 2]},
        "same-even": {"kernel_size": [4, 2], "padding": "same"},
        "dilation": {"dilation_rate": 2},
        "same-dilation": {"dilation_rate": [2, 1], "padding": "same"},
        "groups": {"groups": 2},
        "groups-depthwise-same": {"groups": 4, "padding": "same", "strides": 2, "filters": 8},
        "relu": {"activation": "relu"},
        "tanh-no_bias": {"activation": "tanh", "use_bias": False},
        "1x1": {"kernel_size": 1},
        "wide_stride": {"kernel_size": 2, "strides": 3},
        "channels_first": {"data_format": "channels_first"},
        "channels_first-same-strides": {
            "data_format": "channels_first",
            "padding": "same",
            "strides": 2,
        },
    }
    for tag, change in variants.items():
        x = image.transpose(0, 3, 1, 2).copy() if "data_format" in change else image
        layer_case(f"conv2d-{tag}", ["Conv2D", base | change], x)
    series = grid(RNG, 2, 9, 4)
    for tag, change in {
        "valid": {},
        "same-strides": {"padding": "same", "strides": 2},
        "causal": {"padding": "causal", "dilation_rate": 2},
        "dilation-groups": {"dilation_rate": 2, "groups": 2},
        "sigmoid": {"activation": "sigmoid", "kernel_size": 4, "padding": "same"},
    }.items():
        layer_case(f"conv1d-{tag}", ["Conv1D", base | change], series)
    depth = {"kernel_size": 3, "depth_multiplier": 2}
    for tag, change in {
        "valid": {},
        "same-strides": {"padding": "same", "strides": 2},
        "dilation-relu": {"dilation_rate": 2, "activation": "relu"},
        "dilation-strides": {"dilation_rate": 2, "strides": 2, "padding": "same"},
        "multiplier1": {"depth_multiplier": 1},
    }.items():
        layer_case(f"depthwise-{tag}", ["DepthwiseConv2D", depth | change], image)


def pooling():
    image = grid(RNG, 2, 7, 6, 2)
    series = grid(RNG, 2, 7, 3)
    shapes = {
        "default": {"pool_size": 2},
        "overlap": {"pool_size": 3, "strides": 2},
        "same": {"pool_size": 3, "strides": 2, "padding": "same"},
        "same-even": {"pool_size": 2, "strides": 1, "padding": "same"},
        "gaps": {"pool_size": 2, "strides": 3},
    }
    for tag, change in shapes.items():
        for kind in ("Max", "Average"):
            layer_case(f"{kind}2d-{tag}", [f"{kind}Pooling2D", change], image)
            layer_case(f"{kind}1d-{tag}", [f"{kind}Pooling1D", change], series)
    first = image.transpose(0, 3, 1, 2).copy()
    for kind in ("Max", "Average"):
        change = {"pool_size": [3, 2], "strides": [1, 2], "padding": "same"}
        layer_case(f"{kind}2d-rectangle", [f"{kind}Pooling2D", change], image)
        layer_case(f"Global{kind}2d", [f"Global{kind}Pooling2D", {}], image)
        keep = [f"Global{kind}Pooling2D", {"keepdims": True}]
        layer_case(f"Global{kind}2d-keepdims", keep, image)
        layer_case(f"Global{kind}1d", [f"Global{kind}Pooling1D", {}], series)
        first_spec = [f"Global{kind}Pooling2D", {"data_format": "channels_first"}]
        layer_case(f"Global{kind}2d-channels_first", first_spec, first)
        change = {"pool_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first"}
        layer_case(f"{kind}2d-channels_first", [f"{kind}Pooling2D", change], first)
    mask = MASK_RIGHT[:2]
    layer_case("GlobalAverage1d-mask", ["GlobalAveragePooling1D", {}], series[:, :5], mask=mask)


ACTIVATIONS = [
    "linear",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "softplus",
    "softsign",
    "exponential",
    "silu",
    "gelu",
    "softmax",
    "log_softmax",
]


def dense():
    x = grid(RNG, 4, 5)
    for activation in (None, "relu", "tanh", "sigmoid", "softmax", "gelu"):
        spec = ["Dense", {"units": 3, "activation": activation}]
        layer_case(f"dense-{activation}", spec, x)
    layer_case("dense-no_bias", ["Dense", {"units": 3, "use_bias": False}], x)
    steps = grid(RNG, 2, 3, 4)
    layer_case("dense-3d", ["Dense", {"units": 2, "activation": "relu"}], steps)
    inner = ["Dense", {"units": 2, "activation": "softmax"}]
    layer_case("time_distributed-dense", ["TimeDistributed", {"layer": inner}], steps)
    layer_case("flatten", ["Flatten", {}], steps)
    first = ["Flatten", {"data_format": "channels_first"}]
    layer_case("flatten-channels_first", first, grid(RNG, 2, 3, 2, 2))
    layer_case("reshape", ["Reshape", {"target_shape": [2, -1]}], steps)
    # Off the kinks (0, and 3 of hard_sigmoid), where a gradient is a convention.
    wide = np.array([-30, -8.5, -3.25, -1.5, -0.25, -1 / 64, 1 / 64, 0.5, 1.75, 3.25, 8.5, 20.0])
    wide = RNG.permuted(np.stack([wide, wide * 0.5, wide[::-1] * 0.25]), axis=1).reshape(6, 6)
    for activation in ACTIVATIONS:
        layer_case(f"activation-{activation}", ["Activation", {"activation": activation}], wide)


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


def main() -> None:
    for family in (recurrent, convolution, pooling, dense, losses, optimizers, training):
        family()
    path = Path(__file__).with_name("keras_oracle.npz")
    save(path, CASES, {"keras": keras.__version__, "tensorflow": tf.__version__})
    print(f"{path.name}: {len(CASES)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
