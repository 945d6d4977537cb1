"""Copies and fills of flat memory and of strided places in it."""

from __future__ import annotations

from numba import cuda

from fastnn.kernels.numba import device as _d


@_d.kernel
def fill(count, value, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i] = value


@_d.kernel
def copy(count, a, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i] = a[i]


@_d.device
def _place(i, offset, shape, strides):
    """Where element i, counted in C order, of a strided array is."""
    for axis in range(len(shape) - 1, -1, -1):
        offset += i % shape[axis] * strides[axis]
        i //= shape[axis]
    return offset


@_d.kernel
def gather(count, source, offset, shape, strides, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i] = source[_place(i, offset, shape, strides)]


@_d.kernel
def scatter(count, source, out, offset, shape, strides):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[_place(i, offset, shape, strides)] = source[i]


@_d.kernel
def fill_places(count, value, out, offset, shape, strides):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[_place(i, offset, shape, strides)] = value
