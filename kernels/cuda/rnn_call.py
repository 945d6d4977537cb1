"""The arrays of a recurrent call as the CUDA kernels want them, and their argument lists.

The kernels count rows: ``row(t, b) = t * row_t + b * row_b``, time-major or batch-major as x lies
in memory, so neither order costs a copy. ``[N, K]`` with ``N = T * B`` is an array in that order.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cells import CELLS, saved_planes
from fastnn.kernels.cuda import loader, rnn_variants
from fastnn.kernels.cuda.launch import NULL, THREADS, pointer, wide

_ZONE_NONE, _ZONE_NOISE, _ZONE_MEAN = range(3)


def dense(a: Any, dtype: Any = None) -> Any:
    """``a`` in C order, None as None."""
    return None if a is None else cupy.ascontiguousarray(a, dtype)


class Call:
    """What forward and backward share: sizes, options, the kernels for cell and dtype.

    Parameters
    ----------
    x : cupy.ndarray [T, B, I]
    weights : RnnWeights
    initial : None, [B, H], or for lstm the pair (h, c)
    spec : RnnSpec
    """

    def __init__(self, x: Any, weights: Any, initial: Any, spec: Any) -> None:
        self.T, self.B, self.I = x.shape
        self.H = weights.recurrent_kernel.shape[0]
        self.N = self.T * self.B
        self.G = CELLS[spec.cell].gates
        self.planes = saved_planes(spec.cell, spec.reset_after)
        self.spec = spec
        self.dtype = x.dtype
        self.wide = np.dtype(wide(x.dtype))
        self.lstm = spec.cell == "lstm"
        self.batch_major = abs(x.strides[0]) < abs(x.strides[1])
        self.ragged = spec.lengths is not None or spec.mask is not None  # some rows may not step
        self.cell = rnn_variants.cell_code(spec.cell, spec.reset_after)
        self.relu = spec.activation == "relu"
        self.defines = rnn_variants.defines(self.cell, x.dtype, self.relu)
        h0, c0 = initial if self.lstm and initial is not None else (initial, None)
        self.h0, self.c0 = dense(h0), dense(c0)
        self._lengths = dense(spec.lengths, np.int64)
        self._mask, self._resets = dense(spec.mask), dense(spec.resets)
        self.drop = self._dropout_mask() if spec.recurrent_dropout else None
        zone = _ZONE_NONE
        if spec.zoneout[0] or spec.zoneout[1]:
            zone = _ZONE_MEAN if spec.seed is None else _ZONE_NOISE
        self.args = (
            np.int64(self.T),
            np.int64(self.B),
            np.int64(self.H),
            np.int64(1 if self.batch_major else self.B),
            np.int64(self.T if self.batch_major else 1),
            np.int32(spec.reverse),
            pointer(self._lengths),
            pointer(self._mask),
            pointer(self._resets),
            pointer(self.h0),
            pointer(self.c0),
            pointer(self.drop),
            np.int32(zone),
            np.float64(spec.zoneout[0]),
            np.float64(spec.zoneout[1]),
            np.uint64(spec.seed or 0),
        )

    # ------------------------------------------------------------------ kernels

    def kernel(self, function: str) -> Any:
        """A kernel of rnn_steps.cu."""
        return loader.kernel("rnn_steps", function, self.defines)

    def launch(self, function: str, elements: int, args: tuple[Any, ...]) -> None:
        """A kernel of rnn_steps.cu over so many elements, one a thread where the grid allows."""
        blocks = min(-(-elements // THREADS), 1 << 20)
        self.kernel(function)((blocks,), (THREADS,), args)

    def _dropout_mask(self) -> Any:
        drop = cupy.empty((self.B, self.H), self.wide)
        rate, seed = self.spec.recurrent_dropout, self.spec.seed
        args = (drop, np.int64(drop.size), np.float64(rate), np.uint64(seed))
        self.launch("rnn_dropout_mask", drop.size, args)
        return drop

    # ------------------------------------------------------------------ arrays by rows

    def rows(self, *shape: int, zeros: bool = False) -> Any:
        """A fresh ``[N, ...]``."""
        return (cupy.zeros if zeros else cupy.empty)((self.N, *shape), self.dtype)

    def by_time(self, rows: Any) -> Any:
        """``[N, ...]`` seen as ``[T, B, ...]``."""
        if rows is None:
            return None
        rest = rows.shape[1:]
        if self.batch_major:
            return rows.reshape(self.B, self.T, *rest).swapaxes(0, 1)
        return rows.reshape(self.T, self.B, *rest)

    def by_row(self, a: Any) -> Any:
        """``[T, B, ...]`` as ``[N, ...]`` in C order, without a copy where memory allows."""
        if a is None:
            return None
        ordered = a.swapaxes(0, 1) if self.batch_major else a
        return cupy.ascontiguousarray(ordered).reshape(self.N, *a.shape[2:])

    def last_contiguous(self, a: Any) -> tuple[Any, np.int64, np.int64]:
        """``[T, B, H]`` with a contiguous last axis, and its other strides in elements."""
        if a is None:
            return NULL, np.int64(0), np.int64(0)
        item = a.dtype.itemsize
        whole = all(stride % item == 0 for stride in a.strides)
        if not whole or (a.strides[2] != item and a.shape[2] > 1):
            a = cupy.ascontiguousarray(a)
        return a, np.int64(a.strides[0] // item), np.int64(a.strides[1] // item)

    def stepping_rows(self, x: Any) -> Any:
        """x as ``[N, I]``, zero where no row steps: what NaN lies in padding reaches no sum."""
        if not self.ragged:
            return self.by_row(x)
        item = x.dtype.itemsize
        if any(stride % item for stride in x.strides):
            x = cupy.ascontiguousarray(x)
        out = self.rows(self.I)
        strides = (np.int64(stride // item) for stride in x.strides)
        self.launch("rnn_stepping_rows", out.size, (*self.args, x, *strides, np.int64(self.I), out))
        return out

    def column_sums(self, a: Any) -> Any:
        """``a.sum(0)`` in a fixed order, added in at least float32."""
        n, columns = a.shape
        chunk = max(64, -(-n // 512))
        chunks = -(-n // chunk)
        parts = cupy.empty((chunks, columns), self.wide)
        sums = cupy.empty(columns, self.dtype)
        sizes = (np.int64(n), np.int64(columns), np.int64(chunk))
        self.kernel("rnn_column_parts")((-(-columns // 32), chunks), (32, 8), (a, *sizes, parts))
        self.launch("rnn_column_sums", columns, (parts, np.int64(chunks), np.int64(columns), sums))
        return sums
