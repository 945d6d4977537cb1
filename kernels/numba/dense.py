"""Dense: ``y = act(x W + b)``; backward ``dx = dz W^T``, ``dW = x^T dz``, ``db = sum dz``."""

from __future__ import annotations

from fastnn.kernels.numba import gemm
from fastnn.kernels.numba.activation import fused_backward
from fastnn.kernels.numba.array import empty, flat


def forward(x, kernel, bias, activation):
    """y [..., O]; all arrays in C order."""
    inputs, units = kernel.shape
    y = empty((*x.shape[:-1], units), x.dtype)
    gemm.multiply(
        gemm.left(flat(x), inputs, 1),
        gemm.right(flat(kernel), units, 1),
        gemm.out(flat(y), units),
        (x.size // inputs, units, inputs),
        bias=None if bias is None else flat(bias),
        activation=activation,
    )
    return y


def backward(dy, x, kernel, y, activation, with_bias, need_dx):
    """(dx or None, dkernel, dbias or None)."""
    inputs, units = kernel.shape
    rows = x.size // inputs
    dz = flat(fused_backward(dy, y, activation))
    dkernel = empty(kernel.shape, kernel.dtype)
    a, d = gemm.left(flat(x), 1, inputs), gemm.right(dz, units, 1)
    gemm.multiply(a, d, gemm.out(flat(dkernel), units), (inputs, units, rows))
    dbias = empty((units,), x.dtype) if with_bias else None
    if with_bias:
        gemm.column_sums(dz, rows, units, (1, units, 0, 1), flat(dbias))
    if not need_dx:
        return None, dkernel, dbias
    dx = empty(x.shape, x.dtype)
    a, w = gemm.left(dz, units, 1), gemm.right(flat(kernel), 1, units)
    gemm.multiply(a, w, gemm.out(flat(dx), inputs), (rows, inputs, units))
    return dx, dkernel, dbias
