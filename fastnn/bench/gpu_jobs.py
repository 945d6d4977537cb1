"""The work of a GPU row in fastnn, on arrays of whichever backend runs.

A job is a function of the copy of the inputs to use; it gives what the row computes. The inputs are
there as often as it takes to be larger than the L2 cache, so that each step reads memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn.bench.gpu_rows import ConvRow, MemoryRow, OptionRow, RecurrentRow, Row

Job = Callable[[int], tuple[Any, ...]]
Normal = Callable[[tuple[int, ...], float], Any]  # shape, standard deviation -> array

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}
_DROPPED, _RESET = 0.25, 0.05  # rate; share of the steps


def dtype_of(precision: str) -> np.dtype:
    """The dtype in memory."""
    if precision == "bfloat16":
        import ml_dtypes  # noqa: F401  # gives NumPy the name
    return np.dtype("float32" if precision == "tf32" else precision)


# --------------------------------------------------------------------------- inputs


def host_normal(dtype: np.dtype, seed: int = 0) -> Normal:
    """Normal numbers on the host."""
    rng = np.random.default_rng(seed)

    def normal(shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape, np.float32) * np.float32(scale)).astype(dtype)

    return normal


def device_normal(dtype: np.dtype, seed: int = 0) -> Normal:
    """Normal numbers that are made on the device: gigabytes need not cross the bus."""
    import cupy

    rng = cupy.random.default_rng(seed)

    def normal(shape: tuple[int, ...], scale: float = 1.0) -> Any:
        numbers = rng.standard_normal(shape, np.float32)
        numbers *= np.float32(scale)
        return numbers.astype(dtype, copy=False)

    return normal


def inputs(row: Row, normal: Normal) -> dict[str, Any]:
    """The arrays of a row by name: what both sides start from."""
    if isinstance(row, OptionRow):
        return inputs(row.plain, normal)
    if isinstance(row, RecurrentRow):
        H, G = row.H, GATES[row.cell]
        arrays = {
            "x": normal((row.T, row.B, H), 1.0),
            "kernel": normal((H, G * H), H**-0.5),
            "recurrent_kernel": normal((H, G * H), H**-0.5),
            "bias": normal((G * H,), 0.1),
            "dy": normal((row.T, row.B, H), 1.0),
        }
        if row.cell == "gru":
            arrays["recurrent_bias"] = normal((G * H,), 0.1)
        return arrays
    if isinstance(row, ConvRow):
        s = row.shape
        inner = s.C // s.groups
        size = [(n + 2 * s.pad - (s.kernel - 1) * s.dilation - 1) // s.stride + 1 for n in s.size]
        return {
            "x": normal((s.B, *s.size, s.C), 1.0),
            "kernel": normal((s.kernel, s.kernel, inner, s.filters), (9 * inner) ** -0.5),
            "bias": normal((s.filters,), 1.0),
            "dy": normal((s.B, *size, s.filters), 1.0),
        }
    return {"x": normal(row.shape, 1.0)}


def options_of(row: OptionRow) -> dict[str, Any]:
    """Arguments of `rnn_forward`, on the host: the lengths reach from half of the steps to all."""
    T, B = row.plain.T, row.plain.B
    rng = np.random.default_rng(7)
    if row.option == "lengths":
        lengths = rng.integers((T + 1) // 2, T + 1, B)
        lengths[0] = T
        return {"lengths": lengths}
    if row.option == "resets":
        return {"resets": rng.random((T, B)) < _RESET}
    return {"recurrent_dropout": _DROPPED, "seed": 1}


def moved_bytes(row: MemoryRow) -> int:
    """Bytes that have to cross the memory bus once."""
    size = dtype_of(row.precision).itemsize
    if row.operation == "im2col":
        b, c, h, w = row.shape
        patches = (h - row.pool + 1) * (w - row.pool + 1) * row.pool**2
        return b * c * (h * w + patches) * size
    b, h, w, c = row.shape
    if not row.pool:
        return 2 * b * h * w * c * size
    stride = 2
    outputs = b * ((h - row.pool) // stride + 1) * ((w - row.pool) // stride + 1) * c
    offsets = outputs if row.operation == "max" else 0
    return (b * h * w * c + outputs) * size + offsets


# --------------------------------------------------------------------------- the work


def job(row: Row, copies: list[dict[str, Any]]) -> Job:
    """The row's work on arrays of the chosen backend."""
    if isinstance(row, OptionRow):
        return _recurrent(row.plain, copies, options_of(row))
    if isinstance(row, RecurrentRow):
        return _recurrent(row, copies, {})
    return _conv(row, copies) if isinstance(row, ConvRow) else _memory(row, copies)


