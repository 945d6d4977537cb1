"""Windows of an image as a view, and the adjoint that adds them back.

Images are ``[B, h, w, C]`` in here. A window is the tuple
``((kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw))``.
"""

from __future__ import annotations

import numpy as np


def channels_last(x, data_format):
    """``x`` as a view ``[B, h, w, C]``."""
    return x if data_format == "channels_last" else x.transpose(0, 2, 3, 1)


def as_format(x, data_format):
    """``[B, h, w, C]`` in the memory order of ``data_format``."""
    return np.ascontiguousarray(x if data_format == "channels_last" else x.transpose(0, 3, 1, 2))


def patches(x, window, fill=0.0):
    """Every window of the padded image: a read-only view ``[B, oh, ow, kh, kw, C]``."""
    (kh, kw), (sh, sw), padding, (dh, dw) = window
    if padding != ((0, 0), (0, 0)):
        x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    span = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    return view[:, ::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 2, 4, 5, 3)


def inside(image, window):
    """Which cells of each window lie inside an image of (h, w): bool ``[oh, ow, kh, kw]``."""
    ones = np.ones((1, *image, 1), dtype=bool)
    return patches(ones, window, False)[0, ..., 0]


def fold(cell, window, shape, dtype):
    """The adjoint of `patches`: an image of ``shape`` with every cell added to its pixel.

    ``cell(i, j)`` gives the values of the cell (i, j) of all windows, ``[B, oh, ow, C]``.
    """
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw) = window
    b, h, w, c = shape
    image = np.zeros((b, h + top + bottom, w + left + right, c), dtype=dtype)
    for i in range(kh):
        for j in range(kw):
            value = cell(i, j)
            rows = slice(i * dh, i * dh + (value.shape[1] - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (value.shape[2] - 1) * sw + 1, sw)
            image[:, rows, columns] += value
    return image[:, top : top + h, left : left + w]
