"""Activation functions and their derivatives, with Keras 3's constants.

Elementwise functions are scalar device functions in two tables, ``forward[name](x)`` and
``backward[name](dy, kept)``; kept is y, or x for softsign, silu and gelu. Softmax and log_softmax
are in `fastnn.kernels.numba.softmax`.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat

_SLOPE = 0.2  # leaky_relu
_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805  # selu, Klambauer et al. 2017
_ROOT_HALF, _ROOT_TWO_PI = math.sqrt(0.5), math.sqrt(2 * math.pi)
_exp, _expm1, _log1p, _erfc = _d.exp, _d.expm1, _d.log1p, _d.erfc
_sigmoid, _maximum, _magnitude, _tanh = _d.sigmoid, _d.maximum, _d.magnitude, _d.tanh


def _relu(x):
    return _maximum(x, type(x)(0))


def _leaky_relu(x):
    return x if x > 0 else type(x)(_SLOPE) * x


def _elu(x):
    return x if x > 0 else _expm1(x)


def _selu(x):
    real = type(x)
    return real(_SCALE) * (x if x > 0 else real(_ALPHA) * _expm1(x))


def _hard_sigmoid(x):
    real = type(x)
    y = x / real(6) + real(0.5)
    return real(0) if y < 0 else (real(1) if y > 1 else y)


def _softplus(x):
    return _maximum(x, type(x)(0)) + _log1p(_exp(-_magnitude(x)))


def _softsign(x):
    return x / (type(x)(1) + _magnitude(x))


def _silu(x):
    return x * _sigmoid(x)


@_d.device
def _normal_cdf(wide):
    return 0.5 * _erfc(-_ROOT_HALF * wide)


def _gelu(x):
    # In float64 as in the reference: the tail is a product with a rounded argument's erfc.
    wide = np.float64(x)
    return type(x)(wide * _normal_cdf(wide))


def _gelu_backward(dy, x):
    wide = np.float64(x)
    density = _exp(-0.5 * wide * wide) / _ROOT_TWO_PI
    return type(dy)(dy * (_normal_cdf(wide) + wide * density))


def _silu_backward(dy, x):
    s = _sigmoid(x)
    return dy * (s + x * s * (type(x)(1) - s))


def _softsign_backward(dy, x):
    one = type(x)(1) + _magnitude(x)
    return dy / (one * one)


def _selu_backward(dy, y):
    real = type(y)
    return real(_SCALE) * dy if y > 0 else dy * (y + real(_SCALE * _ALPHA))


_FORWARD = {
    "linear": lambda x: x,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "tanh": lambda x: _tanh(x),
    "sigmoid": lambda x: _sigmoid(x),
    "hard_sigmoid": _hard_sigmoid,
    "softplus": _softplus,
    "softsign": _softsign,
    "exponential": lambda x: _exp(x),
    "silu": _silu,
    "gelu": _gelu,
}

_BACKWARD = {
    "linear": lambda dy, y: dy,
    "relu": lambda dy, y: dy if y > 0 else type(dy)(0),
    "leaky_relu": lambda dy, y: dy if y > 0 else type(dy)(_SLOPE) * dy,
    "elu": lambda dy, y: dy if y > 0 else dy * (y + type(y)(1)),
    "selu": _selu_backward,
    "tanh": lambda dy, y: dy * (type(y)(1) - y * y),
    "sigmoid": lambda dy, y: dy * (y * (type(y)(1) - y)),
    "hard_sigmoid": lambda dy, y: dy / type(dy)(6) if y > 0 and y < 1 else type(dy)(0),
    "softplus": lambda dy, y: dy * -_expm1(-y),
    "softsign": _softsign_backward,
    "exponential": lambda dy, y: dy * y,
    "silu": _silu_backward,
    "gelu": _gelu_backward,
}


def forward(x, activation):
    """y in x's shape; ``x`` in C order."""
    y = empty(x.shape, x.dtype)
    _d.spread(_unary(activation), x.size, flat(x), flat(y))
    return y


def backward(dy, kept, activation):
    """dx from dy and what was kept, both in C order."""
    dx = empty(dy.shape, dy.dtype)
    _d.spread(_binary(activation), dy.size, flat(dy), flat(kept), flat(dx))
    return dx


def fused_backward(dy, y, activation):
    """dz where ``y = act(z)`` was the end of a product; dy itself if there is no activation."""
    return dy if activation is None else backward(dy, y, activation)


@cache
def _unary(activation):
    function = _d.device(_FORWARD[activation])

    def apply(n, x, y):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            y[i] = function(x[i])

    return _d.kernel(apply)


@cache
def _binary(activation):
    function = _d.device(_BACKWARD[activation])

    def apply(n, dy, kept, dx):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            dx[i] = function(dy[i], kept[i])

    return _d.kernel(apply)
