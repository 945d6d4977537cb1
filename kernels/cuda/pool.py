"""Pooling on the GPU."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda.launch import over, plain, pointer, strides, struct, wide


def _geometry(
    shape: tuple[int, ...],
    steps: tuple[int, ...],
    window: Any,
    data_format: str,
    count_include_pad: bool = False,
    relu: bool = False,
    offsets: Any = None,
) -> tuple[Any, tuple[int, ...], Any]:
    """The struct Geometry, y's shape, and the dtype of offsets if they are still to be made."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), _ = window
    last = data_format == "channels_last"
    b, h, w, c = (0, 1, 2, 3) if last else (0, 2, 3, 1)
    oh = (shape[h] + top + bottom - kh) // sh + 1
    ow = (shape[w] + left + right - kw) // sw + 1
    sizes = (shape[b], shape[c], shape[h], shape[w], oh, ow)
    order = tuple(steps[axis] for axis in (b, h, w, c))
    if offsets is None:
        offsets = np.uint8 if kh * kw + relu <= 256 else np.int32  # with relu, one says "no cell"
    flags = (last, count_include_pad, offsets == np.uint8, relu)
    found = struct(*sizes, *order, kh, kw, sh, sw, top, left, *(int(flag) for flag in flags))
    y_shape = (shape[b], oh, ow, shape[c]) if last else (shape[b], shape[c], oh, ow)
    return found, y_shape, offsets


def _lanes(x: Any, data_format: str) -> bool:
    """Whether 16 bytes of channels lie together wherever a window has a cell."""
    lanes = 16 // x.itemsize
    return (
        data_format == "channels_last"
        and x.shape[3] % lanes == 0
        and x.strides[3] == x.itemsize
        and all(s % 16 == 0 for s in x.strides[:3])
        and x.data.ptr % 16 == 0
    )


def max_forward(
    x: Any, window: Any, data_format: str, activation: str | None, keep: bool
) -> tuple[Any, Any]:
    """(y, offsets or None); `activation` is None or "relu"."""
    relu = activation is not None
    geometry, shape, dtype = _geometry(x.shape, strides(x), window, data_format, relu=relu)
    y = cupy.empty(shape, x.dtype)
    offsets = cupy.empty(shape, dtype) if keep else None
    args = (x, y, pointer(offsets), np.int64(y.size), geometry)
    if _lanes(x, data_format):
        over("pool", "max_forward_lanes", x.dtype, y.size * x.itemsize // 16, args)
    else:
        over("pool", "max_forward", x.dtype, y.size, args)
    return y, offsets


def average_forward(x: Any, window: Any, data_format: str, count_include_pad: bool) -> Any:
    """y."""
    geometry, shape, _ = _geometry(x.shape, strides(x), window, data_format, count_include_pad)
    y = cupy.empty(shape, x.dtype)
    args = (x, y, np.int64(y.size), geometry)
    if _lanes(x, data_format):
        over("pool", "average_forward_lanes", x.dtype, y.size * x.itemsize // 16, args)
    else:
        over("pool", "average_forward", x.dtype, y.size, args)
    return y


def stochastic_forward(
    x: Any, window: Any, data_format: str, seed: int | None, keep: bool
) -> tuple[Any, Any]:
    """(y, offsets or None); the weighted sum, without offsets, if ``seed`` is None."""
    geometry, shape, dtype = _geometry(x.shape, strides(x), window, data_format)
    y = cupy.empty(shape, x.dtype)
    count = np.int64(y.size)
    if seed is None:
        over("pool", "expected_forward", x.dtype, y.size, (x, y, count, geometry))
        return y, None
    offsets = cupy.empty(shape, dtype) if keep else None
    args = (x, y, pointer(offsets), count, np.uint64(seed), geometry)
    over("pool", "stochastic_forward", x.dtype, y.size, args)
    return y, offsets


def take_backward(
    dy: Any, offsets: Any, x_shape: tuple[int, ...], window: Any, data_format: str
) -> Any:
    """dx of a pooling that took one cell a window."""
    dx = cupy.empty(x_shape, dy.dtype)
    geometry, _, _ = _geometry(x_shape, strides(dx), window, data_format, offsets=offsets.dtype)
    args = (plain(dy), plain(offsets), dx, np.int64(dx.size), geometry)
    over("pool", "take_backward", dy.dtype, dx.size, args)
    return dx


def average_backward(
    dy: Any, x_shape: tuple[int, ...], window: Any, data_format: str, count_include_pad: bool
) -> Any:
    """dx."""
    dx = cupy.empty(x_shape, dy.dtype)
    geometry, _, _ = _geometry(x_shape, strides(dx), window, data_format, count_include_pad)
    over(
        "pool", "average_backward", dy.dtype, dx.size, (plain(dy), dx, np.int64(dx.size), geometry)
    )
    return dx


def stochastic_backward(dy: Any, x: Any, window: Any, data_format: str) -> Any:
    """dx of the weighted sum."""
    geometry, shape, _ = _geometry(x.shape, strides(x), window, data_format)
    share, value = (cupy.empty(shape, wide(x.dtype)) for _ in range(2))
    args = (plain(dy), x, share, value, np.int64(share.size), geometry)
    over("pool", "expected_shares", x.dtype, share.size, args)
    dx = cupy.empty(x.shape, x.dtype)
    args = (share, value, x, dx, np.int64(dx.size), geometry)
    over("pool", "expected_backward", x.dtype, dx.size, args)
    return dx
