"""The arrays of a row: the same for every participant, drawn from the row's name alone."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn.bench.rows import (
    GATES,
    ConvRow,
    DenseRow,
    EpochRow,
    PoolRow,
    RnnRow,
    Row,
    layer_inputs,
    out_size,
)
from fastnn.datasets import locate, read_idx

Arrays = dict[str, np.ndarray]

CLASSES = 10
IMAGE = 28


def make(row: Row) -> Arrays:
    """Inputs, weights and output gradients, named as in the functions below."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    arrays = _MAKERS[type(row)](row, rng)
    return {
        name: array.astype(row.dtype) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def prefixes(row: RnnRow) -> list[list[str]]:
    """For each layer, the prefixes of its directions' weights: ``0.`` or ``0.`` and ``0r.``."""
    return [
        [f"{i}."] + ([f"{i}r."] if layer.bidirectional else [])
        for i, layer in enumerate(row.layers)
    ]


def weight_names(row: RnnRow, layer: int) -> tuple[str, ...]:
    """The weights of one direction of a layer."""
    names = ("kernel", "recurrent_kernel", "bias")
    return (*names, "recurrent_bias") if row.layers[layer].cell == "gru" else names


def _recurrent(row: RnnRow, rng: np.random.Generator) -> Arrays:
    """x [T,B,I], dy [T,B,O], lengths [B] if ragged, and the weights in fastnn's layout."""
    sizes = layer_inputs(row)
    arrays: Arrays = {
        "x": rng.standard_normal((row.T, row.B, row.I)),
        "dy": rng.standard_normal((row.T, row.B, sizes[-1])),
    }
    if row.ragged:
        arrays["lengths"] = rng.integers(1, row.T + 1, row.B)
        past = np.arange(row.T)[:, None] >= arrays["lengths"]
        arrays["x"][past] = arrays["dy"][past] = 0
    for i, (layer, names) in enumerate(zip(row.layers, prefixes(row), strict=True)):
        columns = GATES[layer.cell] * layer.units
        shapes = ((sizes[i], columns), (layer.units, columns), (columns,), (columns,))
        limit = layer.units**-0.5
        for prefix in names:
            for name, shape in zip(weight_names(row, i), shapes, strict=False):
                arrays[prefix + name] = rng.uniform(-limit, limit, shape)
    return arrays


def _conv(row: ConvRow, rng: np.random.Generator) -> Arrays:
    """x [B,*size,C], dy [B,*out,O], kernel [*k,C/groups,O], bias [O]."""
    fan_in = row.kernel ** len(row.size) * row.C // row.groups
    kernel = (*(row.kernel,) * len(row.size), row.C // row.groups, row.filters)
    return {
        "x": rng.standard_normal((row.B, *row.size, row.C)),
        "dy": rng.standard_normal((row.B, *out_size(row), row.filters)),
        "kernel": rng.standard_normal(kernel) * fan_in**-0.5,
        "bias": rng.standard_normal(row.filters),
    }


def _pool(row: PoolRow, rng: np.random.Generator) -> Arrays:
    """x [B,h,w,C], half of it zero as after a ReLU where it must not be negative, dy."""
    x = rng.standard_normal((row.B, *row.size, row.C))
    if row.kind == "stochastic":
        x = np.maximum(x, 0)
    return {"x": x, "dy": rng.standard_normal((row.B, *out_size(row), row.C))}


def _layers(widths: tuple[int, ...], rng: np.random.Generator) -> Arrays:
    arrays = {}
    for i, (inputs, units) in enumerate(pairwise(widths)):
        arrays[f"{i}.kernel"] = rng.standard_normal((inputs, units)) * (2 / inputs) ** 0.5
        arrays[f"{i}.bias"] = np.zeros(units)
    return arrays


def _dense(row: DenseRow, rng: np.random.Generator) -> Arrays:
    """x [B,widths[0]], labels [B], and kernel and bias of each layer."""
    return {
        "x": rng.standard_normal((row.B, row.widths[0])),
        "labels": rng.integers(0, row.widths[-1], row.B),
        **_layers(row.widths, rng),
    }


def _epoch(row: EpochRow, rng: np.random.Generator) -> Arrays:
    """x [N,28,28] in 0..1, labels [N], and the weights, layer by layer."""
    x, labels = _images(row.images, rng)
    arrays = {"x": x, "labels": labels}
    if row.network == "rnn":
        weights = _layers((IMAGE, row.units, CLASSES), rng)
        weights["0.kernel"] *= 0.5
        weights["0.recurrent_kernel"] = np.linalg.qr(rng.standard_normal((row.units, row.units)))[0]
    else:
        side = (IMAGE - 4) // 2
        weights = _layers((side * side * row.units, 100, CLASSES), rng)
        weights["conv.kernel"] = rng.standard_normal((5, 5, 1, row.units)) * (2 / 25) ** 0.5
        weights["conv.bias"] = np.zeros(row.units)
    return arrays | weights


def _images(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    found = _mnist()
    if found is None:
        return rng.random((count, IMAGE, IMAGE)), rng.integers(0, CLASSES, count)
    images, labels = (read_idx(path) for path in found.paths)
    return images[:count] / np.float32(255), labels[:count].astype(np.int64)


def epoch_data() -> str:
    """What the epochs train on, in words: MNIST where it is, else noise of the same shape."""
    found = _mnist()
    return "noise of MNIST's shape (FASTNN_DATA has no mnist)" if found is None else found.where


def _mnist() -> Any:
    # Nothing is downloaded for a benchmark: time does not depend on what is in the pictures.
    return locate("mnist", ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"))


_MAKERS: dict[type, Any] = {
    RnnRow: _recurrent,
    ConvRow: _conv,
    PoolRow: _pool,
    DenseRow: _dense,
    EpochRow: _epoch,
}
