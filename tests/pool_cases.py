"""What tests of pooling share: cases, how an operation is called, windows by definition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import fastnn


class Case(NamedTuple):
    x: tuple[int, int, int, int]  # B h w C
    pool_size: Any
    strides: Any = None
    padding: Any = "valid"


CASES = {
    "smallest": Case((2, 4, 4, 2), 2),
    "one pixel": Case((1, 1, 1, 1), 1),
    "overlap": Case((2, 5, 6, 3), 3, 1),
    "same": Case((2, 5, 7, 3), 3, 2, "same"),
    "stride over window": Case((2, 8, 9, 2), 2, 3),
    "pairs": Case((1, 7, 11, 5), (3, 2), (2, 3)),
    "asymmetric padding": Case((2, 4, 5, 3), (3, 2), 2, ((0, 2), (1, 0))),
    "integer padding": Case((3, 5, 5, 1), 3, 2, 1),
    "whole image": Case((2, 5, 4, 3), (5, 4)),
    "more than 256 cells": Case((1, 18, 17, 2), (18, 17), 1, "same"),
    "many channels": Case((2, 6, 6, 37), 2, 2),
    "many channels, overlap": Case((1, 7, 9, 21), 3, 2, 1),
    "20 windows a pixel": Case((1, 6, 6, 19), (5, 4), 1, "same"),
}
case_of = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "max": ("max", {}),
    "average": ("avg", {}),
    "average over padding": ("avg", {"count_include_pad": True}),
    "stochastic in training": ("stochastic", {"training": True, "seed": 4}),
    "stochastic at inference": ("stochastic", {}),
}
kind_of = pytest.mark.parametrize(("kind", "more"), KINDS.values(), ids=KINDS.keys())


def run_pool(kind: str, x: Any, case: Case, data_format: str = "channels_last", **more: Any):
    forward = getattr(fastnn, f"{kind}_pool2d_forward")
    options = {"pool_size": case.pool_size, "strides": case.strides, "padding": case.padding}
    return forward(x, data_format=data_format, **options, **more)


def backward(saved: Any):
    return getattr(fastnn, f"{saved.kind}_pool2d_backward")


def windows(x: np.ndarray, window: Any):
    """((b, row, column, c), cells inside the image in row-major order, their offsets)."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), _ = window
    b, h, w, c = x.shape
    oh, ow = (h + top + bottom - kh) // sh + 1, (w + left + right - kw) // sw + 1
    for n, r, s, ch in np.ndindex(b, oh, ow, c):
        cells, offsets = [], []
        for i, j in np.ndindex(kh, kw):
            row, column = r * sh + i - top, s * sw + j - left
            if 0 <= row < h and 0 <= column < w:
                cells.append(x[n, row, column, ch])
                offsets.append(i * kw + j)
        yield (n, r, s, ch), np.array(cells), offsets


def output_shape(x: np.ndarray, window: Any) -> tuple[int, ...]:
    *_, (last, _, _) = windows(x, window)
    return tuple(n + 1 for n in last)


def distinct(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Positive values far enough apart that a small step changes no maximum."""
    return (rng.permutation(np.prod(shape)).reshape(shape) + 1.0) / np.prod(shape)
