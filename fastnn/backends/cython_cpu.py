"""The Cython backend: C kernels on NumPy arrays, vectorised for the machine's ISA, on its cores."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from fastnn.backends import constant
from fastnn.types import (
    ActivationSaved,
    AdamStep,
    Array,
    ConvGrads,
    ConvSaved,
    DenseGrads,
    DenseSaved,
    DropoutSaved,
    EmbeddingSaved,
    LossSpec,
    PoolSaved,
    RmspropStep,
    RnnGrads,
    RnnOutput,
    RnnSaved,
    RnnSpec,
    RnnWeights,
    SgdStep,
    Window,
)

# The gates that rnn_forward saves: RnnSaved.gates_by_row.
BLOCKED_GATES = True

_missing: list[str] = []


def _family(name: str) -> Any:
    """A compiled module of fastnn.kernels.cpu; what cannot be imported is told by `unavailable`."""
    try:
        return import_module(f"fastnn.kernels.cpu.{name}")
    except ImportError as error:
        _missing.append(f"{name}: {error}")
        return None


_runtime = _family("_runtime")
_conv = _family("_conv")
_dense = _family("_dense")
_pointwise = _family("_pointwise")
_pool = _family("_pool")
_rnn = _family("_rnn")

# --------------------------------------------------------------------------- the backend itself


def unavailable() -> str | None:
    """Why the kernels cannot run here, or None."""
    if _missing:
        return f"its kernels cannot be imported ({'; '.join(_missing)}); pip install . builds them"
    return None


def owns(x: Any) -> bool:
    """Whether ``x`` is a NumPy array with NumPy's arithmetic (not a matrix or a masked array)."""
    return type(x) is np.ndarray or isinstance(x, np.memmap)


def asarray(x: Any) -> Array:
    """``x`` as a NumPy array."""
    return np.asarray(x)


def describe() -> dict[str, str]:
    """Facts for ``python -m fastnn info``."""
    return {
        "isa": f"{_runtime.isa()} (of {', '.join(_runtime.isas())})",
        "threads": f"{_runtime.get_num_threads()} (of {_runtime.CORES} cores)",
    }


# --------------------------------------------------------------------------- convolution


def im2col(x: Array, window: Window) -> Array:
    return _conv.im2col(x, window)


def col2im(cols: Array, x_shape: tuple[int, int, int, int], window: Window) -> Array:
    return _conv.col2im(cols, x_shape, window)


def conv2d_forward(
    x: Array,
    kernel: Array,
    bias: Array | None,
    window: Window,
    groups: int,
    data_format: str,
    activation: str | None,
) -> Array:
    packs = constant.kept()
    return _conv.forward(x, kernel, bias, window, groups, data_format, activation, packs)


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


def max_pool2d_forward(
    x: Array, window: Window, data_format: str, activation: str | None, keep: bool
) -> tuple[Array, Array | None]:
    return _pool.max_forward(x, window, data_format, activation, keep)


def max_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    return _pool.take_backward(dy, saved.offsets, saved.x_shape, saved.window, saved.data_format)


def avg_pool2d_forward(
    x: Array, window: Window, data_format: str, count_include_pad: bool
) -> Array:
    return _pool.average_forward(x, window, data_format, count_include_pad)


def avg_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    return _pool.average_backward(
        dy, saved.x_shape, saved.window, saved.data_format, saved.count_include_pad
    )


def stochastic_pool2d_forward(
    x: Array, window: Window, data_format: str, seed: int | None, keep: bool
) -> tuple[Array, Array | None]:
    return _pool.stochastic_forward(x, window, data_format, seed, keep)


def stochastic_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    return _pool.stochastic_backward(dy, saved.x, saved.window, saved.data_format)


# --------------------------------------------------------------------------- dense


def dense_forward(x: Array, kernel: Array, bias: Array | None, activation: str | None) -> Array:
    return _dense.forward(x, kernel, bias, activation, constant.kept())


def dense_backward(dy: Array, saved: DenseSaved, need_dx: bool) -> DenseGrads:
    return dense_backward_into(dy, saved, need_dx, (None, None))


