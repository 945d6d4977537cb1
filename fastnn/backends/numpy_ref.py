"""The NumPy backend: the readable reference of every operation, for float32 and float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.reference import activation as _activation
from fastnn.kernels.reference import conv as _conv
from fastnn.kernels.reference import dense as _dense
from fastnn.kernels.reference import embedding as _embedding
from fastnn.kernels.reference import loss as _loss
from fastnn.kernels.reference import noise as _noise
from fastnn.kernels.reference import pool as _pool
from fastnn.kernels.reference.rnn_backward import rnn_backward as _rnn_backward
from fastnn.kernels.reference.rnn_forward import rnn_forward as _rnn_forward
from fastnn.types import (
    ActivationSaved,
    Array,
    ConvGrads,
    ConvSaved,
    DenseGrads,
    DenseSaved,
    DropoutSaved,
    EmbeddingSaved,
    LossSpec,
    PoolSaved,
    RnnGrads,
    RnnOutput,
    RnnSaved,
    RnnSpec,
    RnnWeights,
    Window,
)

# NaN and infinity pass through as IEEE 754 says, without a word, as on the other backends.
_ieee = np.errstate(all="ignore")

# --------------------------------------------------------------------------- the backend itself


def unavailable() -> str | None:
    """NumPy is always there."""
    return None


def owns(x: Any) -> bool:
    """Whether ``x`` is a plain NumPy array; a matrix or a masked array is not."""
    return type(x) is np.ndarray or isinstance(x, np.memmap)


def asarray(x: Any) -> Array:
    """``x`` as a NumPy array."""
    return np.asarray(x)


def describe() -> dict[str, str]:
    """Facts for ``python -m fastnn info``."""
    return {"numpy": np.__version__}


# --------------------------------------------------------------------------- convolution


@_ieee
def im2col(x: Array, window: Window) -> Array:
    return _conv.im2col(x, window)


@_ieee
def col2im(cols: Array, x_shape: tuple[int, int, int, int], window: Window) -> Array:
    return _conv.col2im(cols, x_shape, window)


@_ieee
def conv2d_forward(
    x: Array,
    kernel: Array,
    bias: Array | None,
    window: Window,
    groups: int,
    data_format: str,
    activation: str | None,
) -> Array:
    return _conv.forward(x, kernel, bias, window, groups, data_format, activation)


@_ieee
def conv2d_backward(dy: Array, saved: ConvSaved, need_dx: bool) -> ConvGrads:
    return ConvGrads(
        *_conv.backward(
            dy,
            saved.x,
            saved.kernel,
            saved.y,
            saved.window,
            saved.groups,
            saved.data_format,
            saved.activation,
            saved.bias is not None,
            need_dx,
        )
    )


# --------------------------------------------------------------------------- pooling


@_ieee
def max_pool2d_forward(
    x: Array, window: Window, data_format: str, activation: str | None, keep: bool
) -> tuple[Array, Array | None]:
    return _pool.max_forward(x, window, data_format, activation, keep)


@_ieee
def max_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    return _pool.scatter(dy, saved.offsets, saved.x_shape, saved.window, saved.data_format)


@_ieee
def avg_pool2d_forward(
    x: Array, window: Window, data_format: str, count_include_pad: bool
) -> Array:
    return _pool.average_forward(x, window, data_format, count_include_pad)


@_ieee
def avg_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    return _pool.average_backward(
        dy, saved.x_shape, saved.window, saved.data_format, saved.count_include_pad
    )


@_ieee
def stochastic_pool2d_forward(
    x: Array, window: Window, data_format: str, seed: int | None, keep: bool
) -> tuple[Array, Array | None]:
    return _pool.stochastic_forward(x, window, data_format, seed, keep)


@_ieee
def stochastic_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    return _pool.stochastic_backward(dy, saved.x, saved.window, saved.data_format)


# --------------------------------------------------------------------------- recurrent


@_ieee
def rnn_forward(
    x: Array, weights: RnnWeights, initial: Any, spec: RnnSpec, keep: str | None
) -> tuple[RnnOutput, Array | None, Array | None]:
    y, final, c, gates = _rnn_forward(x, weights, initial, spec, keep)
    if len(final) == 1:
        return RnnOutput(y, final[0], y if keep else None), None, gates
    return RnnOutput(y, tuple(final), (y, c) if keep else None), c, gates


@_ieee
def rnn_backward(d_output: RnnOutput, saved: RnnSaved, need_dx: bool) -> RnnGrads:
    pairs = saved.spec.cell == "lstm"
    none = (None, None)
    d_final, d_states = (
        (d or none) if pairs else (d, None) for d in (d_output.final, d_output.states)
    )
    dx, d_weights, d_initial = _rnn_backward(d_output.y, d_final, d_states, saved, need_dx)
    return RnnGrads(dx, RnnWeights(*d_weights), tuple(d_initial) if pairs else d_initial[0])


# --------------------------------------------------------------------------- the small families


@_ieee
def dense_forward(x: Array, kernel: Array, bias: Array | None, activation: str | None) -> Array:
    return _dense.forward(x, kernel, bias, activation)


@_ieee
def dense_backward(dy: Array, saved: DenseSaved, need_dx: bool) -> DenseGrads:
    return DenseGrads(
        *_dense.backward(
            dy,
            saved.x,
            saved.kernel,
            saved.y,
            saved.activation,
            saved.bias is not None,
            need_dx,
        )
    )


@_ieee
def activation_forward(x: Array, activation: str) -> Array:
    return _activation.forward(x, activation)


@_ieee
def activation_backward(dy: Array, saved: ActivationSaved) -> Array:
    kept = saved.y if saved.x is None else saved.x
    return _activation.backward(dy, kept, saved.activation)


@_ieee
def embedding_forward(indices: Array, table: Array) -> Array:
    return _embedding.forward(indices, table)


@_ieee
def embedding_backward(dy: Array, saved: EmbeddingSaved) -> Array:
    return _embedding.backward(dy, saved.indices, saved.table_shape)


@_ieee
def dropout_forward(x: Array, rate: float, seed: int, noise_shape: tuple[int, ...]) -> Array:
    return _noise.dropout(x, rate, seed, noise_shape)


@_ieee
def dropout_backward(dy: Array, saved: DropoutSaved) -> Array:
    return _noise.dropout(dy, saved.rate, saved.seed, saved.noise_shape)


@_ieee
def loss_forward(
    y_true: Array, y_pred: Array, spec: LossSpec, sample_weight: Array | None, keep: bool
) -> tuple[float, Array | None]:
    return _loss.forward(
        y_true, y_pred, spec.loss, spec.from_logits, spec.delta, sample_weight, keep
    )


@_ieee
def random_uniform(shape: tuple[int, ...], seed: int, stream: int, dtype: str) -> Array:
    return _noise.uniform(shape, seed, stream, dtype)
