"""Dense, activations, embedding, dropout and the losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import (
    TOLERANCE,
    assert_close,
    assert_close_to_reference,
    check_gradients,
    relative_error,
    same_on_every_layout,
    unchanged,
)
from hypothesis import given
from hypothesis import strategies as st

import fastnn
from fastnn import use_backend

# --------------------------------------------------------------------------- dense

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


# --------------------------------------------------------------------------- activations


def _softmax(row: list[float]) -> list[float]:
    e = [math.exp(v - max(row)) for v in row]
    return [v / math.fsum(e) for v in e]


def _sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v))


SCALAR: dict[str, Any] = {
    "linear": lambda v: v,
    "relu": lambda v: max(v, 0.0),
    "leaky_relu": lambda v: v if v > 0 else 0.2 * v,
    "elu": lambda v: v if v > 0 else math.expm1(v),
    "selu": lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * math.expm1(v)),
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda v: min(max(v + 3, 0.0), 6.0) / 6,
    "softplus": lambda v: max(v, 0.0) + math.log1p(math.exp(-abs(v))),
    "softsign": lambda v: v / (1 + abs(v)),
    "exponential": math.exp,
    "silu": lambda v: v * _sigmoid(v),
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
        expected = np.array([_softmax(row) for row in x.astype(np.float64).tolist()])
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


# --------------------------------------------------------------------------- embedding


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "uint64"])
def test_embedding(backend, dtype, kind, rng):
    table = rng.standard_normal((5, 3)).astype(dtype)
    indices = np.array([[0, 4, 4], [2, 4, 0]], kind)
    with unchanged(indices, table):
        y, saved = fastnn.embedding_forward(indices, table)
        dy = rng.standard_normal(y.shape).astype(dtype)
        dtable = fastnn.embedding_backward(dy, saved)
    assert y.dtype == dtype and saved.backend == backend
    expected = np.zeros((5, 3))
    for at in np.ndindex(indices.shape):
        np.testing.assert_array_equal(y[at], table[indices[at]])
        expected[indices[at]] += dy[at]
    assert_close(dtable, expected, dtype)


def test_embedding_gradient(backend, rng):
    indices = rng.integers(0, 4, (3, 5))

    def run(table):
        y, saved = fastnn.embedding_forward(indices, table)
        return y, lambda dy: [fastnn.embedding_backward(dy, saved)]

    check_gradients(run, [rng.standard_normal((4, 3))], full=True)


def test_embedding_memory_layouts(backend, dtype, rng):
    def run(table, dy):
        y, saved = fastnn.embedding_forward(np.array([[3, 0, 3], [1, 2, 0]]).T, table)
        return y, fastnn.embedding_backward(dy, saved)

    arrays = [rng.standard_normal(shape).astype(dtype) for shape in [(4, 7), (3, 2, 7)]]
    same_on_every_layout(run, arrays)


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_embedding_of_nothing(backend, dtype, shape):
    y, saved = fastnn.embedding_forward(np.zeros(shape, int), np.ones((4, 3), dtype))
    assert y.shape == (*shape, 3) and y.dtype == dtype
    dtable = fastnn.embedding_backward(y, saved)
    assert dtable.shape == (4, 3) and not dtable.any()


@pytest.mark.parametrize(
    ("indices", "table", "error", "message"),
    [
        (np.array([0, 4]), np.ones((4, 2)), ValueError, "indices has 0 to 4; 0 <= indices < 4"),
        (np.array([-1, 2]), np.ones((4, 2)), ValueError, "indices has -1 to 2"),
        (np.array([2**63], "uint64"), np.ones((4, 2)), ValueError, "has 9223372036854775808"),
        (np.array([1.0]), np.ones((4, 2)), TypeError, "integers are needed"),
        (np.array([True]), np.ones((4, 2)), TypeError, "integers are needed"),
        (np.array([0]), np.ones(4), ValueError, r"\[V, E\] is needed"),
        (np.array([0]), np.ones((4, 0)), ValueError, "axes of at least 1"),
        (np.array([0]), np.ones((4, 2), int), TypeError, "table is int64"),
        ([0], np.ones((4, 2)), TypeError, "indices is a list"),
    ],
)
def test_embedding_refuses(backend, indices, table, error, message):
    with pytest.raises(error, match=r"^\[embedding_forward\] .*" + message):
        fastnn.embedding_forward(indices, table)


# --------------------------------------------------------------------------- losses


def rows(y_pred: np.ndarray):
    return np.ndindex(y_pred.shape[:-1])


def _bce(t: float, p: float) -> float:
    return -(t * math.log(p) + (1 - t) * math.log(1 - p))


def _huber(e: float, delta: float) -> float:
    return 0.5 * e * e if abs(e) <= delta else delta * (abs(e) - 0.5 * delta)


def definition(loss, t, p, from_logits, delta):
    """The value of one sample, from Python floats."""
    if loss == "mean_squared_error":
        return math.fsum((a - b) ** 2 for a, b in zip(t, p, strict=True)) / len(p)
    if loss == "mean_absolute_error":
        return math.fsum(abs(a - b) for a, b in zip(t, p, strict=True)) / len(p)
    if loss == "huber":
        return math.fsum(_huber(b - a, delta) for a, b in zip(t, p, strict=True)) / len(p)
    if loss == "binary_crossentropy":
        p = [_sigmoid(v) for v in p] if from_logits else p
        return math.fsum(_bce(a, b) for a, b in zip(t, p, strict=True)) / len(p)
    p = _softmax(p) if from_logits else [v / math.fsum(p) for v in p]
    t = t if loss == "categorical_crossentropy" else [float(k == t) for k in range(len(p))]
    return -math.fsum(a * math.log(b) for a, b in zip(t, p, strict=True))


LOSS_CASES = [(loss, False) for loss in fastnn.LOSSES] + [
    (loss, True) for loss in fastnn.LOSSES if "crossentropy" in loss
]
loss_of = pytest.mark.parametrize(("loss", "from_logits"), LOSS_CASES)


def loss_arrays(loss, from_logits, shape, rng, dtype=np.float64):
    """(y_true, y_pred) in the loss's domain."""
    probabilities = "crossentropy" in loss and not from_logits
    p = rng.uniform(0.05, 0.95, shape) if probabilities else rng.standard_normal(shape) * 2
    if loss == "sparse_categorical_crossentropy":
        return rng.integers(0, shape[-1], shape[:-1]), p.astype(dtype)
    t = rng.uniform(0, 1, shape)
    if loss == "categorical_crossentropy":
        t /= t.sum(axis=-1, keepdims=True)
    return t.astype(dtype), p.astype(dtype)


