"""Between fastnn's layouts of weights and those of its peers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastnn.bench.inputs import Arrays

# Where the peer's k-th block of gates is in fastnn's order (i f g o, z r h).
TORCH_GATES = {"simple_rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}
ONNX_GATES = {"simple_rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (0, 1, 2)}


def reorder(array: np.ndarray, order: Sequence[int], axis: int = -1) -> np.ndarray:
    """The blocks of gates along an axis in another order."""
    blocks = np.split(array, len(order), axis=axis)
    return np.concatenate([blocks[k] for k in order], axis=axis)


def restore(array: np.ndarray, order: Sequence[int], axis: int = -1) -> np.ndarray:
    """What `reorder` undoes."""
    return reorder(array, np.argsort(order).tolist(), axis)


def to_first(array: np.ndarray) -> np.ndarray:
    """Channels last to channels first."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def to_last(array: np.ndarray) -> np.ndarray:
    """Channels first to channels last."""
    return np.moveaxis(array, 1, -1)


def conv_to_first(kernel: np.ndarray) -> np.ndarray:
    """``[*k, C, O]`` to ``[O, C, *k]``."""
    return np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))


def conv_to_last(kernel: np.ndarray) -> np.ndarray:
    """``[O, C, *k]`` to ``[*k, C, O]``."""
    return np.moveaxis(kernel, (0, 1), (-1, -2))


def keras_weights(arrays: Arrays, prefix: str) -> list[np.ndarray]:
    """The weights of one direction as a layer of fastnn or Keras takes them."""
    bias = arrays[f"{prefix}bias"]
    if f"{prefix}recurrent_bias" in arrays:
        bias = np.stack([bias, arrays[f"{prefix}recurrent_bias"]])
    return [arrays[f"{prefix}kernel"], arrays[f"{prefix}recurrent_kernel"], bias]


def keras_gradients(grads: Sequence[np.ndarray], prefix: str) -> Arrays:
    """Gradients of one direction's three weights, named."""
    kernel, recurrent, bias = grads
    named = {f"d{prefix}kernel": kernel, f"d{prefix}recurrent_kernel": recurrent}
    if bias.ndim == 1:
        return {**named, f"d{prefix}bias": bias}
    return {**named, f"d{prefix}bias": bias[0], f"d{prefix}recurrent_bias": bias[1]}
