"""TensorFlow: Keras layers and `tf.nn` inside `tf.function`, with and without XLA."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fastnn.bench.inputs import Arrays, prefixes
from fastnn.bench.jobs import Job, Jobs, Unsupported, Work
from fastnn.bench.layouts import keras_gradients, keras_weights
from fastnn.bench.peers import tensorflow_networks
from fastnn.bench.rows import (
    INFERENCE,
    TRAINING,
    ConvRow,
    DenseRow,
    EpochRow,
    PoolRow,
    RnnRow,
    Row,
)

tf: Any = None
keras: Any = None


def prepare(threads: int) -> str:
    """So many threads inside an operation, operations one after the other."""
    global tf, keras
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    return f"{tf.__version__}, Keras {keras.__version__}"


def jobs(row: Row, arrays: Arrays) -> Jobs:
    """With XLA and without; whole networks as Keras chooses."""
    if isinstance(row, EpochRow):
        return {"fit": tensorflow_networks.epoch(row, arrays)}
    if isinstance(row, PoolRow) and row.kind == "stochastic":
        raise Unsupported("no stochastic pooling")
    makers: dict[type, Callable[[Any, Arrays, bool], Job]] = {
        RnnRow: _recurrent,
        ConvRow: _conv,
        PoolRow: _pool,
        DenseRow: tensorflow_networks.dense,
    }
    make = makers[type(row)]
    return {"graph": make(row, arrays, False), "xla": make(row, arrays, True)}


def _job(
    forward: Any,
    x: Any,
    dy: Any,
    variables: list[Any],
    named: Any,
    order: Any,
    xla: bool,
    noise: bool = False,
) -> Job:
    """``forward(x, training)``; ``named`` gives the gradients of the variables names."""

    @tf.function(jit_compile=xla)
    def infer(x: Any) -> Any:
        return forward(x, False)

    def gradients(x: Any, dy: Any, training: bool) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = forward(x, training)
        return y, tape.gradient(y, [x, *variables], output_gradients=dy)

    train = tf.function(lambda x, dy: gradients(x, dy, True), jit_compile=xla)
    quiet = tf.function(lambda x, dy: gradients(x, dy, False)) if noise else train
    x, dy = tf.constant(x), tf.constant(dy)

    def wait(result: Any) -> Any:
        # An eager tensor is there when the call returns; reading it makes sure.
        (result[0] if isinstance(result, tuple) else result).numpy()
        return result

    def trained(result: Any) -> Arrays:
        y, (dx, *grads) = result
        return {
            "y": order(y.numpy()),
            "dx": order(dx.numpy()),
            **named([grad.numpy() for grad in grads]),
        }

    return {
        INFERENCE: Work(lambda: wait(infer(x)), lambda y: {"y": order(y.numpy())}),
        TRAINING: Work(lambda: wait(train(x, dy)), trained, lambda: quiet(x, dy)),
    }


# --------------------------------------------------------------------------- recurrent


_LAYERS = {"simple_rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}


def _recurrent(row: RnnRow, arrays: Arrays, xla: bool) -> Job:
    x, dy = (arrays[name].swapaxes(0, 1) for name in ("x", "dy"))
    stack: list[Any] = []
    shape: Any = x.shape
    for layer, names in zip(row.layers, prefixes(row), strict=True):
        options: dict[str, Any] = {"activation": layer.activation}
        if row.ragged:
            options["zero_output_for_mask"] = True
        one = getattr(keras.layers, _LAYERS[layer.cell])(
            layer.units,
            return_sequences=True,
            recurrent_dropout=row.recurrent_dropout,
            dtype=row.dtype,
            **options,
        )
        if layer.bidirectional:
            one = keras.layers.Bidirectional(one, dtype=row.dtype)
        one.build(shape)
        shape = one.compute_output_shape(shape)
        one.set_weights([weight for name in names for weight in keras_weights(arrays, name)])
        stack.append(one)
    mask = tf.sequence_mask(arrays["lengths"], row.T) if row.ragged else None

    def forward(y: Any, training: bool) -> Any:
        for one in stack:
            y = one(y, training=training, mask=mask)
        return y

    def named(grads: list[Any]) -> Arrays:
        found: Arrays = {}
        every = [name for names in prefixes(row) for name in names]
        for k, name in enumerate(every):
            found |= keras_gradients(grads[3 * k : 3 * k + 3], name)
        return found

    variables = [weight.value for one in stack for weight in one.trainable_weights]
    noise = bool(row.recurrent_dropout)
    return _job(forward, x, dy, variables, named, lambda y: y.swapaxes(0, 1), xla, noise)


# --------------------------------------------------------------------------- windows


def _same(array: Any) -> Any:
    return array


def _conv(row: ConvRow, arrays: Arrays, xla: bool) -> Job:
    kernel, bias = tf.Variable(arrays["kernel"]), tf.Variable(arrays["bias"])
    n, ends = len(row.size), [row.pad, row.pad]
    pads = [[0, 0], *[ends] * n, [0, 0]]
    keeps = row.stride == 1 and 2 * row.pad == (row.kernel - 1) * row.dilation

    def forward(x: Any, training: bool) -> Any:
        padding = "SAME" if keeps else "VALID"
        if row.pad and not keeps:
            x = tf.pad(x, pads)
        if row.groups > 1:
            # [k, k, 1, C]: TensorFlow wants the channels before the multiplier.
            y = tf.nn.depthwise_conv2d(
                x, tf.transpose(kernel, (0, 1, 3, 2)), [1, row.stride, row.stride, 1], padding
            )
        else:
            y = tf.nn.convolution(
                x, kernel, [row.stride] * n, padding, dilations=[row.dilation] * n
            )
        return tf.nn.bias_add(y, bias)

    def named(grads: list[Any]) -> Arrays:
        return {"dkernel": grads[0], "dbias": grads[1]}

    if row.groups not in (1, row.C):
        raise Unsupported("no gradient of grouped convolutions")
    return _job(forward, arrays["x"], arrays["dy"], [kernel, bias], named, _same, xla)


def _pool(row: PoolRow, arrays: Arrays, xla: bool) -> Job:
    op = tf.nn.max_pool2d if row.kind == "max" else tf.nn.avg_pool2d

    def forward(x: Any, training: bool) -> Any:
        return op(x, row.pool, row.stride, "VALID")

    return _job(forward, arrays["x"], arrays["dy"], [], lambda grads: {}, _same, xla)
