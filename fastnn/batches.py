"""Data for training: converted once, split, shuffled, and cut into batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn import dispatch, shapes

Array = Any


class Data(NamedTuple):
    """Features, targets (None for predict), and a weight a sample (None: all one)."""

    x: Array
    y: Array | None = None
    weight: Array | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return int(self.x.shape[0])


def prepare(
    op: str,
    x: Any,
    y: Any,
    weight: Any,
    dtype: np.dtype,
    cast_features: bool,
    take: Callable[[Any], Array] = dispatch.asarray,
) -> Data:
    """Arrays of the backend's kind and the model's dtype, checked against each other.

    Features of every numeric dtype become ``dtype`` (no scaling: a byte of 255 is 255.0), unless
    the model begins with an embedding. Floating targets do too; integer targets stay integers.
    ``take`` makes an array of what was given: by default one of the chosen backend.
    """
    x = _numeric(op, "x", x, take)
    if cast_features:
        x = x.astype(dtype, copy=False)
    if y is not None:
        y = _numeric(op, "y", y, take)
        if y.dtype.kind == "f":
            y = y.astype(dtype, copy=False)
    if weight is not None:
        weight = _numeric(op, "sample_weight", weight, take).astype(dtype, copy=False)
    for name, array in (("y", y), ("sample_weight", weight)):
        if array is not None and (array.ndim == 0 or array.shape[0] != x.shape[0]):
            raise ValueError(
                f"[{op}] x has {x.shape[0]} samples and {name} the shape {tuple(array.shape)}; "
                "the same number of samples is needed"
            )
    return Data(x, y, weight)


def _numeric(op: str, name: str, value: Any, take: Callable[[Any], Array]) -> Array:
    try:
        array = take(value)
    except (TypeError, ValueError):  # a list of rows of different lengths
        raise ValueError(f"[{op}] {name} is {shapes.words(value)}; an array is needed") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"[{op}] {name} has dtype {array.dtype}; a real dtype is needed")
    if array.ndim == 0:
        raise ValueError(f"[{op}] {name} is a scalar; an array of samples is needed")
    return array


def split(op: str, data: Data, fraction: float) -> tuple[Data, Data]:
    """The first part to train with, and the last ``fraction`` to validate with, as in Keras."""
    shapes.rate_number(op, "validation_split", fraction)
    cut = math.floor(data.size * (1.0 - fraction))
    if not 0 < cut < data.size:
        raise ValueError(
            f"[{op}] validation_split={fraction} of {data.size} samples leaves one part empty; "
            "two parts that are not are needed"
        )
    first = Data(*(None if a is None else a[:cut] for a in data))
    return first, Data(*(None if a is None else a[cut:] for a in data))


def steps(data: Data, batch_size: int) -> int:
    """Number of batches."""
    return -(-data.size // batch_size)


def ordered(data: Data, batch_size: int) -> Iterator[Data]:
    """Batches in order: views."""
    for start in range(0, data.size, batch_size):
        stop = start + batch_size
        yield Data(*(None if a is None else a[start:stop] for a in data))


class Shuffled:
    """Batches in a new order at every pass.

    The rows are gathered into buffers that the next batch uses again: keep nothing of a batch.

    Parameters
    ----------
    data : Data
    batch_size : int
    generator : numpy.random.Generator
    """

    def __init__(self, data: Data, batch_size: int, generator: np.random.Generator) -> None:
        self.data = data
        self.batch_size = batch_size
        self.generator = generator
        self._buffers = [
            np.empty((min(batch_size, data.size), *a.shape[1:]), a.dtype)
            if isinstance(a, np.ndarray)
            else None
            for a in data
        ]

    def __iter__(self) -> Iterator[Data]:
        shuffled = self.generator.permutation(self.data.size)
        orders = [  # on a device the order is an array there, copied once an epoch
            shuffled if a is None or buffer is not None else dispatch.asarray_like(shuffled, a)
            for a, buffer in zip(self.data, self._buffers, strict=True)
        ]
        for start in range(0, self.data.size, self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield Data(
                *(
                    None if array is None else _gather(array, order[rows], buffer)
                    for array, order, buffer in zip(self.data, orders, self._buffers, strict=True)
                )
            )


def _gather(array: Array, rows: Array, buffer: np.ndarray | None) -> Array:
    if buffer is None:
        return array[rows]
    # "clip" checks no bounds, so NumPy writes straight into the buffer; the rows are in bounds.
    return np.take(array, rows, axis=0, out=buffer[: len(rows)], mode="clip")
