"""Losses: the value of each sample and its gradient by y_pred, in one pass over the rows.

A sample is a row of C numbers. Its value is the mean (over classes: the sum) along the row, times
its weight; the loss is the sum over samples, added up in float64, divided by their number N.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat, zeros
from fastnn.kernels.numba.gemm import column_sums
from fastnn.kernels.numba.rows import by_rows, row_sum
from fastnn.kernels.numba.softmax import exp_sum, peak

_NAN = float("nan")
_EPSILON = 1e-7  # Keras: probabilities are kept this far away from 0 and 1
_exp, _log, _log1p, _sigmoid = _d.exp, _d.log, _d.log1p, _d.sigmoid
_maximum, _magnitude = _d.maximum, _d.magnitude


@_d.device
def _clip(x, low, high):
    return low if x < low else (high if x > high else x)


def _squared(t, p, delta):
    e = p - t
    return e * e, e + e


def _absolute(t, p, delta):
    e = p - t
    real = type(e)
    return _magnitude(e), (real(1) if e > 0 else (real(-1) if e < 0 else e))


def _huber(t, p, delta):
    e = p - t
    a = _magnitude(e)
    half = type(e)(0.5)
    value = half * e * e if a <= delta else delta * (a - half * delta)
    return value, _clip(e, -delta, delta)


def _binary_logits(t, p, delta):
    value = _maximum(p, type(p)(0)) - p * t + _log1p(_exp(-_magnitude(p)))
    return value, _sigmoid(p) - t


def _binary(t, p, delta):
    real = type(p)
    one = real(1)
    q = _clip(p, real(_EPSILON), real(1 - _EPSILON))
    value = -(t * _log(q) + (one - t) * _log1p(-q))
    # A clipped probability does not move.
    return value, (q - t) / (q * (one - q)) if q == p else real(0)


_ELEMENTS = {
    ("mean_squared_error", False): _squared,
    ("mean_absolute_error", False): _absolute,
    ("huber", False): _huber,
    ("binary_crossentropy", True): _binary_logits,
    ("binary_crossentropy", False): _binary,
}


def forward(y_true, y_pred, loss, from_logits, delta, weight, keep):
    """(value, gradient by y_pred or None); arrays in C order, the value a float64 without axes."""
    columns = y_pred.shape[-1]
    rows = y_pred.size // columns if y_pred.size else 0
    grad = empty(y_pred.shape, y_pred.dtype) if keep else None
    if rows == 0:
        return zeros((), np.float64), zeros(y_pred.shape, y_pred.dtype) if keep else None
    values = flat(empty((rows,), y_pred.dtype))
    function = _kernel(loss, from_logits)
    number = y_pred.dtype.type
    by_rows(
        function,
        rows,
        columns,
        flat(y_pred),
        flat(y_true),
        values if weight is None else flat(weight),
        values,
        flat(grad) if keep else values,
        number(delta),
        (int(weight is not None), int(keep)),
    )
    value = empty((), np.float64)
    column_sums(values, rows, 1, (1, 1, 0, 0), flat(value))
    return np.divide(value, float(rows), out=value), grad


def _kernel(loss, from_logits):
    if loss.endswith("categorical_crossentropy"):
        return _over_classes(loss.startswith("sparse"), from_logits)
    return _over_elements(loss, from_logits)


@cache
def _over_elements(loss, from_logits):
    element = _d.device(_ELEMENTS[loss, from_logits])

    def apply(rows, columns, p, t, weight, values, grad, delta, flags):
        has_weight, keep = flags
        buffer = cuda.shared.array(0, p.dtype)
        height = cuda.blockDim.y
        for start in range(cuda.blockIdx.x * height, rows, cuda.gridDim.x * height):
            r = start + cuda.threadIdx.y
            width = columns if r < rows else 0
            one = type(delta)(1)
            w = weight[r] if has_weight and width else one
            share = w / type(delta)(columns) / type(delta)(rows)
            total = type(delta)(0)
            for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                value, slope = element(t[r * columns + c], p[r * columns + c], delta)
                total += value
                if keep:
                    grad[r * columns + c] = slope * share
            total = row_sum(total, buffer)
            if width and cuda.threadIdx.x == 0:
                values[r] = total / type(delta)(columns) * w

    return _d.kernel(apply)


@cache
def _over_classes(sparse, from_logits):
    @_d.device
    def target(t, r, c, columns, real):
        if sparse:
            return real(1) if t[r] == c else real(0)
        return t[r * columns + c]

    @_d.device
    def by_logits(r, width, columns, t, p, grad, share, keep, buffer):
        """``-sum t log q`` with ``log q = p - m - log s``; its slope is ``q sum t - t``."""
        real = type(share)
        top = peak(p, r * columns, width, buffer)
        log_s = _log(exp_sum(p, r * columns, width, top, buffer))
        value, mass = real(0), real(0)
        for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            t_c = target(t, r, c, columns, real)
            value -= t_c * (p[r * columns + c] - top - log_s)
            mass += t_c
        value, mass = row_sum(value, buffer), row_sum(mass, buffer)
        if keep:
            for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                q = _exp(p[r * columns + c] - top - log_s)
                grad[r * columns + c] = (q * mass - target(t, r, c, columns, real)) * share
        return value

    @_d.device
    def slope(t_c, p_c, total, real):
        """``log q`` and its part of the slope, for ``q = p / sum p`` that is clipped."""
        q = p_c / total
        clipped = _clip(q, real(_EPSILON), real(1 - _EPSILON))
        return _log(clipped), (-t_c / clipped if clipped == q else -t_c * real(0))

    @_d.device
    def by_probabilities(r, width, columns, t, p, grad, share, keep, buffer):
        real = type(share)
        total, value, through = real(0), real(0), real(0)
        for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            total += p[r * columns + c]
        total = row_sum(total, buffer)
        for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            t_c, p_c = target(t, r, c, columns, real), p[r * columns + c]
            log_q, g = slope(t_c, p_c, total, real)
            value -= t_c * log_q
            through += g * p_c
        value, through = row_sum(value, buffer), row_sum(through, buffer)
        if keep:
            for c in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                t_c, p_c = target(t, r, c, columns, real), p[r * columns + c]
                # q = p / sum p, so a share of every g goes through the sum.
                g = slope(t_c, p_c, total, real)[1]
                grad[r * columns + c] = (g - through / total) / total * share
        return value

    sample = by_logits if from_logits else by_probabilities

    def apply(rows, columns, p, t, weight, values, grad, delta, flags):
        has_weight, keep = flags
        buffer = cuda.shared.array(0, p.dtype)
        height = cuda.blockDim.y
        for start in range(cuda.blockIdx.x * height, rows, cuda.gridDim.x * height):
            r = start + cuda.threadIdx.y
            width = columns if r < rows else 0
            w = weight[r] if has_weight and width else type(delta)(1)
            share = w / type(delta)(rows)
            value = sample(r, width, columns, t, p, grad, share, keep, buffer)
            if width and cuda.threadIdx.x == 0:
                if sparse and (t[r] < 0 or t[r] >= columns):  # found later, by a check put off
                    value = type(delta)(_NAN)
                values[r] = value * w

    return _d.kernel(apply)
