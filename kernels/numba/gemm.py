"""The matrix product that everything else is made of: ``C = act(A B + bias)``, tiled.

A block makes a tile of C, EDGE x EDGE, a thread MICRO x MICRO numbers of it in registers. The block
walks along K in steps of DEPTH; for each it copies a strip of A and a strip of B into shared
memory::

            n0 .. n0 + EDGE
    k0    +-----------+                  a thread (tx, ty) of SIDE x SIDE has the rows
    ..    |  B strip  | DEPTH            ty, ty + SIDE, .. and the columns tx, tx + SIDE, ..
          +-----------+                  so that neighbours read neighbouring words
    +---+ +-----------+
    | A | |           |                  the strips are a word wider than EDGE: a copy along K
    |   | |  C tile   | EDGE             then goes to another bank each time
    +---+ +-----------+
    DEPTH     EDGE

How A and B lie in memory is the business of device functions, so that a convolution is this kernel
with patches for A, and nothing is copied to make them:

    row(geometry, m)                  what of A's address depends on m alone, as a tuple p
    item(a, geometry, group, p, k)    A[m, k]
    right(b, geometry, group, k, n)   B[k, n]

The third axis of the grid is ``group * splits + split``. With splits > 1 the sum over k is cut, and
`_join` adds the parts in their order: no atomics, the same bits each time.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import empty, flat

SIDE, MICRO, DEPTH = (2, 2, 8) if _d.SIMULATED else (16, 4, 16)
EDGE = SIDE * MICRO
_LANES = SIDE * SIDE
_WIDTH = EDGE + 1
# Blocks that fill a large GPU. Not asked of the device: the cuts decide how sums are rounded.
_ENOUGH = 8 if _d.SIMULATED else 2 * 132
_LEAST_STEPS = 2 if _d.SIMULATED else 8  # along K, of one part

ACTIVATIONS = {None: 0, "relu": 1, "tanh": 2, "sigmoid": 3}


class Left(NamedTuple):
    """A: flat memory, and how to read it. ``along_k``: neighbours in memory differ in k."""

    memory: Any
    geometry: tuple[int, ...]
    row: Any
    item: Any
    along_k: bool


class Right(NamedTuple):
    """B, in the same words."""

    memory: Any
    geometry: tuple[int, ...]
    item: Any
    along_k: bool


class Out(NamedTuple):
    """C: flat memory; row m and column n are at ``m // P * s0 + m % P * s1 + n * s2``."""

    memory: Any
    geometry: tuple[int, int, int, int]  # P, s0, s1, s2


@_d.device
def _row(g, m):
    return (m * g[0],)


@_d.device
def _item(a, g, group, p, k):
    return a[p[0] + k * g[1]]


@_d.device
def _right(b, g, group, k, n):
    return b[g[2] + k * g[0] + n * g[1]]


def left(memory, row_stride, column_stride):
    """A matrix as A; transposed is with the strides exchanged."""
    return Left(memory, (row_stride, column_stride), _row, _item, column_stride == 1)


def right(memory, row_stride, column_stride, offset=0):
    """A matrix as B."""
    geometry = (row_stride, column_stride, offset)
    return Right(memory, geometry, _right, row_stride == 1 and column_stride != 1)


def out(memory, row_stride, column_stride=1):
    """A matrix as C."""
    return Out(memory, (1, row_stride, 0, column_stride))


