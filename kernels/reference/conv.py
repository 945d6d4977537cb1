"""Convolution as a matrix product over patches.

Forward: ``z[n, o] = sum over (i, j, c) of P[n, i, j, c] K[i, j, c, o] + b[o]``, ``y = act(z)``,
where n counts the output pixels of the batch and P are the patches. Backward, with
``dz = dy act'(z)``: ``dK = P^T dz``, ``db = sum over n of dz``, and dx is the adjoint of the
patches on ``dz K^T``. With groups, each group has its own product.
"""

from __future__ import annotations

import numpy as np

from .activation import fused, fused_gradient
from .patches import as_format, channels_last, fold, patches


def im2col(x, window):
    """Patches of x [B, C, h, w] as rows: [B*oh*ow, C*kh*kw]."""
    p = patches(channels_last(x, "channels_first"), window)
    return p.transpose(0, 1, 2, 5, 3, 4).reshape(-1, x.shape[1] * p.shape[3] * p.shape[4])


def col2im(cols, x_shape, window):
    """The adjoint of `im2col`: [B, C, h, w]."""
    b, c, h, w = x_shape
    kh, kw = window[0]
    oh, ow = patches(np.empty((0, h, w, c), dtype=bool), window).shape[1:3]
    cells = cols.reshape(b, oh, ow, c, kh, kw)
    image = fold(lambda i, j: cells[..., i, j], window, (b, h, w, c), cols.dtype)
    return as_format(image, "channels_first")


def forward(x, kernel, bias, window, groups, data_format, activation):
    """y [B, oh, ow, O] or [B, O, oh, ow]."""
    p = patches(channels_last(x, data_format), window)
    b, oh, ow = p.shape[:3]
    z = _grouped_patches(p, groups) @ _grouped_kernel(kernel, groups)  # [G, N, O/G]
    z = z.transpose(1, 0, 2).reshape(b, oh, ow, kernel.shape[3])
    if bias is not None:
        z += bias
    return as_format(fused(z, activation), data_format)


def backward(dy, x, kernel, y, window, groups, data_format, activation, with_bias, need_dx):
    """(dx or None, dkernel, dbias or None)."""
    kh, kw, inner, outputs = kernel.shape
    image = channels_last(x, data_format)
    p = patches(image, window)
    dz = channels_last(fused_gradient(dy, y, activation), data_format)
    b, oh, ow = dz.shape[:3]
    dz_groups = dz.reshape(b * oh * ow, groups, outputs // groups).transpose(1, 0, 2)

    dkernel = _grouped_patches(p, groups).transpose(0, 2, 1) @ dz_groups  # [G, kh*kw*C/G, O/G]
    dkernel = dkernel.reshape(groups, kh, kw, inner, outputs // groups)
    dkernel = dkernel.transpose(1, 2, 3, 0, 4).reshape(kernel.shape)

    # A plain sum along a strided axis loses digits in float32, unlike the blocked products above.
    dbias = dz.sum(axis=(0, 1, 2), dtype=np.float64).astype(x.dtype) if with_bias else None
    if not need_dx:
        return None, dkernel, dbias
    dx = _input_gradient(dz_groups, dz.shape[:3], kernel, window, image)
    return as_format(dx, data_format), dkernel, dbias


def _input_gradient(dz_groups, pixels, kernel, window, image):
    """[B, h, w, C] from dz [G, B*oh*ow, O/G], with ``pixels`` (B, oh, ow)."""
    kh, kw, inner, _ = kernel.shape
    groups = len(dz_groups)
    dp = dz_groups @ _grouped_kernel(kernel, groups).transpose(0, 2, 1)  # [G, N, kh*kw*C/G]
    dp = dp.reshape(groups, *pixels, kh, kw, inner)
    return fold(
        lambda i, j: dp[:, :, :, :, i, j].transpose(1, 2, 3, 0, 4).reshape(*pixels, groups * inner),
        window,
        image.shape,
        image.dtype,
    )


def _grouped_patches(p, groups):
    """[B, oh, ow, kh, kw, C] as [G, B*oh*ow, kh*kw*C/G]."""
    b, oh, ow, kh, kw, c = p.shape
    p = p.reshape(b * oh * ow, kh, kw, groups, c // groups)
    return p.transpose(3, 0, 1, 2, 4).reshape(groups, b * oh * ow, kh * kw * (c // groups))


def _grouped_kernel(kernel, groups):
    """[kh, kw, C/G, O] as [G, kh*kw*C/G, O/G]."""
    kh, kw, inner, outputs = kernel.shape
    k = kernel.reshape(kh * kw * inner, groups, outputs // groups)
    return k.transpose(1, 0, 2)
