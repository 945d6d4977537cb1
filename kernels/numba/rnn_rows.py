"""What a recurrent call prepares before its loop: the order of rows, and what each row does when.

A sequence is ``[N, K]`` in flat memory, N = T * B, in the order in which x lies: row
``n = t * st + b * sb``. What lengths, mask and resets say is one byte a row:

    1  the row steps        (t < length, and not masked)
    2  the row is live      (t < length)
    4  the row is reset     (live, and resets says so)

The zoneout of a step is one byte an element: 1 keeps h, 2 keeps c.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba import noise
from fastnn.kernels.numba.array import contiguous, empty, flat

STEPS, LIVE, RESET = 1, 2, 4


class Order(NamedTuple):
    """The memory order of the sequences of a call."""

    T: int
    B: int
    batch_major: bool

    @property
    def strides(self):
        """(st, sb)."""
        return (1, self.T) if self.batch_major else (self.B, 1)

    def flat(self, a):
        """A sequence ``[T, B, ...]`` in this order, flat; copied only if it lies otherwise."""
        return flat(contiguous(a.swapaxes(0, 1) if self.batch_major else a))

    def empty(self, shape, dtype):
        """A new sequence ``[T, B, *shape]``, and its flat memory."""
        if not self.batch_major:
            whole = empty((self.T, self.B, *shape), dtype)
            return whole, flat(whole)
        whole = empty((self.B, self.T, *shape), dtype)
        return whole.swapaxes(0, 1), flat(whole)


def order_of(x):
    """Batch-major where ``x [T, B, I]`` is."""
    T, B, _ = x.shape
    return Order(T, B, abs(x.strides[0]) < abs(x.strides[1]))


class Options(NamedTuple):
    """The options of a call on the device. What there is not is None, or 0 in ``zone_mode``."""

    rows: Any  # uint8 [N]
    drop: Any  # [B, H]: 0 or 1 / (1 - rate)
    zone: Any  # uint8 [N, H]
    zone_mode: int  # 1: by the bytes of zone; 2: the expected state, by the rates
    rates: tuple[float, float]


def options(spec, order, H, dtype):
    """What a call's spec asks for."""
    drop = None
    if spec.recurrent_dropout:
        shape, rate = (order.B, H), spec.recurrent_dropout
        drop = flat(noise.mask(shape, rate, spec.seed, noise.RECURRENT_DROPOUT, dtype))
    zone, mode = None, 0
    if any(spec.zoneout):
        mode = 2 if spec.seed is None else 1
        zone = _zone(spec, order, H) if mode == 1 else None
    rates = tuple(dtype.type(rate) for rate in spec.zoneout)
    return Options(_rows(spec, order), drop, zone, mode, rates)


def _rows(spec, order):
    if spec.lengths is None and spec.mask is None and spec.resets is None:
        return None
    N = order.T * order.B
    rows = flat(empty((N,), np.uint8))
    lengths = None if spec.lengths is None else flat(contiguous(spec.lengths))
    flags = [None if a is None else order.flat(a.view(np.uint8)) for a in (spec.mask, spec.resets)]
    has = tuple(int(a is not None) for a in (lengths, *flags))
    if lengths is None:
        lengths = flat(empty((1,), np.int64))
    mask, resets = (rows if a is None else a for a in flags)
    _d.spread(_mark_rows, N, lengths, mask, resets, order.B, order.strides, has, rows)
    return rows


@_d.kernel
def _mark_rows(count, lengths, mask, resets, B, strides, has, rows):
    st, sb = strides
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        t, b = i // B, i % B
        n = t * st + b * sb
        bits = 0
        if not has[0] or t < lengths[b]:
            bits = LIVE
            if not has[1] or mask[n] != 0:
                bits += STEPS
            if has[2] and resets[n] != 0:
                bits += RESET
        rows[n] = bits


def _zone(spec, order, H):
    count = order.T * order.B * H
    zone = flat(empty((count,), np.uint8))
    limits = tuple(noise.threshold(rate) for rate in spec.zoneout)
    _d.spread(
        _mark_zone, -(-count // 4), np.uint64(spec.seed), count, limits, order.B, H,
        order.strides, zone,
    )  # fmt: skip
    return zone


_H, _C = noise.ZONEOUT_H, noise.ZONEOUT_C


@_d.kernel
def _mark_zone(blocks, seed, count, limits, B, H, strides, zone):
    for block in range(cuda.grid(1), blocks, cuda.gridsize(1)):
        of_h = noise.philox(block, seed, _H)
        of_c = noise.philox(block, seed, _C)
        for k in range(min(4, count - 4 * block)):
            row, j = (4 * block + k) // H, (4 * block + k) % H
            n = row // B * strides[0] + row % B * strides[1]
            bits = 0
            if of_h[k] < limits[0]:
                bits += 1
            if of_c[k] < limits[1]:
                bits += 2
            zone[n * H + j] = bits


def only_steps(sequence, rows, width):
    """A flat sequence with zeros where no row steps: padding may hold NaN, and 0 * NaN is NaN."""
    if rows is None:
        return sequence
    clean = flat(empty((sequence.size,), sequence.dtype))
    _d.spread(_copy_steps, sequence.size, sequence, rows, width, clean)
    return clean


@_d.kernel
def _copy_steps(count, sequence, rows, width, clean):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        if rows[i // width] & STEPS:
            clean[i] = sequence[i]
        else:
            clean[i] = 0


def previous(states, initial, rows, order, H, reverse):
    """The state before each step and after its reset ``[N, H]``, flat; zero where no row steps."""
    old = flat(empty((states.size,), states.dtype))
    flags = int(initial is not None), int(rows is not None), int(reverse)
    _d.spread(
        _before,
        states.size,
        states,
        states if initial is None else initial,
        flat(empty((1,), np.uint8)) if rows is None else rows,
        (order.T, order.B, H),
        order.strides,
        flags,
        old,
    )
    return old


@_d.kernel
def _before(count, states, initial, rows, size, strides, flags, old):
    T, B, H = size
    st, sb = strides
    has_initial, has_rows, reverse = flags
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        t, b, j = i // (B * H), i // H % B, i % H
        n = t * st + b * sb
        bits = rows[n] if has_rows else STEPS + LIVE
        before = t + 1 if reverse else t - 1
        fresh = before < 0 or before >= T or bits & RESET
        if not fresh and has_rows and not rows[before * st + b * sb] & LIVE:
            fresh = True  # in reverse, the row starts here
        if not bits & STEPS:
            old[n * H + j] = 0
        elif not fresh:
            old[n * H + j] = states[(before * st + b * sb) * H + j]
        elif has_initial:
            old[n * H + j] = initial[b * H + j]
        else:
            old[n * H + j] = 0


def scaled(sequence, drop, order, H):
    """``hm = h D``, flat; the sequence itself without recurrent dropout."""
    if drop is None:
        return sequence
    product = flat(empty((sequence.size,), sequence.dtype))
    _d.spread(_scale, sequence.size, sequence, drop, (order.B, H), order.strides, product)
    return product


@_d.kernel
def _scale(count, sequence, drop, size, strides, product):
    B, H = size
    st, sb = strides
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        t, b, j = i // (B * H), i // H % B, i % H
        n = t * st + b * sb
        product[n * H + j] = sequence[n * H + j] * drop[b * H + j]
