"""Losses on the GPU; the value stays there."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda.launch import NULL, THREADS, over, plain, pointer, wide
from fastnn.kernels.cuda.loader import typed
from fastnn.kernels.cuda.pointwise import group_of

_KINDS = {
    "mean_squared_error": 0,
    "mean_absolute_error": 1,
    "huber": 2,
    "binary_crossentropy": 3,
    "categorical_crossentropy": 4,
    "sparse_categorical_crossentropy": 4,
}


def forward(
    y_true: Any,
    y_pred: Any,
    loss: str,
    from_logits: bool,
    delta: float,
    sample_weight: Any,
    keep: bool,
) -> tuple[Any, Any]:
    """(value, gradient by y_pred or None); the value is a float64 array without axes."""
    y_true, y_pred = plain(y_true), plain(y_pred)
    weight = None if sample_weight is None else plain(sample_weight)
    columns = y_pred.shape[-1]
    samples = y_pred.size // columns
    group = group_of(columns)
    grad = cupy.empty(y_pred.shape, y_pred.dtype) if keep else None
    values = cupy.empty(samples, np.float64)
    sparse = loss == "sparse_categorical_crossentropy"
    targets = (NULL, y_true) if sparse else (y_true, NULL)
    args = (
        *targets,
        y_pred,
        pointer(weight),
        values,
        pointer(grad),
        np.int64(samples),
        np.int64(columns),
        np.int32(group),
        np.int32(_KINDS[loss]),
        np.int32(from_logits),
        wide(y_pred.dtype)(delta),
    )
    over("loss", "loss_rows", y_pred.dtype, samples * group, args)
    value = cupy.empty((), np.float64)
    mean = typed("loss", "loss_mean", y_pred.dtype)
    mean((1,), (THREADS,), (values, value, np.int64(samples)))
    return value, grad
