"""Losses: values, gradients, weights, extremes, layouts, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import (
    TOLERANCE,
    assert_close_to_reference,
    check_gradients,
    relative_error,
    same_on_every_layout,
    sigmoid,
    softmax,
)
from hypothesis import given
from hypothesis import strategies as st

import fastnn


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
        p = [sigmoid(v) for v in p] if from_logits else p
        return math.fsum(_bce(a, b) for a, b in zip(t, p, strict=True)) / len(p)
    p = softmax(p) if from_logits else [v / math.fsum(p) for v in p]
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


ONES = np.ones((2, 3))
BINARY, CATEGORICAL, SPARSE = (
    {"loss": f"{kind}_crossentropy"} for kind in ("binary", "categorical", "sparse_categorical")
)


@pytest.mark.parametrize(
    ("t", "p", "options", "error", "message"),
    [
        (ONES, np.ones((2, 4)), {}, ValueError, r"y_true .*the shape \[2, 4\]"),
        (ONES, np.ones((2, 3), int), {}, TypeError, "y_pred is int64"),
        (ONES.astype("f"), ONES, {}, TypeError, "one dtype is needed"),
        (np.ones((2, 0)), np.ones((2, 0)), {}, ValueError, "axes of at least 1"),
        (ONES, ONES, {"loss": "mse"}, ValueError, "one of mean_squared"),
        (ONES, ONES, {"from_logits": True}, ValueError, "a cross-entropy"),
        (ONES, ONES, {"delta": 0}, ValueError, "delta is 0.0"),
        (ONES, ONES, {"delta": math.nan}, ValueError, "delta is nan"),
        (ONES, ONES, {"delta": "x"}, TypeError, "a number is needed"),
        (ONES, ONES, {"sample_weight": np.ones(3)}, ValueError, r"sample_weight .*\[2\]"),
        (ONES, ONES, {"sample_weight": np.ones(2, "f")}, TypeError, "sample_weight is float32"),
        (np.full((2, 3), 2), ONES, BINARY, ValueError, "labels outside 0 .. 1"),
        (np.array([0, 3]), ONES, SPARSE, ValueError, "y_true has 0 to 3; 0 <= y_true < 3"),
        (np.array([0, -1]), ONES, SPARSE, ValueError, "y_true has -1 to 0"),
        (np.array([0.0, 1.0]), ONES, SPARSE, TypeError, "integers are needed"),
        (np.ones(3), np.ones(3), CATEGORICAL, ValueError, r"\[..., classes\] is needed"),
        (None, ONES, {}, TypeError, "y_true is None"),
    ],
)
def test_loss_refuses(backend, t, p, options, error, message):
    with pytest.raises(error, match=r"^\[loss_forward\] .*" + message):
        fastnn.loss_forward(t, p, **{"loss": "mean_squared_error", **options})


def test_loss_backward_refuses(backend):
    _, saved = fastnn.loss_forward(np.ones(2), np.ones(2), loss="huber", keep=False)
    with pytest.raises(TypeError, match=r"^\[loss_backward\] saved is None"):
        fastnn.loss_backward(saved)
