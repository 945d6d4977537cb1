"""Convolution as the tiled product of `gemm`, over patches that are read where they lie.

With the output pixels n of the batch, the cells q = (i, j, c) of the filter, and, for each group,
P the patches [pixels, cells], K the kernel [cells, O] and Z = act'(y) dy [pixels, O]::

    forward    Y = act(P K + bias)      M = pixels         K = cells       N = O
    dkernel    P^T Z                    M = cells          K = pixels      N = O
    dx         Q K'                     M = x's pixels     K = (i, j, o)   N = C

Q[(b, y, x), (i, j, o)] is the Z that the pixel reached through the filter's cell (i, j), or 0: each
pixel of x gathers its gradient, so nothing is scattered. Strides of the image and of Y stand in the
geometry, so both data formats are the same kernel.
"""

from __future__ import annotations

import math

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba import gemm
from fastnn.kernels.numba.activation import fused_backward
from fastnn.kernels.numba.array import empty, flat
from fastnn.kernels.numba.columns import output_size

_item_or_zero = _d.item_or_zero


def forward(x, kernel, bias, window, groups, data_format, activation):
    """y [B, oh, ow, O] or [B, O, oh, ow]; all arrays in C order."""
    kh, kw, inner, outputs = kernel.shape
    y = empty(_output_shape(x.shape, outputs, window, data_format), x.dtype)
    size = math.prod(_image(y.shape, data_format)[:3]), kh * kw * inner, outputs // groups
    gemm.multiply(
        gemm.Left(
            flat(x), _patch_geometry(x.shape, inner, window, data_format), _pixel, _patch, False
        ),
        gemm.Right(flat(kernel), (outputs, size[2]), _kernel_item, False),
        gemm.Out(flat(y), _rows(y.shape, data_format)),
        (size[0], size[2], size[1]),
        bias=None if bias is None else flat(bias),
        groups=groups,
        activation=activation,
    )
    return y


def backward(dy, x, kernel, y, window, groups, data_format, activation, with_bias, need_dx):
    """(dx or None, dkernel, dbias or None)."""
    kh, kw, inner, outputs = kernel.shape
    each = outputs // groups
    dz = fused_backward(dy, y, activation)
    rows = _rows(dz.shape, data_format)
    pixels = math.prod(_image(dz.shape, data_format)[:3])

    dkernel = empty(kernel.shape, kernel.dtype)
    gemm.multiply(
        gemm.Left(
            flat(x), _patch_geometry(x.shape, inner, window, data_format), _cell, _patch_of, False
        ),
        gemm.Right(flat(dz), (*rows, each), _row_item, False),
        gemm.out(flat(dkernel), outputs),
        (kh * kw * inner, each, pixels),
        groups=groups,
    )
    dbias = empty((outputs,), x.dtype) if with_bias else None
    if with_bias:
        gemm.column_sums(flat(dz), pixels, outputs, rows, flat(dbias))
    if not need_dx:
        return None, dkernel, dbias
    dx = empty(x.shape, x.dtype)
    b, h, w, _ = _image(x.shape, data_format)
    gemm.multiply(
        gemm.Left(
            flat(dz),
            (*_reach_geometry((h, w), window), *rows[1:], each),
            _reached,
            _reached_item,
            False,
        ),
        gemm.Right(flat(kernel), (outputs, each, inner), _kernel_transposed, True),
        gemm.Out(flat(dx), _rows(x.shape, data_format)),
        (b * h * w, inner, kh * kw * each),
        groups=groups,
    )
    return dx, dkernel, dbias


# --------------------------------------------------------------------------- shapes and strides


def _image(shape, data_format):
    """(B, h, w, C) of a shape."""
    if data_format == "channels_last":
        return tuple(shape)
    b, c, h, w = shape
    return b, h, w, c


def _output_shape(x_shape, outputs, window, data_format):
    b, h, w, _ = _image(x_shape, data_format)
    size = output_size((h, w), window)
    return (b, *size, outputs) if data_format == "channels_last" else (b, outputs, *size)


def _rows(shape, data_format):
    """Where a pixel m of the batch and a channel n lie: ``m // P * s0 + m % P * s1 + n * s2``."""
    _, h, w, c = _image(shape, data_format)
    plane = h * w
    return (
        (plane, plane * c, c, 1) if data_format == "channels_last" else (plane, plane * c, 1, plane)
    )


def _patch_geometry(x_shape, inner, window, data_format):
    _, h, w, _ = _image(x_shape, data_format)
    (_, kw), (sh, sw), ((top, _), (left, _)), (dh, dw) = window
    oh, ow = output_size((h, w), window)
    _, s_image, s_pixel, s_channel = _rows(x_shape, data_format)
    return (oh, ow, sh, sw, top, left, dh, dw, kw, inner, h, w, s_image, s_pixel, s_channel)


def _reach_geometry(image, window):
    (_, kw), (sh, sw), ((top, _), (left, _)), (dh, dw) = window
    return (*image, *output_size(image, window), kw, sh, sw, top, left, dh, dw)


# --------------------------------------------------------------------------- how operands are read


@_d.device
def _pixel(g, m):
    """Of an output pixel: where its image starts, and its patch's first row and column."""
    oh, ow, sh, sw, top, left = g[0], g[1], g[2], g[3], g[4], g[5]
    pixel = m % (oh * ow)
    return m // (oh * ow) * g[12], pixel // ow * sh - top, pixel % ow * sw - left


@_d.device
def _cell(g, q):
    """Of a cell of the filter: its channel, and how far it is from the patch's first pixel."""
    kw, inner = g[8], g[9]
    place = q // inner
    return q % inner, place // kw * g[6], place % kw * g[7]


@_d.device
def _at(x, g, group, image, y, column, c):
    """The number at a pixel, 0 outside the image."""
    inside = y >= 0 and y < g[10] and column >= 0 and column < g[11]
    at = image + (y * g[11] + column) * g[13] + (group * g[9] + c) * g[14]
    return _item_or_zero(x, at, inside)


@_d.device
def _patch(x, g, group, p, q):
    c, dy, dx = _cell(g, q)
    return _at(x, g, group, p[0], p[1] + dy, p[2] + dx, c)


@_d.device
def _patch_of(x, g, group, p, m):
    image, y, column = _pixel(g, m)
    return _at(x, g, group, image, y + p[1], column + p[2], p[0])


@_d.device
def _kernel_item(kernel, g, group, q, n):
    return kernel[q * g[0] + group * g[1] + n]


@_d.device
def _row_item(z, g, group, m, n):
    return z[m // g[0] * g[1] + m % g[0] * g[2] + (group * g[4] + n) * g[3]]


@_d.device
def _reached(g, m):
    """Of a pixel of x: its image, and its row and column in the padded image."""
    plane = g[0] * g[1]
    return m // plane * g[11], m % plane // g[1] + g[7], m % g[1] + g[8]


@_d.device
def _reached_item(z, g, group, p, k):
    oh, ow, kw, sh, sw, each = g[2], g[3], g[4], g[5], g[6], g[14]
    place = k // each
    y, column = p[1] - place // kw * g[9], p[2] - place % kw * g[10]
    inside = y >= 0 and column >= 0 and y % sh == 0 and column % sw == 0
    y, column = y // sh, column // sw
    inside = inside and y < oh and column < ow
    at = p[0] + (y * ow + column) * g[12] + (group * each + k % each) * g[13]
    return _item_or_zero(z, at, inside)


@_d.device
def _kernel_transposed(kernel, g, group, k, c):
    outputs, each, inner = g
    return kernel[(k // each * inner + c) * outputs + group * each + k % each]
