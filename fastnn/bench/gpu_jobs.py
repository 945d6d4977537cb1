"""The work of a GPU row in fastnn, on NumPy arrays that a backend takes to its device.

A job is a function of the copy of the inputs to use; it gives what the row computes. The inputs are
there as often as it takes to be larger than the L2 cache, so that each step reads memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn.bench.gpu_rows import ConvRow, MemoryRow, RecurrentRow, Row

Job = Callable[[int], tuple[Any, ...]]

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def dtype_of(precision: str) -> np.dtype:
    """The dtype in memory."""
    if precision == "bfloat16":
        import ml_dtypes  # noqa: F401  # gives NumPy the name
    return np.dtype("float32" if precision == "tf32" else precision)


def inputs(row: Row, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a row by name, float32: what both sides start from."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    if isinstance(row, RecurrentRow):
        H, G = row.H, GATES[row.cell]
        arrays = {
            "x": normal(row.T, row.B, H),
            "kernel": normal(H, G * H, scale=H**-0.5),
            "recurrent_kernel": normal(H, G * H, scale=H**-0.5),
            "bias": normal(G * H, scale=0.1),
            "dy": normal(row.T, row.B, H),
        }
        if row.cell == "gru":
            arrays["recurrent_bias"] = normal(G * H, scale=0.1)
        return arrays
    if isinstance(row, ConvRow):
        s = row.shape
        inner = s.C // s.groups
        size = [(n + 2 * s.pad - (s.kernel - 1) * s.dilation - 1) // s.stride + 1 for n in s.size]
        return {
            "x": normal(s.B, *s.size, s.C),
            "kernel": normal(s.kernel, s.kernel, inner, s.filters, scale=(9 * inner) ** -0.5),
            "bias": normal(s.filters),
            "dy": normal(s.B, *size, s.filters),
        }
    return {"x": normal(*row.shape)}


def moved_bytes(row: MemoryRow) -> int:
    """Bytes that have to cross the memory bus once."""
    b, h, w, c = row.shape
    size = dtype_of(row.precision).itemsize
    if not row.pool:
        return 2 * b * h * w * c * size
    stride = 2
    outputs = b * ((h - row.pool) // stride + 1) * ((w - row.pool) // stride + 1) * c
    offsets = outputs if row.operation == "max" else 0
    return (b * h * w * c + outputs) * size + offsets


def job(row: Row, copies: list[dict[str, Any]]) -> Job:
    """The row's work on arrays of the chosen backend."""
    if isinstance(row, RecurrentRow):
        return _recurrent(row, copies)
    return _conv(row, copies) if isinstance(row, ConvRow) else _memory(row, copies)


def _recurrent(row: RecurrentRow, copies: list[dict[str, Any]]) -> Job:
    def run(k: int) -> tuple[Any, ...]:
        a = copies[k]
        weights = fastnn.RnnWeights(
            a["kernel"], a["recurrent_kernel"], a["bias"], a.get("recurrent_bias")
        )
        output, saved = fastnn.rnn_forward(a["x"], weights, cell=row.cell)
        assert saved is not None  # kept by default
        grads = fastnn.rnn_backward(fastnn.RnnOutput(y=a["dy"]), saved)
        return output.y, grads.dx, grads.weights.kernel, grads.weights.recurrent_kernel

    return run


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
            z = a["x"][t] @ a["kernel"] + h @ a["recurrent_kernel"] + a["bias"]
            if row.cell == "lstm":
                i, f, g, o = (z[:, n * H : (n + 1) * H] for n in range(4))
                c = sigmoid(f) * c + sigmoid(i) * cupy.tanh(g)
                h = sigmoid(o) * cupy.tanh(c)
            else:
                h = cupy.tanh(z)
            y[t] = h
        return (y,)

    return run
