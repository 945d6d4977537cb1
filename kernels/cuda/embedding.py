"""Rows of a table on the GPU, and the table's gradient in a fixed order."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda.launch import over, plain, wide

_CHUNK = 32  # CHUNK in embedding.cu


def forward(indices: Any, table: Any) -> Any:
    """y [..., E]."""
    indices, table = plain(indices), plain(table)
    rows, columns = table.shape
    y = cupy.empty((*indices.shape, columns), table.dtype)
    args = (indices, table, y, np.int64(indices.size), np.int64(rows), np.int64(columns))
    over("embedding", "gather", table.dtype, y.size, args)
    return y


def backward(dy: Any, indices: Any, table_shape: tuple[int, int]) -> Any:
    """dtable [V, E]: the rows of dy, added by index in the order of dy."""
    rows, columns = table_shape
    dtable = cupy.zeros(table_shape, dy.dtype)
    count = indices.size
    if not count:
        return dtable
    flat, dy = plain(indices).reshape(-1), plain(dy)
    order = cupy.argsort(flat)  # CuPy's is stable
    ordered = flat[order]
    chunks = -(-count // _CHUNK)
    heads = cupy.empty((chunks, columns), wide(dy.dtype))
    sizes = np.int64(count), np.int64(columns)
    over("embedding", "chunk_heads", dy.dtype, heads.size, (ordered, order, dy, heads, *sizes))
    args = (ordered, order, dy, heads, dtable, np.int64(count), np.int64(rows), np.int64(columns))
    over("embedding", "segment_sums", dy.dtype, dy.size, args)
    return dtable
