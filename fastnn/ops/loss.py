"""Losses with their gradients, fused into stable forms."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import deferred, dispatch, shapes
from fastnn.types import Array, LossSaved, LossSpec

__all__ = ["LOSSES", "loss_backward", "loss_forward"]

LOSSES: tuple[str, ...] = (
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
    "binary_crossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
)
_CROSS_ENTROPIES = LOSSES[3:]
_OVER_CLASSES = LOSSES[4:]


def loss_forward(
    y_true: Array,
    y_pred: Array,
    *,
    loss: str,
    from_logits: bool = False,
    delta: float = 1.0,
    sample_weight: Array | None = None,
    keep: bool = True,
) -> tuple[float, LossSaved | None]:
    """A loss: the mean over the last axis, then the mean over the samples.

    A sample is one entry of all axes but the last. This is Keras's ``sum_over_batch_size``.

    Parameters
    ----------
    y_true : ndarray
        In y_pred's shape; integers and booleans are taken as numbers. For
        sparse_categorical_crossentropy integers ``[...]`` or ``[..., 1]`` in ``0 .. classes - 1``.
    y_pred : ndarray [..., C], float32 or float64
        One axis alone, ``[N]``, is N samples (not for losses over classes).
    loss : str
        mean_squared_error, mean_absolute_error, huber, binary_crossentropy,
        categorical_crossentropy or sparse_categorical_crossentropy.
    from_logits : bool
        For cross-entropies: y_pred is before the sigmoid or softmax. Otherwise it is
        probabilities: over classes divided by their sum, then kept 1e-7 away from 0 and 1 (Keras).
    delta : float
        Where huber goes from square to line.
    sample_weight : ndarray, optional
        y_pred's dtype; the shape of the samples or of their first axes. The weighted sum is divided
        by the number of samples.
    keep : bool
        False for evaluation: no gradient is made.

    Returns
    -------
    value : float
        0.0 without a sample.
    saved : LossSaved or None

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size, labels outside the classes, an argument that the loss has not.
    """
    op = "loss_forward"
    name, backend = dispatch.choose(
        op, ("y_true", "y_pred", "sample_weight"), (y_true, y_pred), (sample_weight,)
    )
    # Arrays of the backend's own kind, which can be compared and reshaped.
    y_true, y_pred = backend.asarray(y_true), backend.asarray(y_pred)
    if sample_weight is not None:
        sample_weight = backend.asarray(sample_weight)
    shapes.check_choice(op, "loss", loss, LOSSES)
    shapes.check_floating(op, "y_pred", y_pred)
    shapes.check_nonempty(op, "y_pred", y_pred, max(1, y_pred.ndim - 1))
    from_logits = shapes.flag(op, "from_logits", from_logits)
    keep = shapes.flag(op, "keep", keep)
    if from_logits and loss not in _CROSS_ENTROPIES:
        raise ValueError(f"[{op}] from_logits=True with {loss}; a cross-entropy is needed")
    limit = shapes.positive_number(op, "delta", delta)
    target = _target(op, y_true, y_pred, loss)
    flat = y_pred.ndim == 1
    prediction = y_pred[:, None] if flat else y_pred
    if flat:
        target = target[:, None]
    weight = None if sample_weight is None else _weight(op, sample_weight, prediction)
    spec = LossSpec(loss, from_logits, limit)
    value, grad = backend.loss_forward(target, prediction, spec, weight, keep)
    if not deferred.waits(value):
        value = float(value)
    if not keep:
        return value, None
    return value, LossSaved(name, spec, grad[:, 0] if flat else grad)


def _target(op: str, y_true: Array, y_pred: Array, loss: str) -> Array:
    if loss in _OVER_CLASSES and y_pred.ndim < 2:
        raise ValueError(f"[{op}] {shapes.given('y_pred', y_pred)}; [..., classes] is needed")
    if loss == "sparse_categorical_crossentropy":
        if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
            y_true = y_true[..., 0]
        shapes.check_shape(op, "y_true", y_true, y_pred.shape[:-1])
        return shapes.labels(op, "y_true", y_true, y_pred.shape[-1])
    shapes.check_shape(op, "y_true", y_true, y_pred.shape)
    if y_true.dtype.kind in "biu":
        y_true = y_true.astype(y_pred.dtype)
    shapes.check_same_dtype(op, "y_true", y_true, "y_pred", y_pred)
    if loss == "binary_crossentropy":
        bad = ((y_true < 0) | (y_true > 1)).any()
        message = f"[{op}] y_true has labels outside 0 .. 1; 0 <= y_true <= 1 is needed"
        if deferred.waits(y_true):
            deferred.put_off(message, bad)
        elif bad:
            raise ValueError(message)
    return y_true


def _weight(op: str, weight: Any, prediction: Array) -> Array:
    shapes.check_same_dtype(op, "sample_weight", weight, "y_pred", prediction)
    samples = prediction.shape[:-1]
    if weight.ndim == 0 or weight.shape != samples[: weight.ndim]:
        raise ValueError(
            f"[{op}] {shapes.given('sample_weight', weight)}; the samples' shape {list(samples)}, "
            "or its first axes, is needed"
        )
    # NEP 18: on an array of another library this is that library's broadcast_to.
    return np.broadcast_to(
        weight.reshape(weight.shape + (1,) * (len(samples) - weight.ndim)), samples
    )


def loss_backward(saved: LossSaved, scale: float = 1.0) -> Array:
    """Gradient of y_pred in `loss_forward`.

    Parameters
    ----------
    saved : LossSaved
    scale : float
        The upstream gradient of the loss's value.

    Returns
    -------
    ndarray
        In y_pred's shape.

    Raises
    ------
    TypeError
        If ``saved`` is not of `loss_forward`, or ``scale`` is no number.
    """
    op = "loss_backward"
    shapes.check_saved(op, saved, LossSaved)
    try:
        factor = float(scale)
    except (TypeError, ValueError):
        raise TypeError(f"[{op}] scale is {shapes.words(scale)}; a number is needed") from None
    scaled = saved.grad * factor
    # bfloat16 is no dtype of NumPy's own, and its product with a float is wider.
    return scaled if scaled.dtype == saved.grad.dtype else scaled.astype(saved.grad.dtype)
