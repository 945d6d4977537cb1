"""What the families of Keras's frozen cases share: one source of numbers, and a layer's case.

For `make_keras_oracle.py`, which sets the paths and Keras's backend before it imports this.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from frozen import Case, grid, numbered

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
