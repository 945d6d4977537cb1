"""im2col and its adjoint, on images ``[B, C, h, w]`` in C order.

Each thread makes one number: an entry of a column, or, for the adjoint, the sum of the entries that
came from one pixel, in the order of the filter's cells. No two threads write the same word.
"""

from __future__ import annotations

from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat


def output_size(image, window):
    """(oh, ow) of a resolved window over an image of (h, w)."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw) = window
    return (
        (image[0] + top + bottom - (kh - 1) * dh - 1) // sh + 1,
        (image[1] + left + right - (kw - 1) * dw - 1) // sw + 1,
    )


def _geometry(x_shape, window):
    _, channels, h, w = x_shape
    (kh, kw), (sh, sw), ((top, _), (left, _)), (dh, dw) = window
    oh, ow = output_size((h, w), window)
    return channels, h, w, oh, ow, kh, kw, sh, sw, top, left, dh, dw


def im2col(x, window):
    """Patches as rows ``[B*oh*ow, C*kh*kw]``."""
    g = _geometry(x.shape, window)
    channels, _, _, oh, ow, kh, kw = g[:7]
    cols = empty((x.shape[0] * oh * ow, channels * kh * kw), x.dtype)
    _d.spread(_im2col, cols.size, flat(x), g, flat(cols))
    return cols


def col2im(cols, x_shape, window):
    """The adjoint of `im2col`: ``[B, C, h, w]``."""
    x = empty(x_shape, cols.dtype)
    _d.spread(_col2im, x.size, flat(cols), _geometry(x_shape, window), flat(x))
    return x


@_d.kernel
def _im2col(n, x, g, cols):
    channels, h, w, oh, ow, kh, kw, sh, sw, top, left, dh, dw = g
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        rest, cell = i // (kh * kw), i % (kh * kw)
        row, c = rest // channels, rest % channels
        b, pixel = row // (oh * ow), row % (oh * ow)
        at_y = pixel // ow * sh - top + cell // kw * dh
        at_x = pixel % ow * sw - left + cell % kw * dw
        if at_y >= 0 and at_y < h and at_x >= 0 and at_x < w:
            cols[i] = x[((b * channels + c) * h + at_y) * w + at_x]
        else:
            cols[i] = 0


@_d.kernel
def _col2im(n, cols, g, x):
    channels, h, w, oh, ow, kh, kw, sh, sw, top, left, dh, dw = g
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        plane, pixel = i // (h * w), i % (h * w)
        b, c = plane // channels, plane % channels
        x[i] = 0
        for cell in range(kh * kw):
            at_y = pixel // w + top - cell // kw * dh
            at_x = pixel % w + left - cell % kw * dw
            if at_y >= 0 and at_x >= 0 and at_y % sh == 0 and at_x % sw == 0:
                at_y //= sh
                at_x //= sw
                if at_y < oh and at_x < ow:
                    row = (b * oh + at_y) * ow + at_x
                    x[i] += cols[(row * channels + c) * kh * kw + cell]