def multiply(a, b, c, size, bias=None, groups=1, add=False, activation=None):
    """``C = act(A B + bias)``, or ``C = act(C + A B + bias)`` with ``add``.

    ``size`` is (M, N, K) of one group. ``bias`` is flat, a number for each of ``groups * N``
    columns.
    """
    M, N, K = size
    if M == 0 or N == 0:
        return
    tiles = -(-M // EDGE), -(-N // EDGE)
    function = _product(a.row, a.item, b.item, a.along_k, b.along_k)
    splits = _cuts(tiles[0] * tiles[1] * groups, K)
    if splits > 1 and bias is None and not add and activation is None:
        _in_parts(function, a, b, c, size, tiles, groups, splits)
        return
    flags = (1, bias is not None, add, ACTIVATIONS[activation])
    extra = c.memory if bias is None else bias
    geometries = (a.geometry, b.geometry, c.geometry)
    _run(function, (*tiles, groups), a, b, c.memory, extra, size, geometries, flags)


def _run(function, grid, a, b, memory, bias, size, geometries, flags):
    flags = tuple(int(f) for f in flags)
    arrays = a.memory, b.memory, memory, bias
    _d.launch(function, grid, (SIDE, SIDE), *arrays, size, *geometries, flags)


def _cuts(tiles, K):
    """Into how many parts the sum over k is cut."""
    return max(
        1, min(_ENOUGH // tiles, -(-K // DEPTH) // _LEAST_STEPS)
    )  # < 65536, the grid's limit


def _in_parts(function, a, b, c, size, tiles, groups, splits):
    M, N, _ = size
    columns = groups * N
    parts = flat(empty((splits, M, columns), c.memory.dtype))
    geometries = (a.geometry, b.geometry, (1, columns, 0, 1))
    grid = (*tiles, groups * splits)
    _run(function, grid, a, b, parts, parts, size, geometries, (splits, 0, 0, 0))
    _d.spread(_join, M * columns, parts, splits, columns, c.memory, c.geometry)


@_d.kernel
def _join(n, parts, splits, columns, c, gc):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        total = parts[i]
        for s in range(1, splits):
            total += parts[s * n + i]
        m = i // columns
        c[m // gc[0] * gc[1] + m % gc[0] * gc[2] + i % columns * gc[3]] = total


@_d.device
def activate(z, kind):
    """The activation at the end of a product."""
    if kind == 1:
        return _d.maximum(z, type(z)(0))
    if kind == 2:
        return _d.tanh(z)
    if kind == 3:
        return _d.sigmoid(z)
    return z


@cache
def _product(row, item, right_item, a_along_k, b_along_k):
    """The kernel for operands that are read by these device functions."""

    def gemm(a, b, c, bias, size, ga, gb, gc, flags):
        M, N, K = size
        splits, has_bias, add, kind = flags
        strip_a = cuda.shared.array((DEPTH, _WIDTH), a.dtype)
        strip_b = cuda.shared.array((DEPTH, _WIDTH), a.dtype)
        sums = cuda.local.array((MICRO, MICRO), a.dtype)
        done = cuda.local.array((MICRO, MICRO), a.dtype)
        column = cuda.local.array(MICRO, a.dtype)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        lane = ty * SIDE + tx
        m0, n0 = cuda.blockIdx.x * EDGE, cuda.blockIdx.y * EDGE
        group, split = cuda.blockIdx.z // splits, cuda.blockIdx.z % splits
        steps = (K + DEPTH - 1) // DEPTH
        end = min((split + 1) * steps // splits * DEPTH, K)
        for i in range(MICRO):
            for j in range(MICRO):
                sums[i, j] = 0
        p = row(ga, m0 + lane % EDGE)  # not along k, a lane keeps to its row
        for k0 in range(split * steps // splits * DEPTH, end, DEPTH):
            for e in range(lane, EDGE * DEPTH, _LANES):
                if a_along_k:
                    m, k = e // DEPTH, e % DEPTH
                    p = row(ga, m0 + m)
                else:
                    m, k = e % EDGE, e // EDGE
                if m0 + m < M and k0 + k < end:
                    strip_a[k, m] = item(a, ga, group, p, k0 + k)
                else:
                    strip_a[k, m] = 0
            for e in range(lane, EDGE * DEPTH, _LANES):
                if b_along_k:
                    n, k = e // DEPTH, e % DEPTH
                else:
                    n, k = e % EDGE, e // EDGE
                if n0 + n < N and k0 + k < end:
                    strip_b[k, n] = right_item(b, gb, group, k0 + k, n0 + n)
                else:
                    strip_b[k, n] = 0
            cuda.syncthreads()
            for k in range(DEPTH):
                for i in range(MICRO):
                    column[i] = strip_a[k, ty + i * SIDE]
                for j in range(MICRO):
                    value = strip_b[k, tx + j * SIDE]
                    for i in range(MICRO):
                        sums[i, j] += column[i] * value
            cuda.syncthreads()
        # The loop below is too long to be unrolled, so it needs numbers that have an address. A
        # copy has one, and the sums stay in registers.
        for i in range(MICRO):
            for j in range(MICRO):
                done[i, j] = sums[i, j]
        for i in range(MICRO):
            m = m0 + ty + i * SIDE
            if m < M:
                at = split * M * gc[1] + m // gc[0] * gc[1] + m % gc[0] * gc[2]
                for j in range(MICRO):
                    n = n0 + tx + j * SIDE
                    if n < N:
                        n += group * N
                        total = done[i, j]
                        if has_bias:
                            total += bias[n]
                        if add:
                            total += c[at + n * gc[3]]
                        c[at + n * gc[3]] = activate(total, kind)

    return _d.kernel(gemm)


# --------------------------------------------------------------------------- sums of columns

_CHUNKS = 2 if _d.SIMULATED else 128


def column_sums(memory, rows, columns, geometry, total):
    """The sum over rows of each column, added up in float64, into the flat array ``total``.

    ``geometry`` says where row m and column n lie, as in `Out`.
    """
    chunks = max(1, min(_CHUNKS, rows // _CHUNKS))
    parts = flat(empty((chunks, columns), np.float64))
    _d.spread(_sum_chunks, chunks * columns, memory, rows, columns, chunks, geometry, parts)
    _d.spread(_join, columns, parts, chunks, columns, total, (1, columns, 0, 1))


@_d.kernel
def _sum_chunks(n, memory, rows, columns, chunks, g, parts):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        chunk, column = i // columns, i % columns
        total = 0.0
        for m in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            total += memory[m // g[0] * g[1] + m % g[0] * g[2] + column * g[3]]
        parts[i] = total
