"""Activations: values, gradients, limits, layouts, what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_close_to_reference,
    check_gradients,
    same_on_every_layout,
    sigmoid,
    softmax,
)

import fastnn
from fastnn import use_backend

SCALAR: dict[str, Any] = {
    "linear": lambda v: v,
    "relu": lambda v: max(v, 0.0),
    "leaky_relu": lambda v: v if v > 0 else 0.2 * v,
    "elu": lambda v: v if v > 0 else math.expm1(v),
    "selu": lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * math.expm1(v)),
    "tanh": math.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda v: min(max(v + 3, 0.0), 6.0) / 6,
    "softplus": lambda v: max(v, 0.0) + math.log1p(math.exp(-abs(v))),
    "softsign": lambda v: v / (1 + abs(v)),
    "exponential": math.exp,
    "silu": lambda v: v * sigmoid(v),
    "gelu": lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)),
}
activation_of = pytest.mark.parametrize("name", fastnn.ACTIVATIONS)


def run_activation(name):
    def run(x):
        y, saved = fastnn.activation_forward(x, name)
        return y, lambda dy: [fastnn.activation_backward(dy, saved)]

    return run


@activation_of
def test_activation_is_the_definition(backend, dtype, name, rng):
    x = (rng.standard_normal((7, 33)) * 4).astype(dtype)
    if name in SCALAR:
        expected = np.array([SCALAR[name](float(v)) for v in x.ravel()]).reshape(x.shape)
    else:
        expected = np.array([softmax(row) for row in x.astype(np.float64).tolist()])
        expected = np.log(expected) if name == "log_softmax" else expected
    y, saved = fastnn.activation_forward(x, name)
    assert_close(y, expected, dtype)
    assert saved.backend == backend and y is not x


@activation_of
def test_activation_gradients(backend, name, rng):
    x = rng.standard_normal((3, 5))
    x += 0.01 * np.sign(x)  # away from the corner of the relus
    check_gradients(run_activation(name), [x], full=True)
    check_gradients(run_activation(name), [rng.standard_normal((6, 41))], full=False)


@activation_of
def test_activation_agrees_with_the_reference(backend, dtype, name, rng):
    def run(x, dy):
        y, saved = fastnn.activation_forward(x, name)
        return y, fastnn.activation_backward(dy, saved)

    arrays = [rng.standard_normal((9, 37)).astype(dtype) for _ in range(2)]
    assert_close_to_reference(run, arrays)


@activation_of
def test_activation_memory_layouts(backend, dtype, name, rng):
    def run(x, dy):
        y, saved = fastnn.activation_forward(x, name)
        return y, fastnn.activation_backward(dy, saved)

    same_on_every_layout(run, [rng.standard_normal((3, 4, 5)).astype(dtype) for _ in range(2)])


@activation_of
def test_activation_forward_here_backward_there(two_backends, dtype, name, rng):
    first, second = two_backends
    with use_backend(first):
        y, saved = fastnn.activation_forward(rng.standard_normal((4, 9)).astype(dtype), name)
    there = fastnn.activation_backward(y, saved._replace(backend=second))
    assert_close(fastnn.activation_backward(y, saved), there, dtype)


@activation_of
def test_activation_of_nothing(backend, dtype, name):
    x = np.zeros((0, 4), dtype)
    y, saved = fastnn.activation_forward(x, name)
    assert y.shape == x.shape and y.dtype == dtype
    assert fastnn.activation_backward(y, saved).shape == x.shape


# f(NaN), f(inf), f(-inf)
LIMITS = {
    "linear": (math.inf, -math.inf),
    "relu": (math.inf, 0),
    "leaky_relu": (math.inf, -math.inf),
    "elu": (math.inf, -1),
    "selu": (math.inf, -1.0507009873554805 * 1.6732632423543772),
    "tanh": (1, -1),
    "sigmoid": (1, 0),
    "hard_sigmoid": (1, 0),
    "softplus": (math.inf, 0),
    "exponential": (math.inf, 0),
}


@pytest.mark.parametrize("name", LIMITS)
def test_activation_limits(backend, dtype, name):
    y, _ = fastnn.activation_forward(np.array([np.nan, np.inf, -np.inf], dtype), name)
    assert np.isnan(y[0])
    np.testing.assert_allclose(y[1:], LIMITS[name], rtol=1e-6)


@activation_of
def test_activation_of_nan_is_nan(backend, dtype, name):
    y, _ = fastnn.activation_forward(np.full(19, np.nan, dtype), name)
    assert np.isnan(y).all()


@pytest.mark.parametrize("large", [1e4, -1e4])
def test_softmax_does_not_overflow(backend, dtype, large):
    x = np.array([[large, large, 0.0], [large, large, large]], dtype)
    expected = [[0.5, 0.5, 0], [1 / 3] * 3] if large > 0 else [[0, 0, 1], [1 / 3] * 3]
    y, saved = fastnn.activation_forward(x, "softmax")
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert np.isfinite(fastnn.activation_backward(np.ones_like(x), saved)).all()
    y, saved = fastnn.activation_forward(x, "log_softmax")
    two = math.log(2)
    expected = [-two, -two, -1e4 - two] if large > 0 else [-1e4, -1e4, 0]
    np.testing.assert_allclose(y, [expected, [-math.log(3)] * 3], rtol=1e-6)
    assert np.isfinite(fastnn.activation_backward(np.ones_like(x), saved)).all()


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "exponential", "gelu", "silu"])
def test_small_results_keep_their_digits(backend, dtype, name):
    x = np.linspace(-30, -5, 200).astype(dtype)
    if name == "gelu":  # below that the density is a subnormal in float32
        x = np.linspace(-8, -3, 200).astype(dtype)
    y, _ = fastnn.activation_forward(x, name)
    expected = np.array([SCALAR[name](float(v)) for v in x])
    assert np.abs(y / expected - 1).max() <= 20 * np.finfo(dtype).eps * 8


def test_activation_refuses(backend):
    for bad, error, message in [
        (np.ones(3, int), TypeError, r"x is int64 \[3\]; float32 or float64 is needed"),
        (np.array(1.0), ValueError, "at least one axis is needed"),
        ([1.0], TypeError, "x is a list"),
    ]:
        with pytest.raises(error, match=r"^\[activation_forward\] .*" + message):
            fastnn.activation_forward(bad, "relu")
    for name in ("swish", None, ["relu"]):
        with pytest.raises(ValueError, match=r"activation is .*; one of linear, relu, "):
            fastnn.activation_forward(np.ones(3), name)
    with pytest.raises(ValueError, match="axes of at least 1"):
        fastnn.activation_forward(np.ones((3, 0)), "softmax")
    _, saved = fastnn.activation_forward(np.ones(3), "gelu")
    with pytest.raises(ValueError, match=r"^\[activation_backward\] dy is float64 \[4\]"):
        fastnn.activation_backward(np.ones(4), saved)
