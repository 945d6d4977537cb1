"""Counter-based noise: Philox4x32-10, bit for bit that of `fastnn.kernels.reference.noise`.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
Key ``(seed low 32, seed high 32)``, counter ``(i low 32, i high 32, stream, 0)`` with
``i = element // 4``; an element takes the word ``element % 4``. A thread draws one block of four
words and serves its four elements.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat

USER, DROPOUT, RECURRENT_DROPOUT, ZONEOUT_H, ZONEOUT_C, STOCHASTIC_POOLING = range(6)

# Numba makes a float64 of a uint64 and a literal, so every constant has its type.
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_EIGHT = np.uint64(8)
_ZERO = np.uint64(0)
_UNIT = np.float32(2.0**-24)


@_d.device
def philox(block, seed, stream):
    """The four words of a block, each in a uint64."""
    counter = np.uint64(block)
    c0, c1, c2, c3 = counter & _LOW, counter >> _HALF, np.uint64(stream), _ZERO
    k0, k1 = seed & _LOW, seed >> _HALF
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@_d.device
def word(element, seed, stream):
    """The word of one element."""
    w0, w1, w2, w3 = philox(element // 4, seed, stream)
    at = element % 4
    if at < 2:
        return w0 if at == 0 else w1
    return w2 if at == 2 else w3


@_d.device
def unit(word):
    """The upper 24 bits of a word as a float32 in [0, 1)."""
    return np.float32(word >> _EIGHT) * _UNIT


def threshold(rate):
    """A word below it is a drop."""
    return np.uint64(math.floor(rate * 2.0**32))


@_d.kernel
def _uniform(n, seed, stream, count, y):
    for block in range(cuda.grid(1), n, cuda.gridsize(1)):
        words = philox(block, seed, stream)
        for k in range(min(4, count - 4 * block)):
            y[4 * block + k] = unit(words[k])


@_d.kernel
def _mask(n, seed, stream, count, limit, scale, y):
    """0 where the word is a drop, else ``scale``."""
    for block in range(cuda.grid(1), n, cuda.gridsize(1)):
        words = philox(block, seed, stream)
        for k in range(min(4, count - 4 * block)):
            y[4 * block + k] = 0 if words[k] < limit else scale


@_d.kernel
def _dropout(n, seed, stream, count, limit, scale, x, y):
    for block in range(cuda.grid(1), n, cuda.gridsize(1)):
        words = philox(block, seed, stream)
        for k in range(min(4, count - 4 * block)):
            i = 4 * block + k
            y[i] = type(scale)(0) if words[k] < limit else x[i] * scale


@_d.kernel
def _dropout_along(n, shape, steps, mask, x, y):
    """``x * mask`` where the mask has steps of 0 along some axes."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        rest, at = i, 0
        for axis in range(len(shape) - 1, -1, -1):
            at += rest % shape[axis] * steps[axis]
            rest //= shape[axis]
        # Not a product: a dropped infinity is 0.
        y[i] = type(mask[at])(0) if mask[at] == 0 else x[i] * mask[at]


def uniform(shape, seed, stream, dtype):
    """Uniform numbers in [0, 1), a DeviceArray."""
    y = empty(shape, dtype)
    blocks = -(-y.size // 4)
    _d.spread(_uniform, blocks, np.uint64(seed), np.uint64(stream), y.size, flat(y))
    return y


def mask(shape, rate, seed, stream, dtype):
    """0 at the rate, else ``1 / (1 - rate)``."""
    y = empty(shape, dtype)
    key = np.uint64(seed), np.uint64(stream)
    scale = y.dtype.type(1.0 / (1.0 - rate))
    _d.spread(_mask, -(-y.size // 4), *key, y.size, threshold(rate), scale, flat(y))
    return y


def dropout(x, rate, seed, noise_shape):
    """Zeros at ``rate``, the rest divided by ``1 - rate``; ``x`` in C order."""
    y = empty(x.shape, x.dtype)
    if x.shape == tuple(noise_shape):
        key = np.uint64(seed), np.uint64(DROPOUT)
        scale = x.dtype.type(1.0 / (1.0 - rate))
        limit = threshold(rate)
        _d.spread(_dropout, -(-y.size // 4), *key, y.size, limit, scale, flat(x), flat(y))
        return y
    noise = mask(noise_shape, rate, seed, DROPOUT, x.dtype)
    steps = tuple(
        0 if m == 1 else s // x.dtype.itemsize
        for m, s in zip(noise_shape, noise.strides, strict=True)
    )
    _d.spread(_dropout_along, y.size, x.shape, steps, flat(noise), flat(x), flat(y))
    return y
