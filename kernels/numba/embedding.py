"""Embedding: ``y = table[indices]``; backward adds the rows of dy, in order, by index.

Backward sorts the positions by their index, so that the rows of one index lie together and one
thread a column adds them in the order in which they came: no atomics. The sort merges runs of
doubled width; an item's place is its own plus how many of the other run come before it, so that
every item finds its place alone, and equal ones keep their order.

An index outside the table (which ops refuse, `fit` at the end of an epoch) reads and writes
nothing; its row of y is NaN.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat, zeros

_NAN = float("nan")


def forward(indices, table):
    """y [..., E]; both in C order."""
    rows, width = table.shape
    y = empty((*indices.shape, width), table.dtype)
    _d.spread(_take, y.size, flat(indices), flat(table), rows, width, flat(y))
    return y


def backward(dy, indices, table_shape):
    """dtable [V, E]; dy and indices in C order."""
    dtable = zeros(table_shape, dy.dtype)
    count, width = indices.size, table_shape[1]
    keys = flat(indices)
    order, other = (flat(empty((count,), np.int64)) for _ in range(2))
    _d.spread(count_up, count, order)
    run = 1
    while run < count:
        _d.spread(_merge, count, keys, order, other, run)
        order, other = other, order
        run *= 2
    sizes = table_shape[0], width, count
    _d.spread(_add_runs, count * width, flat(dy), keys, order, sizes, flat(dtable))
    return dtable


@_d.kernel
def _take(n, indices, table, rows, width, y):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = indices[i // width]
        if row >= 0 and row < rows:
            y[i] = table[row * width + i % width]
        else:
            y[i] = _NAN


@_d.kernel
def count_up(n, order):
    """0, 1, .. n - 1."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        order[i] = i


@_d.kernel
def _merge(n, keys, order, merged, run):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        start = i // (2 * run) * (2 * run)
        first = i < start + run  # an equal key of the first run goes before one of the second
        low = min(start + run, n) if first else start
        high = min(start + 2 * run, n) if first else start + run
        other = low
        key = keys[order[i]]
        while low < high:
            middle = (low + high) // 2
            if keys[order[middle]] < key or (not first and keys[order[middle]] == key):
                low = middle + 1
            else:
                high = middle
        own = i - start if first else i - start - run
        merged[start + own + low - other] = order[i]


@_d.kernel
def _add_runs(n, dy, keys, order, sizes, dtable):
    rows, width, count = sizes
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        s, column = i // width, i % width
        key = keys[order[s]]
        if key >= 0 and key < rows and (s == 0 or keys[order[s - 1]] != key):
            total = dy[order[s] * width + column]
            s += 1
            while s < count and keys[order[s]] == key:
                total += dy[order[s] * width + column]
                s += 1
            dtable[key * width + column] = total
