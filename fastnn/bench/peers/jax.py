"""JAX: `lax.scan` and `lax.conv_general_dilated` under `jit`.

Its thread pool is as large as the number of cores that the process may use, which the worker has
set before this is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.bench.inputs import Arrays, prefixes, weight_names
from fastnn.bench.jobs import Job, Jobs, Unsupported, Work
from fastnn.bench.networks import RATE_SGD, stepped
from fastnn.bench.rows import (
    GATES,
    INFERENCE,
    TRAINING,
    ConvRow,
    DenseRow,
    PoolRow,
    RnnRow,
    Row,
)

jax: Any = None
jnp: Any = None


def prepare(threads: int) -> str:
    """Import JAX; float64 where a row asks for it."""
    global jax, jnp
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    return str(jax.__version__)


def jobs(row: Row, arrays: Arrays) -> Jobs:
    """One variant: the compiler chooses the rest."""
    if isinstance(row, RnnRow):
        if row.recurrent_dropout:
            raise Unsupported("no recurrent dropout")
        return {"scan": _recurrent(row, arrays)}
    if isinstance(row, ConvRow):
        return {"jit": _conv(row, arrays)}
    if isinstance(row, PoolRow):
        return {"jit": _pool(row, arrays)}
    if isinstance(row, DenseRow):
        return {"jit": _dense(row, arrays)}
    raise Unsupported("no training loop of its own")


def _job(forward: Any, x: Any, dy: Any, parameters: dict[str, Any]) -> Job:
    """``forward(x, parameters)`` and its vector-Jacobian product, each one compiled function."""

    def gradients(x: Any, parameters: Any, dy: Any) -> Any:
        y, pull = jax.vjp(forward, x, parameters)
        return y, pull(dy)

    infer, train = jax.jit(forward), jax.jit(gradients)
    x, dy = jnp.asarray(x), jnp.asarray(dy)
    parameters = {name: jnp.asarray(array) for name, array in parameters.items()}

    def trained(result: Any) -> Arrays:
        y, (dx, grads) = result
        named = {f"d{name}": np.asarray(grad) for name, grad in grads.items()}
        return {"y": np.asarray(y), "dx": np.asarray(dx), **named}

    return {
        INFERENCE: Work(
            lambda: infer(x, parameters).block_until_ready(), lambda y: {"y": np.asarray(y)}
        ),
        TRAINING: Work(lambda: jax.block_until_ready(train(x, parameters, dy)), trained),
    }


# --------------------------------------------------------------------------- recurrent


def _recurrent(row: RnnRow, arrays: Arrays) -> Job:
    names = [
        prefix + name
        for i, directions in enumerate(prefixes(row))
        for prefix in directions
        for name in weight_names(row, i)
    ]
    within = None
    if row.ragged:
        within = jnp.asarray(np.arange(row.T)[:, None] < arrays["lengths"])[..., None]

    def forward(y: Any, weights: Any) -> Any:
        for layer, directions in zip(row.layers, prefixes(row), strict=True):
            both = [
                _direction(layer, {n: weights.get(p + n) for n in _NAMES}, y, within, "r" in p)
                for p in directions
            ]
            y = jnp.concatenate(both, -1)
        return y

    return _job(forward, arrays["x"], arrays["dy"], {name: arrays[name] for name in names})


_NAMES = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")


def _direction(layer: Any, weights: dict[str, Any], x: Any, within: Any, reverse: bool) -> Any:
    """h at every step; ``x W`` is one product before the scan."""
    step = {"simple_rnn": _simple, "lstm": _lstm, "gru": _gru}[layer.cell](layer, weights)
    zero = jnp.zeros((x.shape[1], layer.units), x.dtype)
    carry = (zero, zero) if layer.cell == "lstm" else (zero,)
    inputs = x @ weights["kernel"] + weights["bias"]
    assert inputs.shape[-1] == GATES[layer.cell] * layer.units

    def plain(carry: Any, a: Any) -> Any:
        carry = step(carry, a)
        return carry, carry[0]

    def masked(carry: Any, step_input: Any) -> Any:
        a, real = step_input
        new = step(carry, a)
        kept = tuple(jnp.where(real, n, old) for n, old in zip(new, carry, strict=True))
        return kept, jnp.where(real, new[0], 0)

    if within is None:
        return jax.lax.scan(plain, carry, inputs, reverse=reverse)[1]
    return jax.lax.scan(masked, carry, (inputs, within), reverse=reverse)[1]


def _simple(layer: Any, weights: dict[str, Any]) -> Any:
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[layer.activation]
    return lambda carry, a: (activation(a + carry[0] @ weights["recurrent_kernel"]),)


def _lstm(layer: Any, weights: dict[str, Any]) -> Any:
    def step(carry: Any, a: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(a + h @ weights["recurrent_kernel"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    return step


def _gru(layer: Any, weights: dict[str, Any]) -> Any:
    def step(carry: Any, a: Any) -> Any:
        (h,) = carry
        z_x, r_x, n_x = jnp.split(a, 3, -1)
        recurrent = h @ weights["recurrent_kernel"] + weights["recurrent_bias"]
        z_h, r_h, n_h = jnp.split(recurrent, 3, -1)
        z = jax.nn.sigmoid(z_x + z_h)
        n = jnp.tanh(n_x + jax.nn.sigmoid(r_x + r_h) * n_h)
        return (z * h + (1 - z) * n,)

    return step


# --------------------------------------------------------------------------- windows, dense


def _conv(row: ConvRow, arrays: Arrays) -> Job:
    n = len(row.size)
    layout = ("NHWC", "HWIO", "NHWC") if n == 2 else ("NWC", "WIO", "NWC")

    def forward(x: Any, weights: Any) -> Any:
        y = jax.lax.conv_general_dilated(
            x,
            weights["kernel"],
            (row.stride,) * n,
            ((row.pad, row.pad),) * n,
            rhs_dilation=(row.dilation,) * n,
            dimension_numbers=layout,
            feature_group_count=row.groups,
        )
        return y + weights["bias"]

    parameters = {name: arrays[name] for name in ("kernel", "bias")}
    return _job(forward, arrays["x"], arrays["dy"], parameters)


def _pool(row: PoolRow, arrays: Arrays) -> Job:
    if row.kind == "stochastic":
        raise Unsupported("no stochastic pooling")
    window, strides = (1, row.pool, row.pool, 1), (1, row.stride, row.stride, 1)

    def forward(x: Any, _: Any) -> Any:
        if row.kind == "max":
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "VALID")
        total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "VALID")
        return total / row.pool**2

    return _job(forward, arrays["x"], arrays["dy"], {})


def _dense(row: DenseRow, arrays: Arrays) -> Job:
    count = len(row.widths) - 1
    x, labels = jnp.asarray(arrays["x"]), jnp.asarray(arrays["labels"])
    initial = [
        (jnp.asarray(arrays[f"{i}.kernel"]), jnp.asarray(arrays[f"{i}.bias"])) for i in range(count)
    ]

    def logits(layers: Any, x: Any) -> Any:
        for kernel, bias in layers[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        return x @ layers[-1][0] + layers[-1][1]

    def loss(layers: Any, x: Any, labels: Any) -> Any:
        logs = jax.nn.log_softmax(logits(layers, x))
        return -jnp.take_along_axis(logs, labels[:, None], 1).mean()

    def step(layers: Any, x: Any, labels: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(layers, x, labels)
        return value, jax.tree.map(lambda w, g: w - RATE_SGD * g, layers, grads)

    infer = jax.jit(lambda layers, x: jax.nn.softmax(logits(layers, x)))
    train = jax.jit(step)
    state = {"layers": initial}

    def stepping() -> Any:
        value, state["layers"] = jax.block_until_ready(train(state["layers"], x, labels))
        return value

    def results(result: Any) -> Arrays:
        value, layers = result
        return stepped(float(value), [np.asarray(w) for layer in layers for w in layer], arrays)

    return {
        INFERENCE: Work(
            lambda: infer(initial, x).block_until_ready(), lambda y: {"y": np.asarray(y)}
        ),
        TRAINING: Work(stepping, results, lambda: train(initial, x, labels)),
    }
