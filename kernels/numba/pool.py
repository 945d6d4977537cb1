"""Pooling over windows of an image: maximum, average, stochastic; forward and backward.

Forward, a thread makes one output. Backward, a thread makes one pixel's gradient: it looks at every
window that the pixel lies in, row by row, so windows may overlap and nothing is added atomically.
A window's cells are numbered ``row * pool_width + column``. Strides of x and y stand in the
geometry, so both data formats are the same kernel.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba import noise
from fastnn.kernels.numba.array import empty, flat
from fastnn.kernels.numba.columns import output_size

# --------------------------------------------------------------------------- shapes


def _geometry(x_shape, window, data_format):
    """Sizes, the step from pixel to pixel, and whether channels are last: for every kernel here."""
    last = data_format == "channels_last"
    b, h, w, c = x_shape if last else (x_shape[0], x_shape[2], x_shape[3], x_shape[1])
    (kh, kw), (sh, sw), ((top, _), (left, _)), _ = window
    oh, ow = output_size((h, w), window)
    return b, h, w, c, oh, ow, kh, kw, sh, sw, top, left, c if last else 1, int(last)


def _y_shape(g, data_format):
    b, _, _, c, oh, ow = g[:6]
    return (b, oh, ow, c) if data_format == "channels_last" else (b, c, oh, ow)


@_d.device
def _place(i, h, w, channels, last):
    """Image, row, column and channel of element i of an array of h x w images."""
    if last:
        rest, c = i // channels, i % channels
        return rest // (h * w), rest // w % h, rest % w, c
    rest = i // (h * w)
    return rest // channels, i // w % h, i % w, rest % channels


@_d.device
def _address(b, y, column, c, h, w, channels, last):
    if last:
        return ((b * h + y) * w + column) * channels + c
    return ((b * channels + c) * h + y) * w + column


@_d.device
def _window_of(i, g):
    """Of output i: the address of its image's first number of this channel, and its corner."""
    _, h, w, channels, oh, ow, _, _, sh, sw, top, left, _, last = g
    b, y, column, c = _place(i, oh, ow, channels, last)
    return _address(b, 0, 0, c, h, w, channels, last), y * sh - top, column * sw - left


@_d.device
def _cells_inside(y, column, g):
    """The cells of a window that lie inside the image: rows y0 to y1, columns x0 to x1."""
    _, h, w, _, _, _, kh, kw = g[:8]
    return max(-y, 0), min(h - y, kh), max(-column, 0), min(w - column, kw)


# --------------------------------------------------------------------------- one cell is taken


def max_forward(x, window, data_format, activation, keep):
    """(y, offsets or None); x in C order; `activation` is None or "relu"."""
    kh, kw = window[0]
    relu = activation is not None
    dtype = np.uint8 if kh * kw + relu <= 256 else np.int32  # with relu one number is "no cell"
    no_cell = (255 if dtype is np.uint8 else -1) if relu else None
    return _taking(_max_kernel(keep, no_cell), x, window, data_format, dtype if keep else None)


def stochastic_forward(x, window, data_format, seed, keep):
    """(y, offsets or None); the weighted sum, without offsets, if ``seed`` is None."""
    if seed is None:
        g = _geometry(x.shape, window, data_format)
        y = empty(_y_shape(g, data_format), x.dtype)
        _d.spread(_weighted, y.size, flat(x), g, flat(y))
        return y, None
    kh, kw = window[0]
    dtype = np.uint8 if kh * kw <= 256 else np.int32
    function = _draw_kernel(keep)
    return _taking(function, x, window, data_format, dtype if keep else None, np.uint64(seed))


def _taking(function, x, window, data_format, dtype, *extra):
    g = _geometry(x.shape, window, data_format)
    y = empty(_y_shape(g, data_format), x.dtype)
    offsets = None if dtype is None else empty(y.shape, dtype)
    _d.spread(
        function, y.size, *extra, flat(x), g, flat(y), flat(y if offsets is None else offsets)
    )
    return y, offsets


