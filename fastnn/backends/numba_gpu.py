"""The Numba-CUDA backend: kernels on an NVIDIA GPU, or in Numba's simulator.

Arrays are NumPy's, or on the device: Numba's, or any that offers ``__cuda_array_interface__``. If
any argument is on the device, results stay there, as `fastnn.kernels.numba.array.DeviceArray`;
otherwise they come back to the host. Nothing is imported of Numba before a kernel is asked for.
"""

from __future__ import annotations

import os
import sys
import weakref
from functools import cache
from importlib import import_module, metadata
from typing import Any, ClassVar

import numpy as np

from fastnn.backends import cuda_probe
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
    RnnGrads,
    RnnOutput,
    RnnSaved,
    RnnSpec,
    RnnWeights,
    SgdStep,
    Window,
)

_INSTALL = "pip install 'fastnn[numba]'"
# How `prefetch` brings batches to the device.
TRANSFERS = "fastnn.kernels.numba.transfers"

# --------------------------------------------------------------------------- the backend itself


def unavailable() -> str | None:
    """Why the kernels cannot run here, or None."""
    simulated = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    reasons = cuda_probe.missing("numba", _INSTALL)
    if simulated:  # which needs no driver
        reasons = [reason for reason in reasons if "driver" not in reason]
    if reasons:
        return "; ".join(reasons)
    try:
        return _probe(simulated)
    except Exception as error:  # whatever Numba says of a driver or a toolkit that does not fit
        return f"Numba cannot use CUDA here: {error}".splitlines()[0]


def _probe(simulated: bool) -> str | None:
    from numba import cuda

    if simulated or cuda.is_available():
        return None
    return f"Numba cannot use CUDA here: {cuda.cuda_error() or 'no device'}".splitlines()[0]


def owns(x: Any) -> bool:
    """Whether ``x`` is a NumPy array, or an array on the device whose dtype is NumPy's."""
    if type(x) is np.ndarray or isinstance(x, np.memmap):
        return True
    return _is_device_array(x) and isinstance(getattr(x, "dtype", None), np.dtype)


def _is_device_array(x: Any) -> bool:
    ours = sys.modules.get("fastnn.kernels.numba.array")
    return (
        (ours is not None and type(x) is ours.DeviceArray)
        or bool(getattr(x, "__cuda_ndarray__", False))  # Numba's, in the simulator too
        or hasattr(x, "__cuda_array_interface__")
    )


def asarray(x: Any) -> Array:
    """``x`` as an array of this backend: what is on the device stays there, the rest is NumPy's."""
    if _is_device_array(x):
        return _family("array").wrap(x)
    return np.asarray(x)