@loss_of
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_the_definition(backend, dtype, loss, from_logits, weighted, rng):
    t, p = loss_arrays(loss, from_logits, (4, 3, 5), rng, dtype)
    weight = rng.uniform(0, 2, (4, 3)).astype(dtype) if weighted else None
    value, saved = fastnn.loss_forward(
        t, p, loss=loss, from_logits=from_logits, delta=0.7, sample_weight=weight
    )
    expected = math.fsum(
        definition(loss, t[at].tolist(), p[at].tolist(), from_logits, 0.7)
        * (float(weight[at]) if weighted else 1.0)
        for at in rows(p)
    ) / (4 * 3)
    assert isinstance(value, float)
    assert abs(value - expected) <= TOLERANCE[dtype] * abs(expected)
    assert saved.backend == backend and saved.grad.shape == p.shape and saved.grad.dtype == dtype
    only, nothing = fastnn.loss_forward(
        t,
        p,
        loss=loss,
        from_logits=from_logits,
        delta=0.7,
        sample_weight=weight,
        keep=False,
    )
    assert only == value and nothing is None


@loss_of
@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (3, 2, 4), (17, 10)])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_gradients(backend, loss, from_logits, shape, weighted, rng):
    t, p = loss_arrays(loss, from_logits, shape, rng)
    weight = rng.uniform(0, 2, shape[:-1]) if weighted else None

    def run(p):
        value, saved = fastnn.loss_forward(
            t, p, loss=loss, from_logits=from_logits, sample_weight=weight
        )
        return value, lambda dy: [fastnn.loss_backward(saved, float(dy))]

    class_of_one = "categorical" in loss and shape[-1] == 1
    if class_of_one:  # the only class is certain: the value does not move
        np.testing.assert_allclose(run(p)[1](1.0)[0], 0, atol=1e-15)
    else:
        check_gradients(run, [p], full=math.prod(shape) < 30)


def test_categorical_gradient_for_targets_that_do_not_sum_to_one(backend, rng):
    t = rng.uniform(0, 1, (3, 4))
    for from_logits in (False, True):

        def run(p, from_logits=from_logits):
            value, saved = fastnn.loss_forward(
                t, p, loss="categorical_crossentropy", from_logits=from_logits
            )
            return value, lambda dy: [fastnn.loss_backward(saved, float(dy))]

        check_gradients(run, [rng.uniform(0.1, 0.9, (3, 4))], full=True)


