"""Back-propagation through time: one block for a slice of the batch, then large products.

Before the loop, over all rows at once: the states before each step, and, if they were not saved,
the activated gates. In the loop, for each t from the last to the first::

    dh, dc += what comes from above at t
    da     = cell backward                    [R, G*H], kept for the products afterwards
    dh     = past the product + (da U^T) D    in the block: `rnn_product`

and after it dW = x^T da, dU = hm^T da, dx = da W^T and the biases' sums, each over all rows.
dh and dc of a unit belong to one thread for the whole sequence.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import cuda

from fastnn.kernels.cells import CELLS
from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba import gemm, rnn_cells, rnn_rows
from fastnn.kernels.numba.array import contiguous, empty, flat, zeros
from fastnn.kernels.numba.rnn_forward import project, starts
from fastnn.kernels.numba.rnn_product import THREADS, blocks, product
from fastnn.kernels.numba.rnn_rows import LIVE, RESET, STEPS


class Steps(NamedTuple):
    """What the loop reads of the forward pass, flat: states before the steps, gates, y."""

    h: Any  # [N, H]
    hm: Any  # [N, H]
    c: Any  # [N, H], or h
    gates: Any  # [N, S, H], or h
    y: Any  # [N, H]


def rnn_backward(d_y, d_final, d_states, saved, need_dx):
    """``dx, weights, initial`` as in `fastnn.kernels.reference.rnn_backward`, on the device."""
    x, spec = saved.x, saved.spec
    T, B, I = x.shape
    W, U, b, rb = (None if a is None else flat(contiguous(a)) for a in saved.weights)
    H, G = saved.weights.recurrent_kernel.shape[0], CELLS[spec.cell].gates
    N, columns = T * B, G * H
    cell = rnn_cells.make(spec.cell, spec.activation, spec.reset_after)
    order = rnn_rows.order_of(x)
    options = rnn_rows.options(spec, order, H, x.dtype)
    x_rows = rnn_rows.only_steps(order.flat(x), options.rows, I)

    h0, c0 = starts(saved.initial, cell.has_c)
    y = order.flat(saved.y)
    place = (options.rows, order, H, spec.reverse)
    h = rnn_rows.previous(y, h0, *place)
    hm = rnn_rows.scaled(h, options.drop, order, H)
    c = rnn_rows.previous(order.flat(saved.c), c0, *place) if cell.has_c else h
    gates = h
    if cell.planes:
        if saved.gates is not None:
            gates = order.flat(saved.gates)
        else:
            ax = project(x_rows, W, b, (N, I, columns))
            gates = _gates_again(cell, ax, U, rb, h, hm, c, N, H)

    steps = Steps(h, hm, c, gates, y)
    da = flat(empty((N, columns), x.dtype))
    dq = flat(empty((N, H), x.dtype)) if cell.own_q else da
    initial = [zeros((B, H), x.dtype) for _ in range(1 + cell.has_c)]
    upstream = [None if a is None else order.flat(a) for a in (d_y, *d_states)]
    ends = [None if a is None else flat(contiguous(a)) for a in d_final]
    _run(cell, steps, options, order, U, upstream, ends, da, dq, initial, (T, B, H), spec.reverse)

    dU, drb = _recurrent_gradients(cell, steps, options.rows, da, dq, rb, N, H, saved.weights)
    dW = empty(saved.weights.kernel.shape, x.dtype)
    a, d = gemm.left(x_rows, 1, I), gemm.right(da, columns, 1)
    gemm.multiply(a, d, gemm.out(flat(dW), columns), (I, columns, N))
    db = None if b is None else _sums(da, N, columns, columns)
    dx = _input_gradient(da, W, order, options.rows, (N, I, columns)) if need_dx else None
    return dx, [dW, dU, db, drb], initial


def _input_gradient(da, W, order, rows, size):
    N, I, columns = size
    dx, memory = order.empty((I,), da.dtype)
    a, w = gemm.left(da, columns, 1), gemm.right(W, 1, columns)
    gemm.multiply(a, w, gemm.out(memory, I), (N, I, columns))
    if rows is not None:  # a step that was not made has no gradient, whatever W holds
        memory.copy_to_device(rnn_rows.only_steps(memory, rows, I))
    return dx


def _recurrent_gradients(cell, steps, rows, da, dq, rb, N, H, weights):
    """Of ``recurrent_kernel`` and ``recurrent_bias``; the candidate's block may differ."""
    dtype, columns = weights.recurrent_kernel.dtype, cell.gates * H
    dU = empty((H, columns), dtype)
    drb = None if rb is None else empty((columns,), dtype)
    apart = cell.own_q or cell.twice
    first = 2 * H if apart else columns
    hm = gemm.left(steps.hm, 1, H)
    out = flat(dU)
    gemm.multiply(hm, gemm.right(da, columns, 1), gemm.out(out, columns), (H, first, N))
    if apart:
        d, ld, offset = (dq, H, 0) if cell.own_q else (da, columns, 2 * H)
        v = hm
        if cell.twice:
            p = flat(empty((N, H), dtype))
            _d.spread(_reset_states, N * H, steps.gates, steps.hm, H, p)
            v = gemm.left(rnn_rows.only_steps(p, rows, H), 1, H)
        gemm.multiply(v, gemm.right(d, ld, 1, offset), gemm.out(out[first:], columns), (H, H, N))
    if drb is not None:
        gemm.column_sums(da, N, first, (1, columns, 0, 1), flat(drb)[:first])
        if apart:
            gemm.column_sums(d[offset:], N, H, (1, ld, 0, 1), flat(drb)[first:])
    return dU, drb