def to_device(x: Any) -> Array:
    """``x`` on the device; what is there stays, and what holds no numbers remains NumPy's."""
    x = asarray(x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "fiub":
        return _family("array").to_device(x)
    return x


def free_memory() -> float:
    """Bytes that are free on the device."""
    return _family("memory").free_bytes()


def describe() -> dict[str, str]:
    """Facts for ``python -m fastnn info``."""
    from numba import cuda

    device = _family("device")
    facts = {"device": "Numba's simulator, on the CPU (NUMBA_ENABLE_CUDASIM)"}
    if not device.SIMULATED:
        card = cuda.get_current_device()
        name = card.name.decode() if isinstance(card.name, bytes) else str(card.name)
        facts["device"] = (
            f"{name}, compute capability {'.'.join(map(str, card.compute_capability))}"
        )
    facts["numba"] = metadata.version("numba")
    try:
        facts["numba-cuda"] = metadata.version("numba-cuda")
    except metadata.PackageNotFoundError:
        facts["numba-cuda"] = "not installed; the CUDA target of numba itself is used"
    return facts


# --------------------------------------------------------------------------- arrays in and out


@cache
def _family(name: str) -> Any:
    """A module of fastnn.kernels.numba."""
    return import_module(f"fastnn.kernels.numba.{name}")


def _on_device(x: Any) -> bool:
    return x is not None and not isinstance(x, np.ndarray)


def _moved(x: Any) -> Any:
    """An array as a DeviceArray with the strides that it has; None as it is."""
    if x is None:
        return None
    array = _family("array")
    return array.to_device(x) if isinstance(x, np.ndarray) else array.wrap(x)


def _take(*arrays: Any) -> tuple[bool, list[Any]]:
    """Whether the results go back to the host, and the arrays on the device in C order."""
    contiguous = _family("array").contiguous
    moved = [None if x is None else contiguous(_moved(x)) for x in arrays]
    return not any(map(_on_device, arrays)), moved


def _give(value: Any, to_host: bool) -> Any:
    """A result, or a tuple of results, where the caller wants it."""
    if value is None or not to_host:
        return value
    if isinstance(value, tuple):
        parts = (_give(part, to_host) for part in value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value.get()


# --------------------------------------------------------------------------- convolution


def im2col(x: Array, window: Window) -> Array:
    host, (x,) = _take(x)
    return _give(_family("columns").im2col(x, window), host)


def col2im(cols: Array, x_shape: tuple[int, int, int, int], window: Window) -> Array:
    host, (cols,) = _take(cols)
    return _give(_family("columns").col2im(cols, x_shape, window), host)


def conv2d_forward(
    x: Array,
    kernel: Array,
    bias: Array | None,
    window: Window,
    groups: int,
    data_format: str,
    activation: str | None,
) -> Array:
    host, (x, kernel, bias) = _take(x, kernel, bias)
    y = _family("conv").forward(x, kernel, bias, window, groups, data_format, activation)
    return _give(y, host)


def conv2d_backward(dy: Array, saved: ConvSaved, need_dx: bool) -> ConvGrads:
    host, (dy, x, kernel, y) = _take(dy, saved.x, saved.kernel, saved.y)
    grads = _family("conv").backward(
        dy,
        x,
        kernel,
        y,
        saved.window,
        saved.groups,
        saved.data_format,
        saved.activation,
        saved.bias is not None,
        need_dx,
    )
    return _give(ConvGrads(*grads), host)


# --------------------------------------------------------------------------- pooling


def max_pool2d_forward(
    x: Array, window: Window, data_format: str, activation: str | None, keep: bool
) -> tuple[Array, Array | None]:
    host, (x,) = _take(x)
    return _give(_family("pool").max_forward(x, window, data_format, activation, keep), host)


def max_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    host, (dy, offsets) = _take(dy, saved.offsets)
    dx = _family("pool").take_backward(dy, offsets, saved.x_shape, saved.window, saved.data_format)
    return _give(dx, host)


def avg_pool2d_forward(
    x: Array, window: Window, data_format: str, count_include_pad: bool
) -> Array:
    host, (x,) = _take(x)
    return _give(_family("pool").average_forward(x, window, data_format, count_include_pad), host)


def avg_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    host, (dy,) = _take(dy)
    dx = _family("pool").average_backward(
        dy, saved.x_shape, saved.window, saved.data_format, saved.count_include_pad
    )
    return _give(dx, host)


def stochastic_pool2d_forward(
    x: Array, window: Window, data_format: str, seed: int | None, keep: bool
) -> tuple[Array, Array | None]:
    host, (x,) = _take(x)
    return _give(_family("pool").stochastic_forward(x, window, data_format, seed, keep), host)


def stochastic_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    host, (dy, x) = _take(dy, saved.x)
    dx = _family("pool").stochastic_backward(dy, x, saved.window, saved.data_format)
    return _give(dx, host)


# --------------------------------------------------------------------------- recurrent


def rnn_forward(
    x: Array, weights: RnnWeights, initial: Any, spec: RnnSpec, keep: str | None
) -> tuple[RnnOutput, Array | None, Array | None]:
    parts = initial if isinstance(initial, tuple) else (initial,)
    host = not any(map(_on_device, (x, *weights, *parts, spec.mask, spec.resets)))
    x_there, weights_there = _moved(x), RnnWeights(*map(_moved, weights))
    y, final, c, gates = _family("rnn_forward").rnn_forward(
        x_there, weights_there, _states(initial), _moved_spec(spec), keep
    )
    there = _Kept(x, weights, x_there, weights_there, y, c, gates)
    y, c, gates = _give(y, host), _give(c, host), _give(gates, host)
    if host and keep:
        there.until_gone(y)
    end = tuple(_give(state, host) for state in final)
    if len(end) == 1:
        return RnnOutput(y, end[0], y if keep else None), None, gates
    return RnnOutput(y, end, (y, c) if keep else None), c, gates


def rnn_backward(d_output: RnnOutput, saved: RnnSaved, need_dx: bool) -> RnnGrads:
    pairs = saved.spec.cell == "lstm"
    none = (None, None)
    d_final, d_states = (
        (d or none) if pairs else (d, None) for d in (d_output.final, d_output.states)
    )
    upstream = (d_output.y, *d_final, *d_states)
    host = not any(map(_on_device, (saved.x, saved.y, *saved.weights, *upstream)))
    on_device = saved._replace(
        spec=_moved_spec(saved.spec),
        initial=_states(saved.initial),
        **_Kept.of(saved),
    )
    d_y, d_final, d_states = (
        _moved(d_output.y),
        tuple(map(_moved, d_final)),
        tuple(map(_moved, d_states)),
    )
    dx, d_weights, d_initial = _family("rnn_backward").rnn_backward(
        d_y, d_final, d_states, on_device, need_dx
    )
    start = tuple(_give(d, host) for d in d_initial)
    weights = RnnWeights(*(_give(d, host) for d in d_weights))
    return RnnGrads(_give(dx, host), weights, start if pairs else start[0])


class _Kept:
    """What a forward pass leaves on the device for its backward pass, when arrays are the host's.

    The record that the caller gets holds host arrays; their copies on the device live as long as
    its y does, and serve a record with the same y, x and weights.
    """

    _by_y: ClassVar[dict[int, _Kept]] = {}

    def __init__(
        self, x: Any, weights: RnnWeights, x_there: Any, weights_there: RnnWeights, *states: Any
    ) -> None:
        self._host = (x, *weights)
        y, c, gates = states
        self._there = {"x": x_there, "weights": weights_there, "y": y, "c": c, "gates": gates}

    def until_gone(self, y: np.ndarray) -> None:
        """Keep this until ``y``, an array of the host, is no more."""
        self._by_y[id(y)] = self
        weakref.finalize(y, self._by_y.pop, id(y), None)

    @classmethod
    def of(cls, saved: RnnSaved) -> dict[str, Any]:
        """The fields of a record on the device: those that are there, or copies."""
        kept = cls._by_y.get(id(saved.y))
        host = (saved.x, *saved.weights)
        if kept is not None and all(a is b for a, b in zip(host, kept._host, strict=True)):
            return kept._there
        return {
            "x": _moved(saved.x),
            "weights": RnnWeights(*map(_moved, saved.weights)),
            "y": _moved(saved.y),
            "c": _moved(saved.c),
            "gates": _moved(saved.gates),
        }


def _states(initial: Any) -> Any:
    return tuple(map(_moved, initial)) if isinstance(initial, tuple) else _moved(initial)


def _moved_spec(spec: RnnSpec) -> RnnSpec:
    lengths, mask, resets = map(_moved, (spec.lengths, spec.mask, spec.resets))
    return spec._replace(lengths=lengths, mask=mask, resets=resets)


# --------------------------------------------------------------------------- the small families


def dense_forward(x: Array, kernel: Array, bias: Array | None, activation: str | None) -> Array:
    host, (x, kernel, bias) = _take(x, kernel, bias)
    return _give(_family("dense").forward(x, kernel, bias, activation), host)


def dense_backward(dy: Array, saved: DenseSaved, need_dx: bool) -> DenseGrads:
    host, (dy, x, kernel, y) = _take(dy, saved.x, saved.kernel, saved.y)
    grads = _family("dense").backward(
        dy, x, kernel, y, saved.activation, saved.bias is not None, need_dx
    )
    return _give(DenseGrads(*grads), host)


def _activation(name: str) -> Any:
    return _family("softmax" if name in ("softmax", "log_softmax") else "activation")


def activation_forward(x: Array, activation: str) -> Array:
    host, (x,) = _take(x)
    return _give(_activation(activation).forward(x, activation), host)


def activation_backward(dy: Array, saved: ActivationSaved) -> Array:
    host, (dy, kept) = _take(dy, saved.y if saved.x is None else saved.x)
    return _give(_activation(saved.activation).backward(dy, kept, saved.activation), host)


def embedding_forward(indices: Array, table: Array) -> Array:
    host, (indices, table) = _take(indices, table)
    return _give(_family("embedding").forward(indices, table), host)


def embedding_backward(dy: Array, saved: EmbeddingSaved) -> Array:
    host, (dy, indices) = _take(dy, saved.indices)
    return _give(_family("embedding").backward(dy, indices, saved.table_shape), host)


def dropout_forward(x: Array, rate: float, seed: int, noise_shape: tuple[int, ...]) -> Array:
    host, (x,) = _take(x)
    return _give(_family("noise").dropout(x, rate, seed, noise_shape), host)


def dropout_backward(dy: Array, saved: DropoutSaved) -> Array:
    host, (dy,) = _take(dy)
    return _give(_family("noise").dropout(dy, saved.rate, saved.seed, saved.noise_shape), host)


def loss_forward(
    y_true: Array, y_pred: Array, spec: LossSpec, sample_weight: Array | None, keep: bool
) -> tuple[float, Array | None]:
    host, (y_true, y_pred, sample_weight) = _take(y_true, y_pred, sample_weight)
    found = _family("loss").forward(
        y_true, y_pred, spec.loss, spec.from_logits, spec.delta, sample_weight, keep
    )
    return _give(found, host)


def sgd_update(step: SgdStep) -> None:
    _make_step(_family("update").sgd, step, 3)


def adam_update(step: AdamStep) -> None:
    _make_step(_family("update").adam, step, 5)


def _make_step(kernel: Any, step: Any, count: int) -> None:
    """The step, whose first ``count`` fields are arrays; the host's own come back changed."""
    arrays = step[:count]
    there = [_moved(x) for x in arrays]
    kernel(*there, *step[count:])
    for array, moved in zip(arrays, there, strict=True):
        if isinstance(array, np.ndarray) and array is not step.gradient:
            array[...] = moved.get()


def random_uniform(shape: tuple[int, ...], seed: int, stream: int, dtype: str) -> Array:
    return _family("noise").uniform(shape, seed, stream, dtype).get()