def _recurrent(row: RecurrentRow, copies: list[dict[str, Any]], options: dict[str, Any]) -> Job:
    # Lengths stay on the host, where they are looked at without waiting for the device.
    options = {k: fastnn.asarray(v) if k == "resets" else v for k, v in options.items()}

    def run(k: int) -> tuple[Any, ...]:
        a = copies[k]
        output, saved = fastnn.rnn_forward(a["x"], _weights(a), cell=row.cell, **options)
        assert saved is not None  # kept by default
        grads = fastnn.rnn_backward(fastnn.RnnOutput(y=a["dy"]), saved)
        return output.y, grads.dx, grads.weights.kernel, grads.weights.recurrent_kernel

    return run


def forward(row: RecurrentRow, copies: list[dict[str, Any]]) -> Job:
    """A recurrent row's forward pass alone, of which nothing is kept."""

    def run(k: int) -> tuple[Any, ...]:
        output, _ = fastnn.rnn_forward(
            copies[k]["x"], _weights(copies[k]), cell=row.cell, keep=None
        )
        return (output.y,)

    return run


def _weights(a: dict[str, Any]) -> fastnn.RnnWeights:
    return fastnn.RnnWeights(a["kernel"], a["recurrent_kernel"], a["bias"], a.get("recurrent_bias"))


def _conv(row: ConvRow, copies: list[dict[str, Any]]) -> Job:
    s = row.shape
    options: dict[str, Any] = {
        "strides": s.stride,
        "padding": s.pad,
        "dilation": s.dilation,
        "groups": s.groups,
    }

    def run(k: int) -> tuple[Any, ...]:
        a = copies[k]
        y, saved = fastnn.conv2d_forward(a["x"], a["kernel"], a["bias"], **options)
        return y, *fastnn.conv2d_backward(a["dy"], saved)

    return run


def _memory(row: MemoryRow, copies: list[dict[str, Any]]) -> Job:
    def run(k: int) -> tuple[Any, ...]:
        x = copies[k]["x"]
        if row.operation == "max":
            return (fastnn.max_pool2d_forward(x, pool_size=row.pool, strides=2)[0],)
        if row.operation == "average":
            return (fastnn.avg_pool2d_forward(x, pool_size=row.pool, strides=2)[0],)
        if row.operation == "im2col":
            return (fastnn.im2col(x, row.pool, row.pool),)
        if row.operation == "dropout":
            return (fastnn.dropout_forward(x, rate=0.5, seed=1)[0],)
        return (fastnn.activation_forward(x, row.operation)[0],)

    return run


def cupy_loop(row: RecurrentRow, copies: list[dict[str, Any]]) -> Job:
    """A recurrent forward pass as a Python loop of array calls: what Numba's kernel must beat."""
    import cupy

    H = row.H

    def sigmoid(a: Any) -> Any:
        return 1 / (1 + cupy.exp(-a))

    def run(k: int) -> tuple[Any, ...]:
        a = copies[k]
        h = cupy.zeros((row.B, H), a["x"].dtype)
        c = cupy.zeros_like(h)
        y = cupy.empty((row.T, row.B, H), a["x"].dtype)
        for t in range(row.T):
            ax, au = a["x"][t] @ a["kernel"] + a["bias"], h @ a["recurrent_kernel"]
            if row.cell == "lstm":
                gates = ax + au
                i, f, g, o = (gates[:, n * H : (n + 1) * H] for n in range(4))
                c = sigmoid(f) * c + sigmoid(i) * cupy.tanh(g)
                h = sigmoid(o) * cupy.tanh(c)
            elif row.cell == "gru":
                au = au + a["recurrent_bias"]
                zr = sigmoid(ax[:, : 2 * H] + au[:, : 2 * H])
                z, r = zr[:, :H], zr[:, H:]
                h = z * h + (1 - z) * cupy.tanh(ax[:, 2 * H :] + r * au[:, 2 * H :])
            else:
                h = cupy.tanh(ax + au)
            y[t] = h
        return (y,)

    return run
