"""Dense on the GPU: products by cuBLAS, bias and activation in one pass over the result.

``z = x W + b``, ``y = act(z)``. Backward, with ``dz = dy act'(z)``: ``dx = dz W^T``,
``dW = x^T dz``, ``db = sum dz``.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels.cuda.launch import plain
from fastnn.kernels.cuda.pointwise import activation_backward, add_bias_and_activate, column_sums


def forward(x: Any, kernel: Any, bias: Any, activation: str | None) -> Any:
    """y [..., O]."""
    inputs, units = kernel.shape
    z = plain(x).reshape(-1, inputs) @ kernel
    add_bias_and_activate(z, bias, activation)
    return z.reshape(*x.shape[:-1], units)


def backward(
    dy: Any, x: Any, kernel: Any, y: Any, activation: str | None, with_bias: bool, need_dx: bool
) -> tuple[Any, Any, Any]:
    """(dx or None, dkernel, dbias or None)."""
    inputs, units = kernel.shape
    dz = plain(dy) if activation is None else activation_backward(dy, y, activation)
    dz = dz.reshape(-1, units)
    dx = (dz @ kernel.T).reshape(x.shape) if need_dx else None
    dkernel = plain(x).reshape(-1, inputs).T @ dz
    return dx, dkernel, column_sums(dz) if with_bias else None
