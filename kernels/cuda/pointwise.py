"""Activations, softmax, dropout, uniform noise and column sums on the GPU."""

from __future__ import annotations

import math
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda.launch import over, plain, pointer, struct, vectors, wide
from fastnn.kernels.cuda.loader import typed

# The order is that of the enumeration in activation.cuh.
_NAMES = (
    *("linear", "relu", "leaky_relu", "elu", "selu", "tanh", "sigmoid", "hard_sigmoid"),
    *("softplus", "softsign", "exponential", "silu", "gelu"),
)
CODES: dict[str | None, int] = {None: 0} | {name: code for code, name in enumerate(_NAMES)}
_SOFTMAX = {"softmax": 0, "log_softmax": 1}
_MOST_SEGMENTS = 1024


def group_of(columns: int) -> int:
    """Lanes for a row: a power of two up to a warp."""
    return min(32, 1 << max(columns - 1, 0).bit_length())


def activation_forward(x: Any, activation: str) -> Any:
    """y [...], contiguous."""
    x = plain(x)
    y = cupy.empty(x.shape, x.dtype)
    if activation in _SOFTMAX:
        _softmax("softmax_forward", (x, y), x, _SOFTMAX[activation])
    else:
        args = (x, y, np.int64(x.size), np.int32(CODES[activation]))
        over("pointwise", "activation_forward", x.dtype, vectors(x.size, x.dtype), args)
    return y


def activation_backward(dy: Any, kept: Any, activation: str) -> Any:
    """dx [...], contiguous."""
    dy, kept = plain(dy), plain(kept)
    dx = cupy.empty(dy.shape, dy.dtype)
    if activation in _SOFTMAX:
        _softmax("softmax_backward", (dy, kept, dx), dy, _SOFTMAX[activation])
    else:
        args = (dy, kept, dx, np.int64(dy.size), np.int32(CODES[activation]))
        over("pointwise", "activation_backward", dy.dtype, vectors(dy.size, dy.dtype), args)
    return dx


def _softmax(function: str, arrays: tuple[Any, ...], x: Any, logarithm: int) -> None:
    columns = x.shape[-1]
    rows = x.size // columns
    group = group_of(columns)
    args = (*arrays, np.int64(rows), np.int64(columns), np.int32(group), np.int32(logarithm))
    over("softmax", function, x.dtype, rows * group, args)


def add_bias_and_activate(z: Any, bias: Any, activation: str | None) -> None:
    """``z [..., O] <- act(z + bias)``, in place; z is contiguous."""
    if bias is None and activation is None:
        return
    bias = None if bias is None else plain(bias)
    args = (z, pointer(bias), np.int64(z.size), np.uint32(z.shape[-1]))
    count = vectors(z.size, z.dtype)
    over("pointwise", "bias_activation", z.dtype, count, (*args, np.int32(CODES[activation])))


def column_sums(x: Any) -> Any:
    """Sums over all axes but the last, in a fixed order; x is contiguous."""
    columns = x.shape[-1]
    rows = x.size // columns
    result = cupy.zeros(columns, x.dtype)
    if not rows:
        return result
    # Enough segments to fill a card, each long enough to be worth a block.
    segments = max(1, min(_MOST_SEGMENTS, -(-rows // 64)))
    each = -(-rows // segments)
    segments = -(-rows // each)
    parts = cupy.empty((segments, columns), wide(x.dtype))
    sizes = np.int64(rows), np.int64(columns), np.int64(each)
    sums = typed("pointwise", "column_sums", x.dtype)
    sums((-(-columns // 32), segments), (32, 8), (x, parts, *sizes))
    combine(parts, result)
    return result


def combine(parts: Any, result: Any) -> None:
    """``result = sum over the first axis of parts``, in order; parts in the wide dtype."""
    args = (parts, result, np.int64(parts.shape[0]), np.int64(result.size))
    over("pointwise", "combine_segments", result.dtype, result.size, args)


def dropout(x: Any, rate: float, seed: int, noise_shape: tuple[int, ...]) -> Any:
    """Zeros at ``rate``, the rest divided by ``1 - rate``; for dy it is the backward pass too."""
    x = plain(x)
    shape = x.shape if x.shape != noise_shape and x.ndim == len(noise_shape) else noise_shape
    y = cupy.empty(shape, x.dtype)
    scale = wide(x.dtype)(1.0 / (1.0 - rate))
    threshold = np.uint32(math.floor(rate * 2.0**32))
    noise = struct(*_broadcast(shape, noise_shape))
    args = (x, y, np.int64(y.size), np.uint64(seed), threshold, scale, noise)
    groups = y.size if shape != noise_shape else -(-y.size // 4)
    over("pointwise", "dropout", x.dtype, groups, args)
    return y


def _broadcast(shape: tuple[int, ...], noise_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The struct Broadcast: axes that lie alike are one. No axis: the noise has x's shape."""
    if shape == noise_shape:
        return (0,) * 17
    axes: list[list[int]] = []  # [size, stride in the noise]
    stride = 1
    for n, m in zip(reversed(shape), reversed(noise_shape), strict=True):
        step = stride if m > 1 else 0
        if n > 1 and axes and step == (axes[-1][0] * axes[-1][1] if step else axes[-1][1]):
            axes[-1][0] *= n
        elif n > 1:
            axes.append([n, step])
        stride *= m
    axes = axes[::-1] or [[1, 0]]
    if len(axes) > 8:
        raise ValueError(
            f"[dropout] noise_shape {list(noise_shape)} for x {list(shape)}; at most 8 groups of "
            "axes that alternate between shared and own noise are needed on the GPU"
        )
    blank = [0] * (8 - len(axes))
    return (len(axes), *(n for n, _ in axes), *blank, *(s for _, s in axes), *blank)


def uniform(shape: tuple[int, ...], seed: int, stream: int, dtype: str) -> Any:
    """Uniform numbers in [0, 1)."""
    y = cupy.empty(shape, dtype)
    args = (y, np.int64(y.size), np.uint64(seed), np.uint32(stream))
    over("pointwise", "uniform", y.dtype, -(-y.size // 4), args)
    return y
