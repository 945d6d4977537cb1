"""Counter-based noise: Philox4x32-10, and the decisions that are made with it.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.

The key is ``(seed low 32, seed high 32)``, the counter ``(i low 32, i high 32, stream, 0)`` with
``i = element // 4``; an element takes the word ``element % 4``. So the noise of an element depends
on the seed, the stream and its own index alone.
"""

from __future__ import annotations

import math

import numpy as np

USER, DROPOUT, RECURRENT_DROPOUT, ZONEOUT_H, ZONEOUT_C, STOCHASTIC_POOLING = range(6)

_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85  # golden ratio, sqrt(3) - 1
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox4x32(counter, key):
    """Ten rounds of Philox on counters [..., 4] with one key of two words; uint32 [..., 4]."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = (int(word) for word in key)
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (p1 >> _32) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _32) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(shape, seed, stream, start=0):
    """One word for each element of ``shape`` in C order, from ``start`` on; uint32."""
    count = math.prod(shape)
    first = start // 4
    block = np.arange(first, -(-(start + count) // 4), dtype=np.uint64)
    counter = np.zeros((block.size, 4), dtype=np.uint64)
    counter[:, 0] = block & _LOW
    counter[:, 1] = block >> _32
    counter[:, 2] = stream
    drawn = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)
    return drawn[start - 4 * first :][:count].reshape(shape)


def uniform(shape, seed, stream, dtype):
    """Uniform numbers in [0, 1): the upper 24 bits of the word, so float32 and float64 agree."""
    upper = words(shape, seed, stream) >> np.uint32(8)
    return upper.astype(dtype) * np.dtype(dtype).type(2.0**-24)


def dropped(shape, rate, seed, stream, start=0):
    """True with the probability ``rate``: where the word is below ``floor(rate * 2**32)``."""
    return words(shape, seed, stream, start) < np.uint32(math.floor(rate * 2.0**32))


def dropout(x, rate, seed, noise_shape):
    """Zeros at ``rate``, the rest divided by ``1 - rate``; for dy it is the backward pass too."""
    scale = x.dtype.type(1.0 / (1.0 - rate))
    return np.where(dropped(noise_shape, rate, seed, DROPOUT), x.dtype.type(0), x * scale)
