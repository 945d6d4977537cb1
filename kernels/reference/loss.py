"""Losses: for each sample the value, and its gradient by y_pred.

A sample's value is the mean (or, over classes, the sum) along the last axis; the loss is
``sum of w_n value_n / N`` over N samples.
"""

from __future__ import annotations

import numpy as np

from .activation import log_softmax, sigmoid

_EPSILON = 1e-7  # Keras: probabilities are kept this far away from 0 and 1


def forward(y_true, y_pred, loss, from_logits, delta, sample_weight, keep):
    """(value, gradient by y_pred or None); the value is summed in float64."""
    values, grad = _SAMPLES[loss](y_true, y_pred, from_logits, delta)
    if values.size == 0:
        return 0.0, np.zeros_like(y_pred) if keep else None
    weighted = values if sample_weight is None else values * sample_weight
    value = float(weighted.sum(dtype=np.float64) / values.size)
    if not keep:
        return value, None
    if sample_weight is not None:
        grad = grad * sample_weight[..., None]
    return value, grad / values.size


def _squared(t, p, from_logits, delta):
    e = p - t
    return (e * e).mean(axis=-1), 2 * e / p.shape[-1]


def _absolute(t, p, from_logits, delta):
    e = p - t
    return np.abs(e).mean(axis=-1), np.sign(e) / p.shape[-1]


def _huber(t, p, from_logits, delta):
    e = p - t
    a = np.abs(e)
    values = np.where(a <= delta, 0.5 * e * e, delta * (a - 0.5 * delta))
    return values.mean(axis=-1), np.clip(e, -delta, delta) / p.shape[-1]


def _binary(t, p, from_logits, delta):
    if from_logits:  # -t log s(p) - (1 - t) log(1 - s(p)), without the overflow
        values = np.maximum(p, 0) - p * t + np.log1p(np.exp(-np.abs(p)))
        grad = sigmoid(p) - t
    else:
        q = np.clip(p, _EPSILON, 1 - _EPSILON)
        values = -(t * np.log(q) + (1 - t) * np.log1p(-q))
        grad = np.where(q == p, (q - t) / (q * (1 - q)), 0)  # a clipped probability does not move
    return values.mean(axis=-1), grad / p.shape[-1]


def _categorical(t, p, from_logits, delta):
    if from_logits:
        log_q = log_softmax(p)
        # d/dp_j of -sum t_i log q_i; for a distribution t it is q - t.
        grad = np.exp(log_q) * t.sum(axis=-1, keepdims=True) - t
        return -(t * log_q).sum(axis=-1), grad
    log_q, share = _log_probabilities(p)
    g = -t * share
    # q = p / sum p, so a share of every g goes through the sum.
    total = p.sum(axis=-1, keepdims=True)
    grad = (g - (g * p).sum(axis=-1, keepdims=True) / total) / total
    return -(t * log_q).sum(axis=-1), grad


def _sparse(labels, p, from_logits, delta):
    one_hot = np.zeros_like(p)
    np.put_along_axis(one_hot, labels[..., None], 1, axis=-1)
    return _categorical(one_hot, p, from_logits, delta)


def _log_probabilities(p):
    """log of the clipped probabilities, and its derivative by the unclipped ones."""
    q = p / p.sum(axis=-1, keepdims=True)
    clipped = np.clip(q, _EPSILON, 1 - _EPSILON)
    return np.log(clipped), np.where(clipped == q, 1 / clipped, 0)


_SAMPLES = {
    "mean_squared_error": _squared,
    "mean_absolute_error": _absolute,
    "huber": _huber,
    "binary_crossentropy": _binary,
    "categorical_crossentropy": _categorical,
    "sparse_categorical_crossentropy": _sparse,
}