@cache
def _max_kernel(keep, no_cell):
    relu = no_cell is not None
    nothing = no_cell or 0

    def apply(n, x, g, y, offsets):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            base, row, column = _window_of(i, g)
            y0, y1, x0, x1 = _cells_inside(row, column, g)
            w, kw, pixel = g[2], g[7], g[12]
            taken = y0 * kw + x0
            best = x[base + ((row + y0) * w + column + x0) * pixel]
            for v in range(y0, y1):
                for u in range(x0, x1):
                    value = x[base + ((row + v) * w + column + u) * pixel]
                    # The first maximum, and a NaN before all: then nothing is larger any more.
                    if value > best or (value != value and best == best):
                        best = value
                        taken = v * kw + u
            if relu:
                if not best > 0:
                    taken = nothing  # it has no gradient
                if best <= 0:
                    best = type(best)(0)
            y[i] = best
            if keep:
                offsets[i] = taken

    return _d.kernel(apply)


@cache
def _draw_kernel(keep):
    def apply(n, seed, x, g, y, offsets):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            base, row, column = _window_of(i, g)
            y0, y1, x0, x1 = _cells_inside(row, column, g)
            w, kw, pixel = g[2], g[7], g[12]
            total = _window_sum(x, base, row, column, g)
            real = type(total)
            u_total = real(noise.unit(noise.word(i, seed, _STREAM))) * total
            # The first cell beyond u * sum; else the first that reaches the sum (an infinite sum,
            # or one so small that u * sum rounds to it); of a window of zeros the first cell.
            # In a window with NaN the first NaN is taken.
            first, reaching, bad = -1, -1, -1
            running = real(0)
            for v in range(y0, y1):
                for u in range(x0, x1):
                    value = x[base + ((row + v) * w + column + u) * pixel]
                    running = running + value
                    if first < 0 and running > u_total:
                        first = v * kw + u
                    if bad < 0 and value != value:
                        bad = v * kw + u
                    if reaching < 0 and running >= total:
                        reaching = v * kw + u
            if first < 0:
                first = reaching
            if total == 0 or first < 0:
                first = y0 * kw + x0
            if bad >= 0:
                first = bad
            y[i] = x[base + ((row + first // kw) * w + column + first % kw) * pixel]
            if keep:
                offsets[i] = first

    return _d.kernel(apply)


_STREAM = noise.STOCHASTIC_POOLING


@_d.device
def _window_sum(x, base, row, column, g):
    """The sum of a window's cells, one after the other."""
    y0, y1, x0, x1 = _cells_inside(row, column, g)
    total = type(x[base])(0)
    for v in range(y0, y1):
        for u in range(x0, x1):
            total = total + x[base + ((row + v) * g[2] + column + u) * g[12]]
    return total


def take_backward(dy, offsets, x_shape, window, data_format):
    """Gradient of a pooling that took one cell a window: dy at that cell; arrays in C order."""
    dx = empty(x_shape, dy.dtype)
    g = _geometry(x_shape, window, data_format)
    _d.spread(_take_gradient, dx.size, flat(dy), flat(offsets), g, flat(dx))
    return dx


@_d.device
def _windows_over(at, padding, size, stride, count):
    """The windows along one axis that a place lies in: the first, and the one past the last."""
    reach = at + padding
    return (reach - size + stride) // stride if reach >= size else 0, min(
        reach // stride + 1, count
    )


@_d.kernel
def _take_gradient(n, dy, offsets, g, dx):
    _, h, w, channels, oh, ow, kh, kw, sh, sw, top, left, _, last = g
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        b, y, column, c = _place(i, h, w, channels, last)
        first_y, end_y = _windows_over(y, top, kh, sh, oh)
        first_x, end_x = _windows_over(column, left, kw, sw, ow)
        total = type(dy[0])(0)
        for v in range(first_y, end_y):
            for u in range(first_x, end_x):
                at = _address(b, v, u, c, oh, ow, channels, last)
                if offsets[at] == (y + top - v * sh) * kw + column + left - u * sw:
                    total += dy[at]
        dx[i] = total


# --------------------------------------------------------------------------- averages


def average_forward(x, window, data_format, count_include_pad):
    """y: the mean of the cells inside the image, or of all with ``count_include_pad``."""
    g = _geometry(x.shape, window, data_format)
    y = empty(_y_shape(g, data_format), x.dtype)
    _d.spread(_average, y.size, int(count_include_pad), flat(x), g, flat(y))
    return y


def average_backward(dy, x_shape, window, data_format, count_include_pad):
    """dx: every cell gets ``dy / n``."""
    dx = empty(x_shape, dy.dtype)
    g = _geometry(x_shape, window, data_format)
    _d.spread(_average_gradient, dx.size, int(count_include_pad), flat(dy), g, flat(dx))
    return dx


@_d.device
def _divisor(row, column, whole, g):
    y0, y1, x0, x1 = _cells_inside(row, column, g)
    return g[6] * g[7] if whole else (y1 - y0) * (x1 - x0)


@_d.kernel
def _average(n, whole, x, g, y):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        base, row, column = _window_of(i, g)
        total = _window_sum(x, base, row, column, g)
        y[i] = total / type(total)(_divisor(row, column, whole, g))


@_d.kernel
def _average_gradient(n, whole, dy, g, dx):
    _, h, w, channels, oh, ow, kh, kw, sh, sw, top, left, _, last = g
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        b, y, column, c = _place(i, h, w, channels, last)
        first_y, end_y = _windows_over(y, top, kh, sh, oh)
        first_x, end_x = _windows_over(column, left, kw, sw, ow)
        total = type(dy[0])(0)
        for v in range(first_y, end_y):
            for u in range(first_x, end_x):
                count = _divisor(v * sh - top, u * sw - left, whole, g)
                total += dy[_address(b, v, u, c, oh, ow, channels, last)] / type(total)(count)
        dx[i] = total


# --------------------------------------------------------------------------- the weighted sum


@_d.kernel
def _weighted(n, x, g, y):
    """``sum (a_k / sum a) a_k``, which does not overflow as ``a_k^2`` would."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        base, row, column = _window_of(i, g)
        y[i] = _weighted_sum(x, base, row, column, _window_sum(x, base, row, column, g), g)


@_d.device
def _weighted_sum(x, base, row, column, total, g):
    y0, y1, x0, x1 = _cells_inside(row, column, g)
    safe = type(total)(1) if total == 0 else total
    result = type(total)(0)
    for v in range(y0, y1):
        for u in range(x0, x1):
            a = x[base + ((row + v) * g[2] + column + u) * g[12]]
            result += a / safe * a
    return result


def stochastic_backward(dy, x, window, data_format):
    """dx of the weighted sum: ``dy (2 a_k - y) / sum a``; 0 in a window of zeros."""
    g = _geometry(x.shape, window, data_format)
    # Of each window y, and dy / sum a: made once, read by each of its cells.
    y, share = empty(dy.shape, dy.dtype), empty(dy.shape, dy.dtype)
    _d.spread(_weighted_parts, dy.size, flat(x), flat(dy), g, flat(y), flat(share))
    dx = empty(x.shape, x.dtype)
    _d.spread(_weighted_gradient, dx.size, flat(x), flat(y), flat(share), g, flat(dx))
    return dx


@_d.kernel
def _weighted_parts(n, x, dy, g, y, share):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        base, row, column = _window_of(i, g)
        total = _window_sum(x, base, row, column, g)
        y[i] = _weighted_sum(x, base, row, column, total, g)
        share[i] = type(total)(0) if total == 0 else dy[i] / total


@_d.kernel
def _weighted_gradient(n, x, y, share, g, dx):
    _, h, w, channels, oh, ow, kh, kw, sh, sw, top, left, _, last = g
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        b, row, column, c = _place(i, h, w, channels, last)
        first_y, end_y = _windows_over(row, top, kh, sh, oh)
        first_x, end_x = _windows_over(column, left, kw, sw, ow)
        total = type(x[0])(0)
        for v in range(first_y, end_y):
            for u in range(first_x, end_x):
                at = _address(b, v, u, c, oh, ow, channels, last)
                total += share[at] * (x[i] + x[i] - y[at])
        dx[i] = total
