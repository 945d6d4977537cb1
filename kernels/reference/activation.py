"""Activation functions and their derivatives, with Keras 3's constants.

``_FORWARD[name](x)`` gives y. ``_BACKWARD[name](dy, kept)`` gives dx, where kept is y, or x for
the three whose derivative is not a good function of y (softsign, silu, gelu).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_SLOPE = 0.2  # leaky_relu
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017


def forward(x, activation):
    """y in x's shape."""
    return _FORWARD[activation](x)


def backward(dy, kept, activation):
    """dx in dy's shape."""
    return _BACKWARD[activation](dy, kept)


def fused(z, activation):
    """The activation after a convolution or a dense layer; None is linear."""
    return z if activation is None else _FORWARD[activation](z)


def fused_gradient(dy, y, activation):
    """dz from dy and y."""
    return dy if activation is None else _BACKWARD[activation](dy, y)


def sigmoid(x):
    """``1 / (1 + exp(-x))`` with an exponential that cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x):
    """``log(1 + exp(x))`` with an exponential that cannot overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def log_softmax(x):
    """``x - log sum exp x`` over the last axis."""
    shifted = _shifted(x)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(x):
    """``exp x / sum exp x`` over the last axis."""
    e = np.exp(_shifted(x))
    return e / e.sum(axis=-1, keepdims=True)


def _shifted(x):
    return x - x.max(axis=-1, keepdims=True)


def erfc(x):
    """The complementary error function, to about 1e-15 relative; float64 inside.

    Near zero ``erf x = 2/sqrt(pi) exp(-x^2) sum (2 x^2)^n x / (2n + 1)!!``, whose terms are all
    positive. Elsewhere the trapezoidal rule with its pole corrected (Matta & Reichel 1971):
    ``erfc x = h x exp(-x^2) / pi (1/x^2 + 2 sum exp(-(n h)^2) / ((n h)^2 + x^2))
    - 2 / (exp(2 pi x / h) - 1)``.
    """
    a = np.abs(np.asarray(x, dtype=np.float64))
    gauss = np.exp(-a * a)

    small = np.minimum(a, 1.0)
    term = total = small
    for n in range(1, 26):
        term = term * (2 * small * small / (2 * n + 1))
        total = total + term
    near = 1.0 - 2.0 / math.sqrt(math.pi) * gauss * total

    h = 0.5
    large = np.maximum(a, 1.0)
    squared = np.minimum(large * large, 1e300)
    series = 1.0 / squared
    for n in range(1, 14):
        series = series + 2.0 * math.exp(-((n * h) ** 2)) / ((n * h) ** 2 + squared)
    # Beyond 2 pi x / h = 700 the correction is far below the result's last digit, or both are 0.
    pole = 2.0 / np.expm1(np.minimum(2 * math.pi * large / h, 700.0))
    far = h / math.pi * np.minimum(large, 1e150) * gauss * series
    far = np.where(large < math.pi / h, far - pole, far)

    upper = np.where(a < 1.0, near, far)
    return np.where(x < 0, 2.0 - upper, upper)


def _normal_cdf(x):
    return 0.5 * erfc(x.astype(np.float64) * -math.sqrt(0.5))


def _gelu(x):
    return (x * _normal_cdf(x)).astype(x.dtype)


def _gelu_gradient(dy, x):
    wide = x.astype(np.float64)
    density = np.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
    return (dy * (_normal_cdf(x) + wide * density)).astype(x.dtype)


def _silu_gradient(dy, x):
    s = sigmoid(x)
    return dy * (s + x * s * (1 - s))


def _selu(x):
    return _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0)))


_FORWARD: dict[str, Callable] = {
    "linear": lambda x: x.copy(),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, _SLOPE * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": _selu,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "silu": lambda x: x * sigmoid(x),
    "gelu": _gelu,
    "softmax": softmax,
    "log_softmax": log_softmax,
}

_BACKWARD: dict[str, Callable] = {
    "linear": lambda dy, y: dy.copy(),
    "relu": lambda dy, y: np.where(y > 0, dy, 0),
    "leaky_relu": lambda dy, y: np.where(y > 0, dy, _SLOPE * dy),
    "elu": lambda dy, y: np.where(y > 0, dy, dy * (y + 1)),
    "selu": lambda dy, y: np.where(y > 0, _SELU_SCALE * dy, dy * (y + _SELU_SCALE * _SELU_ALPHA)),
    "tanh": lambda dy, y: dy * (1 - y * y),
    "sigmoid": lambda dy, y: dy * (y * (1 - y)),
    "hard_sigmoid": lambda dy, y: np.where((y > 0) & (y < 1), dy / 6, 0),
    "softplus": lambda dy, y: dy * -np.expm1(-y),
    "softsign": lambda dy, x: dy / np.square(1 + np.abs(x)),
    "exponential": lambda dy, y: dy * y,
    "silu": _silu_gradient,
    "gelu": _gelu_gradient,
    "softmax": lambda dy, y: y * (dy - (dy * y).sum(axis=-1, keepdims=True)),
    "log_softmax": lambda dy, y: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True),
}
