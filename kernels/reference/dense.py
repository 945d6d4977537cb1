"""Dense: ``z = x W + b``, ``y = act(z)``.

Backward, with ``dz = dy act'(z)``: ``dx = dz W^T``, ``dW = x^T dz``, ``db = sum dz``.
"""

from __future__ import annotations

import numpy as np

from .activation import fused, fused_gradient


def forward(x, kernel, bias, activation):
    """y [..., O]."""
    inputs, units = kernel.shape
    z = x.reshape(-1, inputs) @ kernel
    if bias is not None:
        z += bias
    return fused(z, activation).reshape(*x.shape[:-1], units)


def backward(dy, x, kernel, y, activation, with_bias, need_dx):
    """(dx or None, dkernel, dbias or None)."""
    inputs, units = kernel.shape
    dz = fused_gradient(dy, y, activation).reshape(-1, units)
    dx = (dz @ kernel.T).reshape(x.shape) if need_dx else None
    dkernel = x.reshape(-1, inputs).T @ dz
    # A plain sum along a strided axis loses digits in float32, unlike the blocked products above.
    dbias = dz.sum(axis=0, dtype=np.float64).astype(x.dtype) if with_bias else None
    return dx, dkernel, dbias
