"""The CuPy backend: CUDA kernels on CuPy arrays, products by cuBLAS, on CuPy's current stream."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from fastnn.backends import cuda_probe
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


class _Family:
    """A module of fastnn.kernels.cuda, imported at its first use: that needs CuPy."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, function: str) -> Any:
        value = getattr(import_module(f"fastnn.kernels.cuda.{self._name}"), function)
        setattr(self, function, value)
        return value


_conv = _Family("conv")
_dense = _Family("dense")
_embedding = _Family("embedding")
_loss = _Family("loss")
_pointwise = _Family("pointwise")
_pool = _Family("pool")
_rnn = _Family("rnn")

# What `python -m fastnn info --verbose` adds.
DETAILS = "fastnn.kernels.cuda.rnn_report"
# How `dispatch.side_by_side` runs two pieces of work at once.
STREAMS = "fastnn.kernels.cuda.streams"
# How `prefetch` brings batches to the device.
TRANSFERS = "fastnn.kernels.cuda.transfers"

# --------------------------------------------------------------------------- the backend itself


def unavailable() -> str | None:
    """Why this backend cannot be used, or None."""
    reasons = cuda_probe.missing("cupy")
    if reasons:
        return "; ".join(reasons)
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # what a broken installation raises is not to be known beforehand
        return f"CuPy cannot use a GPU here: {' '.join(str(error).split())}"
    return None if count else "CuPy sees no GPU"


def owns(x: Any) -> bool:
    """Whether ``x`` is a CuPy array."""
    cupy = sys.modules.get("cupy")  # an array of a package that nobody imported cannot exist
    return cupy is not None and isinstance(x, cupy.ndarray)


def asarray(x: Any) -> Array:
    """``x`` on the current device.

    Arrays of other packages on the device (PyTorch, JAX) are taken by DLPack, without a copy;
    everything on the host is copied.
    """
    import cupy

    if isinstance(x, cupy.ndarray):
        return x
    device = getattr(x, "__dlpack_device__", None)
    if device is not None and device()[0] in (2, 13):  # CUDA, and memory that it manages
        return cupy.from_dlpack(x)
    return cupy.asarray(x)


def free_memory() -> float:
    """Bytes that are free on the device, or in CuPy's pool."""
    import cupy

    return cupy.cuda.Device().mem_info[0] + cupy.get_default_memory_pool().free_bytes()


def describe() -> dict[str, str]:
    """Facts for ``python -m fastnn info``."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    name = properties["name"]
    return {
        "device": name.decode() if isinstance(name, bytes) else name,
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "memory": f"{properties['totalGlobalMem'] / 2**30:.0f} GiB",
        "cupy": cupy.__version__,
        "CUDA": f"{_version(runtime.runtimeGetVersion())}, driver "
        f"{_version(runtime.driverGetVersion())}",
    }


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


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
    return _conv.forward(x, kernel, bias, window, groups, data_format, activation)


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
    return _dense.forward(x, kernel, bias, activation)


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


# --------------------------------------------------------------------------- the pointwise family


def activation_forward(x: Array, activation: str) -> Array:
    return _pointwise.activation_forward(x, activation)


def activation_backward(dy: Array, saved: ActivationSaved) -> Array:
    kept = saved.y if saved.x is None else saved.x
    return _pointwise.activation_backward(dy, kept, saved.activation)


def embedding_forward(indices: Array, table: Array) -> Array:
    return _embedding.forward(indices, table)


def embedding_backward(dy: Array, saved: EmbeddingSaved) -> Array:
    return _embedding.backward(dy, saved.indices, saved.table_shape)


def dropout_forward(x: Array, rate: float, seed: int, noise_shape: tuple[int, ...]) -> Array:
    return _pointwise.dropout(x, rate, seed, noise_shape)


def dropout_backward(dy: Array, saved: DropoutSaved) -> Array:
    return _pointwise.dropout(dy, saved.rate, saved.seed, saved.noise_shape)


def loss_forward(
    y_true: Array, y_pred: Array, spec: LossSpec, sample_weight: Array | None, keep: bool
) -> tuple[float, Array | None]:
    return _loss.forward(
        y_true, y_pred, spec.loss, spec.from_logits, spec.delta, sample_weight, keep
    )


def random_uniform(shape: tuple[int, ...], seed: int, stream: int, dtype: str) -> Array:
    return _pointwise.uniform(shape, seed, stream, dtype)


# --------------------------------------------------------------------------- recurrent


def rnn_forward(
    x: Array, weights: RnnWeights, initial: Any, spec: RnnSpec, keep: str | None
) -> tuple[RnnOutput, Array | None, Array | None]:
    y, final_h, final_c, c, gates = _rnn.forward(x, weights, initial, spec, keep)
    if final_c is None:
        return RnnOutput(y, final_h, y if keep else None), None, gates
    return RnnOutput(y, (final_h, final_c), (y, c) if keep else None), c, gates


def rnn_backward(d_output: RnnOutput, saved: RnnSaved, need_dx: bool) -> RnnGrads:
    dy, d_final, d_states = d_output
    if saved.spec.cell == "lstm":
        (d_final_h, d_final_c), (d_states_h, d_states_c) = (
            d or (None, None) for d in (d_final, d_states)
        )
    else:
        d_final_h, d_final_c, d_states_h, d_states_c = d_final, None, d_states, None
    dx, dkernel, drecurrent, dbias, drecurrent_bias, dh, dc = _rnn.backward(
        dy, d_final_h, d_final_c, d_states_h, d_states_c, saved, need_dx
    )
    weights = RnnWeights(dkernel, drecurrent, dbias, drecurrent_bias)
    return RnnGrads(dx, weights, dh if dc is None else (dh, dc))