@loss_of
def test_loss_agrees_with_the_reference(backend, dtype, loss, from_logits, rng):
    t, p = loss_arrays(loss, from_logits, (33, 10), rng, dtype)

    def run(p):
        # The targets in p's dtype: the reference gets both in float64.
        true = t if t.dtype.kind == "i" else t.astype(p.dtype)
        value, saved = fastnn.loss_forward(true, p, loss=loss, from_logits=from_logits)
        return np.asarray(value, p.dtype), fastnn.loss_backward(saved)

    assert_close_to_reference(run, [p])


@loss_of
def test_loss_memory_layouts(backend, dtype, loss, from_logits, rng):
    t, p = loss_arrays(loss, from_logits, (6, 5), rng, dtype)
    weight = rng.uniform(0, 2, 6).astype(dtype)

    def run(t, p, weight):
        value, saved = fastnn.loss_forward(
            t, p, loss=loss, from_logits=from_logits, sample_weight=weight
        )
        return np.asarray(value, dtype), fastnn.loss_backward(saved)

    if loss.startswith("sparse"):
        labels = t
        same_on_every_layout(lambda p, weight: run(labels[::-1][::-1], p, weight), [p, weight])
    else:
        same_on_every_layout(run, [t, p, weight])


@loss_of
def test_loss_of_no_samples(backend, dtype, loss, from_logits):
    t = np.zeros((0, 3), dtype)
    if loss.startswith("sparse"):
        t = np.zeros(0, int)
    value, saved = fastnn.loss_forward(
        t, np.zeros((0, 3), dtype), loss=loss, from_logits=from_logits
    )
    assert value == 0.0 and fastnn.loss_backward(saved).shape == (0, 3)


def test_loss_scale_and_fresh_gradient(backend, rng):
    t, p = rng.random((2, 3)), rng.random((2, 3))
    _, saved = fastnn.loss_forward(t, p, loss="mean_squared_error")
    grad = fastnn.loss_backward(saved)
    np.testing.assert_array_equal(fastnn.loss_backward(saved, -2.0), -2 * grad)
    grad[:] = 0
    assert saved.grad.any()


def test_loss_of_a_vector_is_a_loss_of_samples(backend, rng):
    t, p, weight = rng.random(5), rng.random(5), rng.random(5)
    value, saved = fastnn.loss_forward(t, p, loss="mean_squared_error", sample_weight=weight)
    np.testing.assert_allclose(value, (weight * (t - p) ** 2).mean(), rtol=1e-14)
    np.testing.assert_allclose(saved.grad, weight * 2 * (p - t) / 5, rtol=1e-14)


def test_loss_weights_of_the_first_axes_are_for_all_that_follows(backend, rng):
    t, p, weight = rng.random((2, 3, 4)), rng.random((2, 3, 4)), np.array([1.0, 3.0])
    each = np.repeat(weight[:, None], 3, axis=1)
    results = [fastnn.loss_forward(t, p, loss="huber", sample_weight=w)[0] for w in (weight, each)]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-14)


def test_labels_of_any_kind(backend, rng):
    p = rng.uniform(0.1, 0.9, (4, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 2])
    results = {
        fastnn.loss_forward(y, p, loss="sparse_categorical_crossentropy")[0]
        for y in (labels, labels[:, None], labels.astype(np.uint8))
    }
    assert len(results) == 1
    one_hot = np.eye(3)[labels]
    results = {
        fastnn.loss_forward(y, p, loss="binary_crossentropy")[0]
        for y in (one_hot.astype(np.float32), one_hot.astype(bool), one_hot.astype(np.int8))
    }
    assert len(results) == 1


def test_extreme_logits(backend, dtype):
    p = np.array([[1e4, -1e4]], dtype)
    value, saved = fastnn.loss_forward(
        np.array([[0, 1]]), p, loss="binary_crossentropy", from_logits=True
    )
    assert value == pytest.approx(1e4)
    np.testing.assert_allclose(saved.grad, [[0.5, -0.5]])
    value, saved = fastnn.loss_forward(
        np.array([1]), p, loss="sparse_categorical_crossentropy", from_logits=True
    )
    assert value == pytest.approx(2e4)
    np.testing.assert_allclose(saved.grad, [[1, -1]])


