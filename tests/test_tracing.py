"""Lambda: the gradients of functions written in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers

FIXED = np.random.default_rng(5).normal(size=(3, 4))
ROWS = np.array([2, 0, 2])

FUNCTIONS = {
    "expand": lambda x: np.expand_dims(x, -1),
    "newaxis": lambda x: x[:, None],
    "scale": lambda x: x * 100,
    "reverse_operands": lambda x: 3 - 2 / (5 + np.abs(x)),
    "polynomial": lambda x: x**3 - 2.0 * x**2 + x / 7 - 1,
    "power_of_traced": lambda x: 1.5**x + (x * x + 1) ** x,
    "broadcast": lambda x: x[:, :1] * FIXED[None, 0] + x.mean(axis=0) + x.sum(),
    "softmax": lambda x: (
        np.exp(x - x.max(axis=-1, keepdims=True))
        / np.exp(x - x.max(axis=-1, keepdims=True)).sum(axis=-1, keepdims=True)
    ),
    "transcendental": lambda x: np.sin(x) + np.tanh(x) * np.cos(x) + np.log1p(x * x) + np.arctan(x),
    "roots": lambda x: np.sqrt(x * x + 1) + np.cbrt(x + 9) + np.log(x * x + 2) + np.hypot(x, 2),
    "exponentials": lambda x: np.exp2(x) + np.expm1(x) + np.logaddexp(x, 0.5) + np.sinh(x),
    "matmul": lambda x: x @ FIXED.T @ FIXED + np.matmul(FIXED.T @ FIXED, x.T).T,
    "vectors": lambda x: x @ FIXED[0] + FIXED[:, 1] @ x @ x.T + x[0] @ x[1] + x[0] @ FIXED[0],
    "stacks": lambda x: np.ones((2, 5, 3)) @ x @ np.ones((2, 4, 2)) + x[0] @ np.ones((2, 4, 2))[0],
    "gram": lambda x: x @ x.T,
    "moves": lambda x: np.roll(np.flip(x.T, 0), 1, axis=1).swapaxes(0, 1).reshape(-1, 2),
    "method_reshape": lambda x: x.reshape(x.shape[0], 2, -1).transpose(0, 2, 1),
    "take_twice": lambda x: np.take(x, ROWS, axis=1) + np.repeat(x[:, 1:2], 3, axis=1),
    "fancy": lambda x: x[:, ROWS] * np.tile(x[:, :1], (1, 3)),
    "boolean": lambda x: x[np.array([True, False, True])],
    "pieces": lambda x: np.concatenate([x, FIXED, np.square(x)], axis=-1),
    "stack": lambda x: np.stack([x, 2 * x], axis=1),
    "flat": lambda x: np.concatenate([x, -x], axis=None),
    "where": lambda x: np.where(x > 0, x, 0.1 * np.expm1(x)),
    "clip": lambda x: np.clip(x, -0.5, 0.8) + x.clip(min=0.1),
    "extremes": lambda x: np.maximum(x, 0.3) + np.minimum(x, FIXED) + np.max(x) - x.min(axis=1)[0],
    "moments": lambda x: (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True),
    "variance": lambda x: np.var(x, axis=(0, 1), ddof=1) * x,
    "cumulated": lambda x: np.cumsum(x, axis=1) + np.cumsum(x).reshape(x.shape),
    "steps": lambda x: x * np.sign(x) + np.floor(x) + (x > 0) * x + np.argmax(x),
    "constant": lambda x: np.sign(x),
    "iterated": lambda x: sum(row * i for i, row in enumerate(x)) + np.zeros_like(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_exact(backend, rng, name):
    layer = layers.Lambda(FUNCTIONS[name])
    assert fastnn.gradcheck(layer, rng.normal(size=(3, 4)), samples=None) <= 1e-7


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_is_what_is_computed(rng, name):
    function = FUNCTIONS[name]
    x = rng.normal(size=(3, 4)).astype("float32")
    layer = layers.Lambda(function)
    before = x.copy()
    for training in (False, True):
        np.testing.assert_array_equal(layer(x, training=training), function(x))
    np.testing.assert_array_equal(x, before)
    assert layer.backward(np.ones_like(function(x))).shape == x.shape


def test_equal_extremes_share_the_gradient():
    layer = layers.Lambda(lambda x: np.max(x, axis=1) + np.maximum(x[:, 0], x[:, 1]))
    layer(np.ones((2, 4)), training=True)
    np.testing.assert_array_equal(
        layer.backward(np.ones(2, "float32")), [[0.75, 0.75, 0.25, 0.25]] * 2
    )


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: np.asarray(x) * 2, "plain array"),
        (lambda x: x * float(x.sum()), "plain number"),
        (lambda x: np.arctan2(x, x), "numpy.arctan2"),
        (lambda x: np.add.reduce(x), "numpy.add.reduce"),
        (lambda x: np.add(x, x, dtype="float64"), "dtype"),
        (lambda x: np.sort(x), "numpy.sort"),
        (lambda x: x.tobytes() and x, ".tobytes"),
        (lambda x: np.clip(x, x, 3), "numpy.clip"),
    ],
)
def test_what_has_no_gradient_is_named_when_one_is_wanted(rng, function, named):
    layer = layers.Lambda(function)
    y = layer(rng.normal(size=(3, 4)), training=True)
    with pytest.raises(RuntimeError, match=rf"^\[lambda.*{named}.*gradient=.* is needed"):
        layer.backward(np.ones_like(y))


def test_a_first_layer_needs_no_gradient(backend, rng):
    model = fastnn.Sequential([layers.Lambda(np.sort), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = rng.normal(size=(20, 3))
    history = model.fit(x, x.max(axis=1), epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("function", "given", "shape"),
    [
        (lambda x: np.expand_dims(x, -1), (None, 20), (None, 20, 1)),
        (lambda x: x[:, -3:] * 2, (None, None, 5), (None, 3, 5)),
        (lambda x: x.reshape(x.shape[0], -1), (None, 4, None), (None, None)),
        (lambda x: x.mean(axis=1), (7, None, 5), (7, 5)),
    ],
)
def test_the_output_shape_is_found(function, given, shape):
    assert layers.Lambda(function).compute_output_shape(given) == shape


def test_an_output_shape_that_cannot_be_found():
    layer = layers.Lambda(lambda x: x[:, 30])
    with pytest.raises(ValueError, match=r"IndexError.*output_shape=.*needed"):
        layer.compute_output_shape((None, None, 5))
    layer = layers.Lambda(lambda x: x if x.shape[0] % 2 else x[0])
    with pytest.raises(ValueError, match="output_shape"):
        layer.compute_output_shape((None, 5))


def test_the_course_network(backend, rng):
    """Windows without channels, and outputs of the size of the series."""
    fastnn.set_random_seed(1)
    model = fastnn.Sequential(
        [
            layers.Input((20,)),
            layers.Lambda(lambda x: np.expand_dims(x, axis=-1)),
            layers.SimpleRNN(6, return_sequences=True),
            layers.SimpleRNN(6),
            layers.Dense(1),
            layers.Lambda(lambda x: x * 100.0),
        ]
    )
    assert model.output_shape == (None, 1)
    assert fastnn.gradcheck(model, rng.normal(size=(2, 20)), samples=20) <= 1e-7
    model.compile(fastnn.optimizers.SGD(1e-6, momentum=0.9), fastnn.losses.Huber(), ["mae"])
    x = rng.normal(size=(64, 20)) + 50
    history = model.fit(x, x[:, -1], epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