def _sums(memory, rows, columns, ld):
    total = empty((columns,), memory.dtype)
    gemm.column_sums(memory, rows, columns, (1, ld, 0, 1), flat(total))
    return total


@_d.kernel
def _reset_states(count, gates, hm, H, p):
    """``p = r hm``, of a GRU with reset before: r is the second of three planes."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        p[i] = gates[i // H * 3 * H + H + i % H] * hm[i]


# --------------------------------------------------------------------------- the gates again


def _gates_again(cell, ax, U, rb, h, hm, c, N, H):
    """The activated gates ``[N, S, H]`` of every step, by products over all rows."""
    columns = cell.gates * H
    pre = flat(empty((N, columns), ax.dtype))
    gates = flat(empty((N, cell.planes, H), ax.dtype))
    first = 2 * H if cell.twice else columns
    out = gemm.out(pre, columns)
    gemm.multiply(gemm.left(hm, H, 1), gemm.right(U, columns, 1), out, (N, first, H), bias=rb)
    if cell.twice:
        p = flat(empty((N, H), ax.dtype))
        _d.spread(_reset_kernel(cell), N * H, ax, pre, hm, H, p)
        gemm.multiply(
            gemm.left(p, H, 1),
            gemm.right(U, columns, 1, first),
            gemm.out(pre[first:], columns),
            (N, H, H),
            bias=None if rb is None else rb[first:],
        )
    _d.spread(_gates_kernel(cell), N * H, ax, pre, h, c, H, gates)
    return gates


@cache
def _reset_kernel(cell):
    reset, G = cell.reset, cell.gates

    def apply(count, ax, pre, hm, H, p):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            at = i // H * G * H
            p[i] = reset(ax, at, pre, at, H, i % H) * hm[i]

    return _d.kernel(apply)


@cache
def _gates_kernel(cell):
    step, G, S = cell.forward, cell.gates, cell.planes

    def apply(count, ax, pre, h, c, H, gates):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            n, j = i // H, i % H
            _, _, p0, p1, p2, p3 = step(ax, n * G * H, pre, n * G * H, H, j, h[i], c[i])
            at = n * S * H + j
            gates[at] = p0
            gates[at + H] = p1
            gates[at + 2 * H] = p2
            if S > 3:
                gates[at + 3 * H] = p3

    return _d.kernel(apply)


# --------------------------------------------------------------------------- the loop


def _run(cell, steps, options, order, U, upstream, ends, da, dq, initial, size, reverse):
    """Fill da and dq, and the gradients of the initial state."""
    _, B, H = size
    columns = cell.gates * H
    dtype = da.dtype
    # U^T, so that neighbouring threads read neighbouring words of it too.
    U_t = flat(empty((columns, H), dtype))
    _d.spread(_transpose, columns * H, U, H, columns, U_t)
    carry = [flat(empty((B, H), dtype)) for _ in range(2)]
    plan = blocks(B, H, (cell.gates + 1) * H, dtype)
    flags = (
        int(options.drop is not None),
        int(options.rows is not None),
        int(options.zone_mode == 1),
        *(int(a is not None) for a in (*upstream, *ends)),
        int(reverse),
    )
    nothing = flat(empty((1,), "u1"))
    plan.launch(
        _backward(cell, plan.rows, plan.in_shared),
        *steps,
        U_t,
        *(U_t if a is None else a for a in (options.drop, *upstream, *ends)),
        *(nothing if a is None else a for a in (options.rows, options.zone)),
        da,
        dq,
        *carry,
        flat(initial[0]),
        flat(initial[-1]),
        size,
        order.strides,
        flags,
    )


@_d.kernel
def _transpose(count, a, rows, columns, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i] = a[i % rows * columns + i // rows]


@cache
def _backward(cell, R, in_shared):
    multiply = product(R)
    G, S, twice, has_c, own_q = cell.gates, cell.planes, int(cell.twice), cell.has_c, cell.own_q
    back, reset_back = cell.backward, cell.reset_backward or cell.backward
    item_or_zero = _d.item_or_zero

    def backward(h, hm, c, gates, y, U_t, drop, d_y, d_h, d_c, d_h_end, d_c_end, rows, zone, da, dq,
                 dh_now, dc_now, dh0, dc0, size, strides, flags, work):  # fmt: skip
        T, B, H = size
        st, sb = strides
        has_drop, has_rows, has_zone, has_y, has_h, has_c_up, has_h_end, has_c_end, reverse = flags
        lanes = cuda.blockDim.x * cuda.blockDim.y
        lane = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        b0 = cuda.blockIdx.x * R
        if in_shared:
            memory = cuda.shared.array(0, da.dtype)
        else:
            each = R * H * (G + 1) + R * lanes
            memory = work[cuda.blockIdx.x * each : (cuda.blockIdx.x + 1) * each]
        # What is multiplied: all da [R, G*H], or, in two products, da_n [R, H] and the rest.
        vector = memory[: R * H * G]
        second = memory[R * H * (G - 1) : R * H * G]
        pre = memory[R * H * G : R * H * (G + 1)]
        part = memory[R * H * (G + 1) :]
        width = (G - twice) * H

        for e in range(lane, R * H, lanes):
            b = b0 + e // H
            if b < B:
                u = b * H + e % H
                dh_now[u] = item_or_zero(d_h_end, u, has_h_end)
                dc_now[u] = item_or_zero(d_c_end, u, has_c_end)

        for i in range(T):
            t = i if reverse else T - 1 - i
            busy = not has_rows
            if has_rows:
                for r in range(R):
                    if b0 + r < B and rows[t * st + (b0 + r) * sb] & STEPS:
                        busy = True
            for e in range(lane, R * H, lanes):
                r, j = e // H, e % H
                b = b0 + r
                for g in range(G - twice):
                    vector[r * width + g * H + j] = 0
                if twice:
                    second[e] = 0
                if b < B:
                    n, u = t * st + b * sb, b * H + j
                    bits = rows[n] if has_rows else STEPS + LIVE
                    dh, dc = dh_now[u], dc_now[u]
                    if bits & LIVE:
                        if has_y:
                            dh += d_y[n * H + j]
                        if has_h:
                            dh += d_h[n * H + j]
                        if has_c_up:
                            dc += d_c[n * H + j]
                    at = n * G * H + j
                    if bits & STEPS:
                        zero = type(dh)(0)
                        kept = zone[n * H + j] if has_zone else 0
                        dh_kept, dc_kept = dh if kept & 1 else zero, dc if kept & 2 else zero
                        dh, dc = zero if kept & 1 else dh, zero if kept & 2 else dc
                        p0, p1, p2, p3 = zero, zero, zero, zero
                        if S > 0:
                            plane = n * S * H + j
                            p0, p1, p2 = gates[plane], gates[plane + H], gates[plane + 2 * H]
                            if S > 3:
                                p3 = gates[plane + 3 * H]
                        k = n * H + j
                        d0, d1, d2, d3, d_q, dh, dc = back(
                            dh, dc, p0, p1, p2, p3, h[k], hm[k], c[k], y[k]
                        )
                        da[at] = d0
                        vector[r * width + j] = d0
                        if G > 1:
                            da[at + H] = d1
                            vector[r * width + H + j] = d1
                            da[at + 2 * H] = d2
                        if twice:
                            second[e] = d2
                        elif own_q:
                            dq[k] = d_q
                            vector[r * width + 2 * H + j] = d_q
                        elif G > 3:
                            da[at + 3 * H] = d3
                            vector[r * width + 2 * H + j] = d2
                            vector[r * width + 3 * H + j] = d3
                        dh += dh_kept
                        dc += dc_kept
                    else:
                        for g in range(G):
                            da[at + g * H] = 0
                        if own_q:
                            dq[n * H + j] = 0
                    dh_now[u] = dh
                    dc_now[u] = dc
            cuda.syncthreads()
            if busy:
                if twice:
                    multiply(second, H, U_t, 2 * H * H, H, H, pre, H, 0, part, da, 0)
                    cuda.syncthreads()
                    for e in range(lane, R * H, lanes):
                        r, j = e // H, e % H
                        b = b0 + r
                        n, u = t * st + b * sb, b * H + j
                        if b < B and (not has_rows or rows[n] & STEPS):
                            k = n * H + j
                            d_r, d_hm = reset_back(pre[e], hm[k], gates[n * S * H + H + j])
                            da[n * G * H + H + j] = d_r
                            vector[r * width + H + j] = d_r
                            dh_now[u] += d_hm * drop[u] if has_drop else d_hm
                    cuda.syncthreads()
                multiply(vector, width, U_t, 0, H, H, pre, H, 0, part, da, 0)
                cuda.syncthreads()
            for e in range(lane, R * H, lanes):
                b = b0 + e // H
                if b < B:
                    n, u = t * st + b * sb, b * H + e % H
                    bits = rows[n] if has_rows else STEPS + LIVE
                    if bits & STEPS:
                        dh_now[u] += pre[e] * drop[u] if has_drop else pre[e]
                    if bits & RESET:
                        dh0[u] += dh_now[u]
                        dh_now[u] = 0
                        if has_c:
                            dc0[u] += dc_now[u]
                            dc_now[u] = 0

        for e in range(lane, R * H, lanes):
            b = b0 + e // H
            if b < B:
                u = b * H + e % H
                dh0[u] += dh_now[u]
                if has_c:
                    dc0[u] += dc_now[u]

    return _d.kernel(backward, THREADS)
