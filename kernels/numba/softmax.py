"""Softmax and log_softmax over the last axis, forward and backward.

    softmax      y = exp(x - m) / s,        dx = y (dy - sum(dy y))
    log_softmax  y = x - m - log s,         dx = dy - exp(y) sum(dy)

with m the row's maximum and s the row's sum of exp(x - m).
"""

from __future__ import annotations

from functools import cache

from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat
from fastnn.kernels.numba.rows import by_rows, row_max, row_sum

NAMES = ("softmax", "log_softmax")
_exp, _log, _maximum = _d.exp, _d.log, _d.maximum


@_d.device
def peak(x, first, columns, buffer):
    """The maximum of the row that starts at ``first``; ``columns`` is 0 where there is no row."""
    best = x[first if columns else 0]  # an element of the row, so it changes no maximum
    for c in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        best = _maximum(best, x[first + c])
    return row_max(best, buffer)


@_d.device
def exp_sum(x, first, columns, top, buffer):
    """The sum of ``exp(x - top)`` over a row."""
    total = type(top)(0)
    for c in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += _exp(x[first + c] - top)
    return row_sum(total, buffer)


def forward(x, activation):
    """y in x's shape; ``x`` in C order."""
    y = empty(x.shape, x.dtype)
    by_rows(_forward(activation == "log_softmax"), *_rows(x), flat(x), flat(y))
    return y


def backward(dy, y, activation):
    """dx from dy and y, both in C order."""
    dx = empty(dy.shape, dy.dtype)
    function = _backward(activation == "log_softmax")
    by_rows(function, *_rows(dy), flat(dy), flat(y), flat(dx))
    return dx


def _rows(x):
    return (x.size // x.shape[-1] if x.size else 0), x.shape[-1]


@cache
def _forward(logarithm):
    def apply(rows, columns, x, y):
        buffer = cuda.shared.array(0, x.dtype)
        height = cuda.blockDim.y
        for start in range(cuda.blockIdx.x * height, rows, cuda.gridDim.x * height):
            r = start + cuda.threadIdx.y
            width = columns if r < rows else 0
            top = peak(x, r * columns, width, buffer)
            total = exp_sum(x, r * columns, width, top, buffer)
            for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                shifted = x[r * columns + c] - top
                y[r * columns + c] = shifted - _log(total) if logarithm else _exp(shifted) / total

    return _d.kernel(apply)


@cache
def _backward(logarithm):
    def apply(rows, columns, dy, y, dx):
        buffer = cuda.shared.array(0, dy.dtype)
        height = cuda.blockDim.y
        for start in range(cuda.blockIdx.x * height, rows, cuda.gridDim.x * height):
            r = start + cuda.threadIdx.y
            width = columns if r < rows else 0
            total = type(dy[0])(0)
            for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                i = r * columns + c
                total += dy[i] if logarithm else dy[i] * y[i]
            total = row_sum(total, buffer)
            for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                i = r * columns + c
                if logarithm:
                    dx[i] = dy[i] - _exp(y[i]) * total
                else:
                    dx[i] = y[i] * (dy[i] - total)

    return _d.kernel(apply)