def dense_backward_into(
    dy: Array, saved: DenseSaved, need_dx: bool, out: tuple[Array | None, Array | None]
) -> DenseGrads:
    """`dense_backward` with dkernel and dbias in arrays of the caller's, where they fit."""
    return DenseGrads(
        *_dense.backward(
            dy,
            saved.x,
            saved.kernel,
            saved.y,
            saved.activation,
            saved.bias is not None,
            need_dx,
            out,
        )
    )


# --------------------------------------------------------------------------- the pointwise family


def activation_forward(x: Array, activation: str) -> Array:
    return _pointwise.activation_forward(x, activation)


def activation_backward(dy: Array, saved: ActivationSaved) -> Array:
    kept = saved.y if saved.x is None else saved.x
    return _pointwise.activation_backward(dy, kept, saved.activation)


def embedding_forward(indices: Array, table: Array) -> Array:
    return _pointwise.embedding_forward(indices, table)


def embedding_backward(dy: Array, saved: EmbeddingSaved) -> Array:
    return _pointwise.embedding_backward(dy, saved.indices, saved.table_shape)


def dropout_forward(x: Array, rate: float, seed: int, noise_shape: tuple[int, ...]) -> Array:
    return _pointwise.dropout(x, rate, seed, noise_shape)


def dropout_backward(dy: Array, saved: DropoutSaved) -> Array:
    return _pointwise.dropout(dy, saved.rate, saved.seed, saved.noise_shape)


def loss_forward(
    y_true: Array, y_pred: Array, spec: LossSpec, sample_weight: Array | None, keep: bool
) -> tuple[float, Array | None]:
    return _pointwise.loss_forward(
        y_true, y_pred, spec.loss, spec.from_logits, spec.delta, sample_weight, keep
    )


def sgd_update(step: SgdStep) -> None:
    _pointwise.sgd_update(*step)


def rmsprop_update(step: RmspropStep) -> None:
    _pointwise.rmsprop_update(*step)


def adam_update(step: AdamStep) -> None:
    _pointwise.adam_update(*step)


def random_uniform(shape: tuple[int, ...], seed: int, stream: int, dtype: str) -> Array:
    return _pointwise.random_uniform(shape, seed, stream, dtype)


# --------------------------------------------------------------------------- recurrent


def rnn_forward(
    x: Array, weights: RnnWeights, initial: Any, spec: RnnSpec, keep: str | None
) -> tuple[RnnOutput, Array | None, Array | None, Array | None]:
    packs = None if keep else constant.kept()
    return _rnn_output(keep, *_rnn.forward(x, weights, initial, spec, keep, packs))


def rnn_forward_pair(first: Any, second: Any) -> Any:
    packs = None if first[-1] or second[-1] else constant.kept()
    found = _rnn.forward_pair(first, second, packs)
    return _rnn_output(first[-1], *found[0]), _rnn_output(second[-1], *found[1])


def _rnn_output(
    keep: str | None, y: Array, final_h: Array, final_c: Any, *saved: Any
) -> tuple[RnnOutput, Array | None, Array | None, Array | None]:
    if final_c is None:
        return RnnOutput(y, final_h, y if keep else None), *saved
    return RnnOutput(y, (final_h, final_c), (y, saved[0]) if keep else None), *saved


def rnn_backward(d_output: RnnOutput, saved: RnnSaved, need_dx: bool) -> RnnGrads:
    return _rnn_grads(*_rnn.backward(*_rnn_gradients(d_output, saved), saved, need_dx))


def rnn_backward_pair(first: Any, second: Any) -> tuple[RnnGrads, RnnGrads]:
    calls = [(*_rnn_gradients(*call[:2]), *call[1:]) for call in (first, second)]
    one, other = _rnn.backward_pair(*calls)
    return _rnn_grads(*one), _rnn_grads(*other)


def _rnn_gradients(d_output: RnnOutput, saved: RnnSaved) -> tuple[Any, ...]:
    """dy, and d_final and d_states of h and of c."""
    dy, d_final, d_states = d_output
    if saved.spec.cell != "lstm":
        return dy, d_final, None, d_states, None
    return (dy, *(d_final or (None, None)), *(d_states or (None, None)))


def _rnn_grads(
    dx: Any, dkernel: Any, drecurrent: Any, dbias: Any, drecurrent_bias: Any, dh: Any, dc: Any
) -> RnnGrads:
    weights = RnnWeights(dkernel, drecurrent, dbias, drecurrent_bias)
    return RnnGrads(dx, weights, dh if dc is None else (dh, dc))
