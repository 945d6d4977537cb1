"""Dense layers: values, gradients, layouts, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_close_to_reference,
    check_gradients,
    same_on_every_layout,
)

import fastnn
from fastnn import use_backend

DENSE_SHAPES = {
    "smallest": ((2, 3), 2),
    "one": ((1, 1), 1),
    "vector": ((5,), 3),
    "three axes": ((2, 3, 5), 7),
    "many": ((33, 65), 47),
    "long sums": ((9, 1024), 10),
}
FUSED = pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
dense_of = pytest.mark.parametrize(
    ("shape", "units"), DENSE_SHAPES.values(), ids=DENSE_SHAPES.keys()
)


def dense_arrays(shape, units, rng, dtype=np.float64):
    scale = 1 / math.sqrt(shape[-1])
    return [
        rng.standard_normal(shape).astype(dtype),
        (rng.standard_normal((shape[-1], units)) * scale).astype(dtype),
        rng.standard_normal(units).astype(dtype),
    ]


def run_dense(activation):
    def run(x, kernel, bias):
        y, saved = fastnn.dense_forward(x, kernel, bias, activation=activation)
        return y, lambda dy: fastnn.dense_backward(dy, saved)

    return run


@dense_of
def test_dense_is_the_definition(backend, shape, units, rng):
    x, kernel, bias = dense_arrays(shape, units, rng)
    y, saved = fastnn.dense_forward(x, kernel, bias, activation="tanh")
    expected = np.empty((*shape[:-1], units))
    for at in np.ndindex(expected.shape):
        expected[at] = math.tanh(math.fsum(x[at[:-1]] * kernel[:, at[-1]]) + bias[at[-1]])
    assert_close(y, expected, np.float64)
    assert saved.backend == backend


@dense_of
@FUSED
def test_dense_gradients(backend, shape, units, activation, rng):
    arrays = dense_arrays(shape, units, rng)
    check_gradients(run_dense(activation), arrays, full=math.prod(shape) < 40)


@dense_of
@FUSED
def test_dense_agrees_with_the_reference(backend, dtype, shape, units, activation, rng):
    dy = rng.standard_normal((*shape[:-1], units)).astype(dtype)

    def run(x, kernel, bias, dy):
        y, saved = fastnn.dense_forward(x, kernel, bias, activation=activation)
        return y, *fastnn.dense_backward(dy, saved)

    assert_close_to_reference(run, [*dense_arrays(shape, units, rng, dtype), dy])


def test_dense_without_bias_and_linear_by_name(backend, rng):
    x, kernel, _ = dense_arrays((4, 3), 2, rng)
    y, saved = fastnn.dense_forward(x, kernel, activation="linear")
    assert_close(y, x @ kernel, np.float64)
    assert saved.activation is None and fastnn.dense_backward(y, saved).dbias is None


def test_dense_memory_layouts(backend, dtype, rng):
    arrays = dense_arrays((3, 4, 5), 6, rng, dtype)

    def run(x, kernel, bias, dy):
        y, saved = fastnn.dense_forward(x, kernel, bias, activation="sigmoid")
        return y, *fastnn.dense_backward(dy, saved)

    same_on_every_layout(run, [*arrays, rng.standard_normal((3, 4, 6)).astype(dtype)])


def test_dense_forward_here_backward_there(two_backends, dtype, rng):
    first, second = two_backends
    with use_backend(first):
        y, saved = fastnn.dense_forward(*dense_arrays((5, 7), 3, rng, dtype), activation="tanh")
    here = fastnn.dense_backward(y, saved)
    there = fastnn.dense_backward(y, saved._replace(backend=second))
    for one, other in zip(here, there, strict=True):
        assert_close(one, other, dtype)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_dense_empty_batch(backend, dtype, shape):
    x, kernel, bias = np.zeros(shape, dtype), np.ones((3, 2), dtype), np.ones(2, dtype)
    y, saved = fastnn.dense_forward(x, kernel, bias, activation="relu")
    assert y.shape == (*shape[:-1], 2) and y.dtype == dtype
    dx, dkernel, dbias = fastnn.dense_backward(y, saved)
    assert dx.shape == shape
    assert dkernel.shape == (3, 2) and not dkernel.any()
    assert dbias.shape == (2,) and not dbias.any()


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((np.ones((2, 3)), np.ones((4, 2))), {}, ValueError, r"x has 3 inputs and the kernel"),
        ((np.ones((2, 3)), np.ones(3)), {}, ValueError, r"kernel .*\[I, O\] is needed"),
        ((np.ones((2, 0)), np.ones((0, 2))), {}, ValueError, "axes of at least 1"),
        ((np.ones((2, 3)), np.ones((3, 2), "f")), {}, TypeError, "kernel is float32 and x is"),
        ((np.ones((2, 3)), np.ones((3, 2)), np.ones(3)), {}, ValueError, r"the shape \[2\]"),
        ((np.array(1.0), np.ones((1, 2))), {}, ValueError, "at least one axis"),
        ((np.ones((2, 3)), None), {}, TypeError, "kernel is None"),
        ((np.ones((2, 3)), np.ones((3, 2))), {"activation": "gelu"}, ValueError, "one of None"),
        ((np.ma.ones((2, 1)), np.ones((1, 1))), {}, TypeError, "x is a numpy.ma.*MaskedArray"),
    ],
)
def test_dense_refuses(backend, arrays, options, error, message):
    with pytest.raises(error, match=r"^\[dense_forward\] .*" + message):
        fastnn.dense_forward(*arrays, **options)


def test_dense_backward_refuses(backend):
    y, saved = fastnn.dense_forward(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"^\[dense_backward\] dy .*the output's float64 \[2, 2\]"):
        fastnn.dense_backward(np.ones((2, 3)), saved)
    with pytest.raises(TypeError, match="saved is a ndarray; the DenseSaved"):
        fastnn.dense_backward(y, y)
