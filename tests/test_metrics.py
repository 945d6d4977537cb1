"""Metrics by definition, accumulated over batches, weighted; in_top_k; losses as objects."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import losses, metrics
from fastnn.metrics import in_top_k


def test_in_top_k():
    predictions = np.array([[0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [np.nan, 0.2, 0.1]])
    for k, expected in ((1, [0, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 0])):
        np.testing.assert_array_equal(in_top_k([2, 0, 0], predictions, k), np.array(expected, bool))
    assert in_top_k([[1]], [[[0.2, 0.8]]], 1).shape == (1, 1)
    with pytest.raises(ValueError, match="k is 0"):
        in_top_k([0], [[1.0]], 0)
    with pytest.raises(ValueError, match="same shape"):
        in_top_k([0, 0], [[1.0]], 1)
    with pytest.raises(ValueError, match="0 <= targets < 3"):
        in_top_k([3], [[1.0, 2.0, 3.0]], 1)


CASES = [
    ("binary_accuracy", [[1], [0], [1]], [[0.9], [0.6], [0.2]], [1, 0, 0]),
    (
        "binary_accuracy",
        [[1, 0], [0, 0], [1, 1]],
        [[0.9, 0.1], [0.6, 0.1], [0.2, 0.5]],
        [1, 0.5, 0],
    ),
    ("categorical_accuracy", [[0, 1], [1, 0], [1, 0]], [[0, 1], [0.4, 0.6], [2, 1]], [1, 0, 1]),
    ("sparse_categorical_accuracy", [1, 0, 1], [[0, 1], [0.4, 0.6], [2, 3]], [1, 0, 1]),
    ("sparse_categorical_accuracy", [[1], [0], [1]], [[0, 1], [0.4, 0.6], [2, 3]], [1, 0, 1]),
    ("mse", [[1.0, 2], [0, 0], [1, 1]], [[1.0, 0], [3, 0], [1, 1]], [2, 4.5, 0]),
    ("mae", [[1.0], [0], [1]], [[3.0], [0], [0]], [2, 0, 1]),
    ("mae", [1.0, 0, 1], [[3.0], [0], [0]], [2, 0, 1]),
]


@pytest.mark.parametrize(("name", "y_true", "y_pred", "expected"), CASES)
def test_values(name, y_true, y_pred, expected):
    y_true, y_pred = np.array(y_true), np.array(y_pred, float)
    metric = metrics.get(name)
    assert metric.name == name and metric.result() == 0.0
    for i in range(3):  # batch by batch
        metric.update_state(y_true[i : i + 1], y_pred[i : i + 1])
    assert metric.result() == pytest.approx(np.mean(expected))
    metric.reset_state()
    weight = np.array([1.0, 2.0, 0.5])
    assert metric(y_true, y_pred, weight) == pytest.approx(np.average(expected, weights=weight))


def test_top_k_metric():
    metric = metrics.SparseTopKCategoricalAccuracy(2)
    assert metric([0, 1], [[3, 2, 1], [3, 1, 2]]) == 0.5
    assert metrics.get("sparse_top_k").k == 5


@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        ([1, 0], [[0.9], [0.8]], 0.5),
        ([1, 0], [[0.1, 0.9], [0.2, 0.8]], 0.5),
        ([[0, 1], [1, 0]], [[0.1, 0.9], [0.2, 0.8]], 0.5),
        ([[1], [1]], [[0.1, 0.9], [0.2, 0.8]], 1.0),
    ],
)
def test_accuracy_follows_the_shapes(y_true, y_pred, expected):
    metric = metrics.get("accuracy")
    assert metric.name == "accuracy"
    assert metric(np.array(y_true), np.array(y_pred)) == expected


def test_time_steps_with_a_mask():
    metric = metrics.get("sparse_categorical_accuracy")
    y_true = np.array([[1, 1], [0, 1]])
    y_pred = np.eye(2)[np.array([[1, 0], [0, 0]])]
    assert metric(y_true, y_pred) == 0.5
    metric.reset_state()
    assert metric(y_true, y_pred, np.array([[True, False], [True, False]])) == 1.0


def test_a_metric_of_ones_own():
    class Bias(metrics.Metric):
        def values(self, y_true, y_pred):
            return y_pred - y_true

    assert Bias()(np.zeros(3), np.array([1.0, 2, 3])) == 2.0


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: metrics.get("acuracy"), "acuracy"),
        (lambda: metrics.get(3), "3"),
        (lambda: metrics.get("mse")(np.ones(3), np.ones(4)), r"\(3,\)"),
        (
            lambda: metrics.get("sparse_categorical_accuracy")(np.ones(3), np.ones((4, 2))),
            r"\(3,\)",
        ),
        (lambda: metrics.SparseTopKCategoricalAccuracy(0), "k"),
        (lambda: losses.get("cross"), "cross"),
        (lambda: losses.get(3), "3"),
        (lambda: losses.Huber(0.0), "delta"),
        (lambda: losses.MeanSquaredError().backward(), "training=True"),
        (lambda: losses.MeanSquaredError()(np.ones((2, 3)), np.ones((2, 4))), "y_true"),
        (lambda: losses.SparseCategoricalCrossentropy()(np.array([4]), np.ones((1, 4))), "y_true"),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError, RuntimeError), match=rf"^\[.*{message}.*needed"):
        run()


@pytest.mark.parametrize("name", sorted(losses.TABLE.names))
def test_losses_differentiate(backend, rng, name):
    loss = losses.get(name)
    y_pred = rng.uniform(0.1, 0.9, (4, 3))
    y_pred /= y_pred.sum(axis=1, keepdims=True)
    y_true = np.eye(3)[[0, 2, 1, 1]]
    if name.startswith("sparse"):
        y_true = np.array([0, 2, 1, 1])
    weight = np.array([1.0, 0.5, 2.0, 0.0])
    value = loss(y_true, y_pred, weight, training=True)
    gradient = loss.backward(scale=2.0) / 2
    for index in np.ndindex(y_pred.shape):
        h = np.zeros_like(y_pred)
        h[index] = 1e-6
        slope = (loss(y_true, y_pred + h, weight) - loss(y_true, y_pred - h, weight)) / 2e-6
        assert gradient[index] == pytest.approx(slope, abs=1e-7)
    assert value == pytest.approx(loss(y_true, y_pred, weight))


def test_losses_take_targets_without_the_last_axis(backend):
    y_pred = np.array([[0.25], [0.5]], "float32")
    for name in ("mse", "mae", "huber", "binary_crossentropy"):
        loss = losses.get(name)
        assert loss(np.array([1, 0]), y_pred) == loss(np.array([[1.0], [0.0]]), y_pred)
