"""Pooling over the cells of each window.

Maximum: ``y = max over k of a_k``. Average: ``y = sum a_k / n``. Stochastic (Zeiler & Fergus 2013):
in training cell k is drawn with ``p_k = a_k / sum a``; at inference ``y = sum p_k a_k``.
An offset is ``row * pool_width + column`` of the cell that was taken.
"""

from __future__ import annotations

import numpy as np

from .noise import STOCHASTIC_POOLING, uniform
from .patches import as_format, channels_last, fold, inside, patches

NO_CELL = -1  # in uint8 it is 255


def max_forward(x, window, data_format, activation, keep):
    """(y, offsets or None); `activation` is None or "relu", whose gradient 0 is an offset too."""
    image = channels_last(x, data_format)
    cells = _cells(image, window, -np.inf)
    taken = cells.argmax(axis=3)  # NumPy's argmax: the first NaN, else the first maximum
    # Where the image has nothing but -inf the first maximum may be padding.
    valid = _valid(image, window)
    outside = ~np.take_along_axis(valid, taken[..., None, :], axis=3)[..., 0, :]
    taken = np.where(outside, valid.argmax(axis=3), taken)
    if activation is None:
        return _taken(cells, taken, window, data_format, keep)
    y = np.take_along_axis(cells, taken[..., None, :], axis=3)[..., 0, :]
    kh, kw = window[0]
    offsets = np.where(y > 0, taken, NO_CELL).astype(np.uint8 if kh * kw <= 255 else np.int32)
    y = as_format(np.where(y <= 0, y.dtype.type(0), y), data_format)
    return y, as_format(offsets, data_format) if keep else None


def scatter(dy, offsets, x_shape, window, data_format):
    """Gradient of a pooling that took one cell a window: dy at that cell."""
    dy, offsets = channels_last(dy, data_format), channels_last(offsets, data_format)
    width = window[0][1]
    dx = fold(
        lambda i, j: np.where(offsets == i * width + j, dy, 0),
        window,
        _image_shape(x_shape, data_format),
        dy.dtype,
    )
    return as_format(dx, data_format)


def average_forward(x, window, data_format, count_include_pad):
    """y: the mean of the cells inside the image, or of all with ``count_include_pad``."""
    image = channels_last(x, data_format)
    total = patches(image, window).sum(axis=(3, 4))
    return as_format(total / _count(image.shape, window, count_include_pad, x.dtype), data_format)


def average_backward(dy, x_shape, window, data_format, count_include_pad):
    """dx: every cell gets ``dy / n``."""
    shape = _image_shape(x_shape, data_format)
    share = channels_last(dy, data_format) / _count(shape, window, count_include_pad, dy.dtype)
    return as_format(fold(lambda i, j: share, window, shape, dy.dtype), data_format)


def stochastic_forward(x, window, data_format, seed, keep):
    """(y, offsets or None); the weighted sum, without offsets, if ``seed`` is None."""
    image = channels_last(x, data_format)
    cells = _cells(image, window, 0.0)
    # Cell by cell on purpose: every backend adds in this order, so all draw the same cell.
    running = np.cumsum(cells, axis=3)
    total = running[..., -1, :]
    if seed is None:
        safe = np.where(total == 0, 1, total)[..., None, :]
        return as_format((cells / safe * cells).sum(axis=3), data_format), None

    y_shape = total.shape if data_format == "channels_last" else np.moveaxis(total, 3, 1).shape
    u = channels_last(uniform(y_shape, seed, STOCHASTIC_POOLING, x.dtype), data_format)
    drawn = running > (u * total)[..., None, :]
    # An infinite total (or one too small for u * total) draws nothing: the cell that made it so.
    drawn = np.where(drawn.any(axis=3, keepdims=True), drawn, running >= total[..., None, :])
    drawn &= _valid(image, window)
    first = _valid(image, window).argmax(axis=3)
    taken = np.where(drawn.any(axis=3) & (total != 0), drawn.argmax(axis=3), first)
    bad = np.isnan(cells)  # as in maximum pooling, the first NaN wins
    taken = np.where(bad.any(axis=3), bad.argmax(axis=3), taken)
    return _taken(cells, taken, window, data_format, keep)


def stochastic_backward(dy, x, window, data_format):
    """dx of the weighted sum: ``dy (2 a_k - y) / sum a``; 0 in a window of zeros."""
    image, dy = channels_last(x, data_format), channels_last(dy, data_format)
    cells = _cells(image, window, 0.0)
    total = cells.sum(axis=3)
    safe = np.where(total == 0, 1, total)
    y = (cells / safe[..., None, :] * cells).sum(axis=3)
    share = np.where(total == 0, 0, dy / safe)
    width = window[0][1]
    dx = fold(
        lambda i, j: share * (2 * cells[:, :, :, i * width + j] - y), window, image.shape, x.dtype
    )
    return as_format(dx, data_format)


def _cells(image, window, fill):
    """The windows with their cells on one axis: [B, oh, ow, kh*kw, C]."""
    p = patches(image, window, fill)
    b, oh, ow, kh, kw, c = p.shape
    return p.reshape(b, oh, ow, kh * kw, c)


def _valid(image, window):
    """Whether a cell lies inside the image: [1 or B, oh, ow, kh*kw, 1 or C], made to broadcast."""
    mask = inside(image.shape[1:3], window)
    oh, ow, kh, kw = mask.shape
    shape = (image.shape[0], oh, ow, kh * kw, image.shape[3])
    return np.broadcast_to(mask.reshape(1, oh, ow, kh * kw, 1), shape)


def _taken(cells, taken, window, data_format, keep):
    y = np.take_along_axis(cells, taken[..., None, :], axis=3)[..., 0, :]
    kh, kw = window[0]
    offsets = as_format(taken.astype(np.uint8 if kh * kw <= 256 else np.int32), data_format)
    return as_format(y, data_format), offsets if keep else None


def _count(shape, window, count_include_pad, dtype):
    mask = inside(shape[1:3], window)
    if count_include_pad:
        return np.array(mask.shape[2] * mask.shape[3], dtype=dtype)
    return mask.sum(axis=(2, 3), dtype=dtype)[:, :, None]


def _image_shape(x_shape, data_format):
    if data_format == "channels_last":
        return x_shape
    b, c, h, w = x_shape
    return b, h, w, c
