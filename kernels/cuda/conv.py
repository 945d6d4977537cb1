"""Convolution on the GPU: by columns and cuBLAS, by an implicit product, or tap by tap.

===========  ====================================================================================
depthwise    one input channel a group: a weighted sum of taps
implicit     few channels: the patches are read from the image while they are multiplied
columns      many channels: patches as a matrix, some images at a time, and cuBLAS; a 1 x 1
             convolution with stride 1 is cuBLAS on x itself
===========  ====================================================================================

`FASTNN_CUDA_CONV` = implicit | columns chooses for groups of more than one channel (for tests).
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda.launch import THREADS, over, plain, pointer, strides, struct, wide
from fastnn.kernels.cuda.loader import dtype_code, typed
from fastnn.kernels.cuda.loader import kernel as load_kernel
from fastnn.kernels.cuda.pointwise import (
    CODES,
    activation_backward,
    add_bias_and_activate,
    column_sums,
    combine,
)

_FEW_CHANNELS = 8
_COLUMN_BYTES = 256 << 20  # of patches at a time
_TILE_M = 128  # of conv_tile.cuh
_SEGMENT_PIXELS = 4096  # summed by one block before the segments are
_MOST_SEGMENTS = 256
_MOST_DEEP = 65535  # blocks along the third axis of a grid


def im2col(x: Any, window: Any) -> Any:
    """Patches of x [B, C, h, w] as rows: [B*oh*ow, C*kh*kw]."""
    call = _Call(x.shape, strides(x), x.dtype, window, 1, x.shape[1], "channels_first")
    return call.columns(x, 0, call.pixels, 0, channels_first=1)


def col2im(cols: Any, x_shape: tuple[int, int, int, int], window: Any) -> Any:
    """The adjoint of `im2col`: [B, C, h, w]."""
    x = cupy.empty(x_shape, cols.dtype)
    call = _Call(x_shape, strides(x), x.dtype, window, 1, x_shape[1], "channels_first")
    call.fold(plain(cols), x, 0, x_shape[0], 0, channels_first=1)
    return x


def forward(
    x: Any,
    kernel: Any,
    bias: Any,
    window: Any,
    groups: int,
    data_format: str,
    activation: str | None,
) -> Any:
    """y [B, oh, ow, O] or [B, O, oh, ow]."""
    call = _Call(x.shape, strides(x), x.dtype, window, groups, kernel.shape[3], data_format)
    kernel = plain(kernel)
    bias = None if bias is None else plain(bias)
    y = cupy.empty(call.y_shape, x.dtype)
    if not y.size:
        return y
    code = np.int32(CODES[activation])
    if call.method == "depthwise":
        sizes = (np.int64(y.size), code, np.int32(call.last), call.struct)
        over("conv_depthwise", "forward", x.dtype, y.size, (x, kernel, pointer(bias), y, *sizes))
    elif call.method == "implicit":
        args = (x, kernel, pointer(bias), y, code, call.struct)
        call.tiles("forward", call.pixels, call.outer, groups, args)
    else:
        _columns_forward(call, x, kernel, bias, y, activation)
    return y


def backward(
    dy: Any,
    x: Any,
    kernel: Any,
    y: Any,
    window: Any,
    groups: int,
    data_format: str,
    activation: str | None,
    with_bias: bool,
    need_dx: bool,
) -> tuple[Any, Any, Any]:
    """(dx or None, dkernel, dbias or None)."""
    outputs = kernel.shape[3]
    call = _Call(x.shape, strides(x), x.dtype, window, groups, outputs, data_format)
    kernel = plain(kernel)
    dz = dy if activation is None else activation_backward(dy, y, activation)
    if not call.last:
        dz = dz.transpose(0, 2, 3, 1)
    dz = plain(dz).reshape(-1, outputs)
    if not dz.size:
        empty = cupy.zeros(x.shape, x.dtype) if need_dx else None
        dbias = cupy.zeros(outputs, x.dtype) if with_bias else None
        return empty, cupy.zeros(kernel.shape, x.dtype), dbias
    dkernel = _WEIGHTS[call.method](call, x, dz, kernel)
    dx = None
    if need_dx:
        dx = cupy.empty(x.shape, x.dtype)
        across = _Call(x.shape, strides(dx), x.dtype, window, groups, outputs, data_format)
        _INPUT[call.method](across, dz, kernel, dx)
    return dx, dkernel, column_sums(dz) if with_bias else None


class _Call:
    """The sizes of one call, and the launches that every part of it makes."""

    def __init__(
        self,
        shape: tuple[int, ...],
        steps: tuple[int, ...],
        dtype: Any,
        window: Any,
        groups: int,
        outputs: int,
        data_format: str,
    ) -> None:
        (kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw) = window
        self.last = data_format == "channels_last"
        b, h, w, c = (0, 1, 2, 3) if self.last else (0, 2, 3, 1)
        self.batch, self.height, self.width = shape[b], shape[h], shape[w]
        self.out_height = (self.height + top + bottom - (kh - 1) * dh - 1) // sh + 1
        self.out_width = (self.width + left + right - (kw - 1) * dw - 1) // sw + 1
        self.groups, self.inner, self.outer = groups, shape[c] // groups, outputs // groups
        self.outputs, self.dtype, self.window = outputs, dtype, window
        self.taps = kh * kw * self.inner
        self.image = self.out_height * self.out_width
        self.pixels = self.batch * self.image
        sizes = (self.batch, self.height, self.width, self.out_height, self.out_width)
        places = (kh, kw, sh, sw, top, left, dh, dw)
        order = tuple(steps[axis] for axis in (b, h, w, c))
        row = self.out_width * (outputs if self.last else 1)
        if self.last:
            y_order = (self.image * outputs, row, outputs, 1)
            self.y_shape = (self.batch, self.out_height, self.out_width, outputs)
        else:
            y_order = (self.image * outputs, row, 1, self.image)
            self.y_shape = (self.batch, outputs, self.out_height, self.out_width)
        channels = (groups, self.inner, self.outer)
        self.struct = struct(*sizes, *channels, *places, *order, *y_order)

    @cached_property
    def method(self) -> str:
        if self.inner == 1 and self.groups > 1:
            return "depthwise"
        chosen = os.environ.get("FASTNN_CUDA_CONV")
        if chosen:
            return chosen
        # Tensor cores multiply halves so fast that making the columns is worth it much earlier.
        few = self.taps < 16 if self.dtype.itemsize == 2 else self.inner <= _FEW_CHANNELS
        return "implicit" if few else "columns"

    @property
    def pointwise(self) -> bool:
        """Whether the columns are x itself."""
        plain_window = ((1, 1), (1, 1), ((0, 0), (0, 0)))
        return self.last and tuple(self.window[:3]) == plain_window

    def tiles(self, name: str, rows: int, columns: int, depth: int, args: tuple[Any, ...]) -> None:
        """Run a kernel of conv_implicit.cu on a grid of tiles."""
        tile = next(n for n in (16, 32, 64) if columns <= n or n == 64)
        grid = (-(-rows // _TILE_M), -(-columns // tile), depth)
        defines = {"FNN_DTYPE": dtype_code(self.dtype), "FNN_TILE": tile}
        load_kernel("conv_implicit", name, defines)(grid, (THREADS,), args)

    def columns(self, x: Any, first: int, count: int, group: int, channels_first: int = 0) -> Any:
        """Patches [count, taps] of a group, from the output pixel ``first`` on."""
        if self.pointwise and not channels_first:
            rows = plain(x).reshape(self.pixels, -1)[first : first + count]
            return rows[:, group * self.inner : (group + 1) * self.inner]
        out = cupy.empty((count, self.taps), self.dtype)
        order = (np.int32(group), np.int32(channels_first), self.struct)
        args = (x, out, np.int64(first), np.int64(count), *order)
        over("conv_columns", "columns", self.dtype, out.size, args)
        return out

    def fold(
        self, cols: Any, dx: Any, image: int, images: int, group: int, channels_first: int = 0
    ) -> None:
        """Add patches [images * oh * ow, taps] up in ``dx``, from ``image`` on."""
        count = images * self.height * self.width
        order = (np.int32(group), np.int32(channels_first), np.int32(self.last), self.struct)
        args = (cols, dx, np.int64(image), np.int64(count), *order)
        over("conv_columns", "fold", self.dtype, count * self.inner, args)

    def chunks(self) -> list[tuple[int, int]]:
        """(first image, images): as many as their columns' bytes allow."""
        each = max(1, _COLUMN_BYTES // max(1, self.image * self.taps * self.dtype.itemsize))
        return [(i, min(each, self.batch - i)) for i in range(0, self.batch, each)]

    def kernel_of(self, kernel: Any, group: int) -> Any:
        """The kernel of a group as [taps, O / groups]."""
        flat = kernel.reshape(self.taps, self.outputs)
        return flat[:, group * self.outer : (group + 1) * self.outer]


def _columns_forward(
    call: _Call, x: Any, kernel: Any, bias: Any, y: Any, activation: str | None
) -> None:
    for image, images in call.chunks():
        first, count = image * call.image, images * call.image
        z: Any = None if call.groups == 1 else cupy.empty((count, call.outputs), x.dtype)
        for group in range(call.groups):
            cols = call.columns(x, first, count, group)
            part = cols @ call.kernel_of(kernel, group)
            if z is None:
                z = part
            else:
                z[:, group * call.outer : (group + 1) * call.outer] = part
        add_bias_and_activate(z, bias, activation)
        z = z.reshape(images, call.out_height, call.out_width, call.outputs)
        y[image : image + images] = z if call.last else z.transpose(0, 3, 1, 2)


def _columns_weights(call: _Call, x: Any, dz: Any, kernel: Any) -> Any:
    result = cupy.empty((call.taps, call.outputs), call.dtype)
    chunks = call.chunks()
    for group in range(call.groups):
        own = slice(group * call.outer, (group + 1) * call.outer)
        total: Any = None
        for image, images in chunks:
            first, count = image * call.image, images * call.image
            part = call.columns(x, first, count, group).T @ dz[first : first + count, own]
            if len(chunks) > 1:  # halves would lose digits from chunk to chunk
                part = part.astype(wide(call.dtype), copy=False)
            total = part if total is None else total + part
        result[:, own] = total.astype(call.dtype, copy=False)
    return result.reshape(kernel.shape)


def _columns_input(call: _Call, dz: Any, kernel: Any, dx: Any) -> None:
    for image, images in call.chunks():
        rows = dz[image * call.image : (image + images) * call.image]
        for group in range(call.groups):
            own = slice(group * call.outer, (group + 1) * call.outer)
            cols = rows[:, own] @ call.kernel_of(kernel, group).T
            call.fold(cols, dx, image, images, group)


def _segments(call: _Call, most: int = _MOST_SEGMENTS) -> tuple[int, int]:
    """How many segments of pixels, and how long one is."""
    segments = max(1, min(-(-call.pixels // _SEGMENT_PIXELS), _MOST_SEGMENTS, most))
    each = -(-call.pixels // segments)
    return -(-call.pixels // each), each


def _implicit_weights(call: _Call, x: Any, dz: Any, kernel: Any) -> Any:
    segments, each = _segments(call, _MOST_DEEP // call.groups)
    parts = cupy.empty((segments, *kernel.shape), wide(call.dtype))
    args = (x, dz, parts, np.int64(each), call.struct)
    call.tiles("weights", call.taps, call.outer, call.groups * segments, args)
    result = cupy.empty(kernel.shape, call.dtype)
    combine(parts, result)
    return result


def _implicit_input(call: _Call, dz: Any, kernel: Any, dx: Any) -> None:
    rows = call.batch * call.height * call.width
    call.tiles("input", rows, call.inner, call.groups, (dz, kernel, dx, call.struct))


def _depthwise_weights(call: _Call, x: Any, dz: Any, kernel: Any) -> Any:
    segments, each = _segments(call)
    parts = cupy.empty((segments, *kernel.shape), wide(call.dtype))
    grid = (-(-call.outputs // 32), call.taps, segments)
    launch = typed("conv_depthwise", "weights", call.dtype)
    launch(grid, (32, 8), (x, dz, parts, np.int64(each), call.struct))
    result = cupy.empty(kernel.shape, call.dtype)
    combine(parts, result)
    return result


def _depthwise_input(call: _Call, dz: Any, kernel: Any, dx: Any) -> None:
    args = (dz, kernel, dx, np.int64(dx.size), np.int32(call.last), call.struct)
    over("conv_depthwise", "input", call.dtype, dx.size, args)


_WEIGHTS = {
    "columns": _columns_weights,
    "implicit": _implicit_weights,
    "depthwise": _depthwise_weights,
}
_INPUT = {"columns": _columns_input, "implicit": _implicit_input, "depthwise": _depthwise_input}
