"""What tests of convolution share: cases, their arrays, the definition written out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest


class Case(NamedTuple):
    x: tuple[int, int, int, int]  # B h w C
    kernel: tuple[int, int, int, int]  # kh kw C/groups O
    strides: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    groups: int = 1

    def options(self) -> dict[str, Any]:
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }


CASES = {
    "smallest": Case((2, 3, 3, 2), (2, 2, 2, 2)),
    "one pixel": Case((1, 1, 1, 1), (1, 1, 1, 1)),
    "3x3": Case((2, 6, 7, 3), (3, 3, 3, 5), padding="same"),
    "1x1": Case((2, 4, 5, 8), (1, 1, 8, 3)),
    "primes": Case((3, 7, 11, 5), (3, 2, 5, 7), strides=(2, 3), padding="same"),
    "stride over window": Case((2, 8, 9, 2), (2, 2, 2, 3), strides=3),
    "asymmetric padding": Case((2, 4, 5, 2), (3, 2, 2, 3), padding=((0, 2), (1, 0))),
    "integer padding": Case((1, 3, 4, 2), (3, 3, 2, 2), padding=2, strides=2),
    "dilation": Case((2, 7, 8, 3), (3, 2, 3, 4), dilation=(2, 3), padding="same"),
    "groups": Case((2, 5, 5, 6), (3, 3, 3, 4), groups=2, padding="same"),
    "depthwise": Case((2, 5, 6, 5), (3, 3, 1, 5), groups=5),
    "depthwise twice": Case((2, 5, 6, 3), (2, 3, 1, 6), groups=3, strides=2),
    "whole image": Case((2, 5, 4, 3), (5, 4, 3, 2)),
    "many channels": Case((2, 5, 5, 37), (3, 3, 37, 35), padding="same"),
    "one channel": Case((2, 9, 9, 1), (5, 5, 1, 17)),
}
case_of = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def arrays_of(case: Case, rng: np.random.Generator, dtype: Any = np.float64) -> list[np.ndarray]:
    shapes = (case.x, case.kernel, (case.kernel[3],))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def definition(x, kernel, bias, window, groups):
    """Cross-correlation pixel by pixel, channels last."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw) = window
    b, h, w, _ = x.shape
    inner, outputs = kernel.shape[2:]
    each = outputs // groups
    oh = (h + top + bottom - (kh - 1) * dh - 1) // sh + 1
    ow = (w + left + right - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((b, oh, ow, outputs)) + bias
    for r, c, i, j, o in np.ndindex(oh, ow, kh, kw, outputs):
        row, column = r * sh + i * dh - top, c * sw + j * dw - left
        if 0 <= row < h and 0 <= column < w:
            first = (o // each) * inner
            y[:, r, c, o] += x[:, row, column, first : first + inner] @ kernel[i, j, :, o]
    return y