def test_certain_probabilities_are_clipped_as_in_keras(backend, dtype):
    p = np.array([[1.0, 0.0]], dtype)
    value, saved = fastnn.loss_forward(np.array([[0, 1]]), p, loss="binary_crossentropy")
    # 1 - 1e-7 is rounded in float32.
    low, high = dtype.type(1e-7), 1 - float(dtype.type(1 - 1e-7))
    assert value == pytest.approx(-0.5 * (math.log(low) + math.log(high)), rel=1e-5)
    assert not saved.grad.any()  # the clip holds: nothing moves
    value, saved = fastnn.loss_forward(np.array([1]), p, loss="sparse_categorical_crossentropy")
    assert value == pytest.approx(-math.log(1e-7), rel=1e-6)
    assert not saved.grad.any()


@given(seed=st.integers(0, 1000), samples=st.integers(1, 9), classes=st.integers(1, 40))
def test_softmax_and_cross_entropy_agree_with_their_fusion(backend, seed, samples, classes):
    rng = np.random.default_rng(seed)
    logits, labels = rng.standard_normal((samples, classes)) * 3, rng.integers(0, classes, samples)
    loss = "sparse_categorical_crossentropy"
    q, saved = fastnn.activation_forward(logits, "softmax")
    apart, by_q = fastnn.loss_forward(labels, q, loss=loss)
    fused, by_logits = fastnn.loss_forward(labels, logits, loss=loss, from_logits=True)
    assert apart == pytest.approx(fused, rel=1e-6, abs=2e-7)
    through = fastnn.activation_backward(fastnn.loss_backward(by_q), saved)
    if q[np.arange(samples), labels].min() > 1e-6 and q.max() < 1 - 1e-6:
        assert relative_error(through, by_logits.grad) <= 1e-9


@pytest.mark.parametrize(
    ("t", "p", "options", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), {}, ValueError, r"y_true .*the shape \[2, 4\]"),
        (np.ones((2, 3)), np.ones((2, 3), int), {}, TypeError, "y_pred is int64"),
        (np.ones((2, 3), "f"), np.ones((2, 3)), {}, TypeError, "one dtype is needed"),
        (np.ones((2, 0)), np.ones((2, 0)), {}, ValueError, "axes of at least 1"),
        (np.ones((2, 3)), np.ones((2, 3)), {"loss": "mse"}, ValueError, "one of mean_squared"),
        (np.ones((2, 3)), np.ones((2, 3)), {"from_logits": True}, ValueError, "a cross-entropy"),
        (np.ones((2, 3)), np.ones((2, 3)), {"delta": 0}, ValueError, "delta is 0.0"),
        (np.ones((2, 3)), np.ones((2, 3)), {"delta": math.nan}, ValueError, "delta is nan"),
        (np.ones((2, 3)), np.ones((2, 3)), {"delta": "x"}, TypeError, "a number is needed"),
        (
            np.ones((2, 3)),
            np.ones((2, 3)),
            {"sample_weight": np.ones(3)},
            ValueError,
            r"sample_weight .*\[2\]",
        ),
        (
            np.ones((2, 3)),
            np.ones((2, 3)),
            {"sample_weight": np.ones(2, "f")},
            TypeError,
            "sample_weight is float32",
        ),
        (
            np.full((2, 3), 2),
            np.ones((2, 3)),
            {"loss": "binary_crossentropy"},
            ValueError,
            "labels outside 0 .. 1",
        ),
        (
            np.array([0, 3]),
            np.ones((2, 3)),
            {"loss": "sparse_categorical_crossentropy"},
            ValueError,
            "y_true has 0 to 3; 0 <= y_true < 3",
        ),
        (
            np.array([0, -1]),
            np.ones((2, 3)),
            {"loss": "sparse_categorical_crossentropy"},
            ValueError,
            "y_true has -1 to 0",
        ),
        (
            np.array([0.0, 1.0]),
            np.ones((2, 3)),
            {"loss": "sparse_categorical_crossentropy"},
            TypeError,
            "integers are needed",
        ),
        (
            np.ones(3),
            np.ones(3),
            {"loss": "categorical_crossentropy"},
            ValueError,
            r"\[..., classes\] is needed",
        ),
        (None, np.ones((2, 3)), {}, TypeError, "y_true is None"),
    ],
)
def test_loss_refuses(backend, t, p, options, error, message):
    with pytest.raises(error, match=r"^\[loss_forward\] .*" + message):
        fastnn.loss_forward(t, p, **{"loss": "mean_squared_error", **options})


def test_loss_backward_refuses(backend):
    _, saved = fastnn.loss_forward(np.ones(2), np.ones(2), loss="huber", keep=False)
    with pytest.raises(TypeError, match=r"^\[loss_backward\] saved is None"):
        fastnn.loss_backward(saved)
