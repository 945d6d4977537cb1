"""Convolutions of 3x3 in float32 against sums made one product after the other, and float64."""

from __future__ import annotations

import numpy as np
from helpers import relative_error

from fastnn.kernels.cpu import _conv
from fastnn.types import Window

FLAT = ((0, 0), (0, 0))


def plain_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [.., K] times b [K, ..] in a's dtype, one product after the other."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        total += a[:, k, None] * b[k]
    return total


def patches_of(x: np.ndarray, stride: int) -> np.ndarray:
    """[pixels, 3 * 3 * C] of a 3x3 convolution without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
    return windows.reshape(-1, 9 * x.shape[3])


def assert_below(found: np.ndarray, plain: np.ndarray, exact: np.ndarray) -> None:
    """In the mean of squares and in the largest, the error is at most that of the plain sum."""
    error, bound = np.abs(found - exact), np.abs(plain - exact)
    assert np.sqrt((error**2).mean()) <= np.sqrt((bound**2).mean())
    assert error.max() <= bound.max()


def check_forward(size, inputs, outputs, stride, mean, kernel_mean) -> None:
    """An image of ``size`` pixels a side rounds less than a plain sum."""
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((2, size, size, inputs)) + mean).astype(np.float32)
    kernel = (rng.standard_normal((3, 3, inputs, outputs)) + kernel_mean).astype(np.float32)
    window = Window((3, 3), (stride, stride), FLAT, (1, 1))
    y = _conv.forward(x, kernel, None, window, 1, "channels_last", None)
    patches, flat = patches_of(x, stride), kernel.reshape(-1, outputs)
    exact = patches.astype(np.float64) @ flat.astype(np.float64)
    assert_below(y.reshape(exact.shape), plain_products(patches, flat), exact)


def check_gradients(outputs, stride, mean, dy_mean) -> None:
    """Gradients of the image and of the kernel round less than plain sums."""
    rng = np.random.default_rng(2)
    size, inputs = 17, 20
    out = (size - 3) // stride + 1
    x = (rng.standard_normal((2, size, size, inputs)) + mean).astype(np.float32)
    kernel = rng.standard_normal((3, 3, inputs, outputs)).astype(np.float32)
    dy = (rng.standard_normal((2, out, out, outputs)) + dy_mean).astype(np.float32)
    window = Window((3, 3), (stride, stride), FLAT, (1, 1))
    common = (window, 1, "channels_last", None, True, True)
    dx, dkernel, dbias = _conv.backward(dy, x, kernel, dy, *common)
    flat = dy.reshape(-1, outputs)
    across = np.ascontiguousarray(patches_of(x, stride).T)
    exact = across.astype(np.float64) @ flat.astype(np.float64)
    assert_below(dkernel.reshape(exact.shape), plain_products(across, flat), exact)
    assert relative_error(dbias, flat.astype(np.float64).sum(0)) <= 1e-6
    # dx is the convolution of dy, with zeros between and around it, with the kernel turned round
    spread = np.zeros((2, size + 2, size + 2, outputs), np.float32)
    spread[:, 2:-2:stride, 2:-2:stride] = dy
    turned = np.ascontiguousarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2)).reshape(-1, inputs)
    patches = patches_of(spread, 1)
    exact = patches.astype(np.float64) @ turned.astype(np.float64)
    assert_below(dx.reshape(exact.shape), plain_products(patches, turned), exact)
