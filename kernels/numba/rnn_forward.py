"""Recurrent forward pass: one block for a slice of the batch, over all of time.

    ax = x W + b                         [N, G*H], one product before the loop
    for each t:  pre = hm U + rb         [R, G*H], in the block: `rnn_product`
                 h', c' = cell(ax, pre, h, c), zoneout

Shared memory holds hm [R, H], pre [R, G*H], for a GRU with reset before the product r hm [R, H],
and the parts of the product. h and c of a unit belong to one thread for the whole sequence; they
lie in the arrays of the final state, which no other thread touches. U is read from L2 each step.
Two barriers a step, four with two products; blocks never wait for each other.
"""

from __future__ import annotations

from functools import cache

from numba import cuda

from fastnn.kernels.cells import CELLS, saved_planes
from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba import gemm, rnn_cells, rnn_rows
from fastnn.kernels.numba.array import contiguous, empty, flat
from fastnn.kernels.numba.rnn_product import THREADS, blocks, product
from fastnn.kernels.numba.rnn_rows import LIVE, RESET, STEPS


def rnn_forward(x, weights, initial, spec, keep):
    """``y, final, c, gates`` as in `fastnn.kernels.reference.rnn_forward`, on the device."""
    T, B, I = x.shape
    W, U, b, rb = (None if a is None else flat(contiguous(a)) for a in weights)
    H, G = weights.recurrent_kernel.shape[0], CELLS[spec.cell].gates
    cell = rnn_cells.make(spec.cell, spec.activation, spec.reset_after)
    order = rnn_rows.order_of(x)
    options = rnn_rows.options(spec, order, H, x.dtype)
    has_c = "c" in CELLS[spec.cell].states

    ax = project(order.flat(x), W, b, (T * B, I, G * H))
    y, y_flat = order.empty((H,), x.dtype)
    c = gates = None
    c_flat = gates_flat = y_flat
    if keep and has_c:
        c, c_flat = order.empty((H,), x.dtype)
    S = saved_planes(spec.cell, spec.reset_after)
    if keep == "gates" and S:
        gates, gates_flat = order.empty((S, H), x.dtype)
    final = [empty((B, H), x.dtype) for _ in range(1 + has_c)]
    h0, c0 = starts(initial, has_c)

    plan = blocks(B, G * H, (1 + G + cell.twice) * H, x.dtype)
    flags = (
        int(rb is not None),
        int(h0 is not None),
        int(options.drop is not None),
        int(options.rows is not None),
        options.zone_mode,
        int(c is not None),
        int(gates is not None),
        int(spec.reverse),
    )
    plan.launch(
        _forward(cell, plan.rows, plan.in_shared),
        ax,
        U,
        U if rb is None else rb,
        U if h0 is None else h0,
        U if c0 is None else c0,
        U if options.drop is None else options.drop,
        _bytes(options.rows),
        _bytes(options.zone),
        y_flat,
        c_flat,
        gates_flat,
        flat(final[0]),
        flat(final[-1]),
        (T, B, H),
        order.strides,
        options.rates,
        flags,
    )
    return y, final, c, gates


def project(x, W, b, size):
    """``x W + b``, flat ``[N, G*H]``, with ``size`` (N, I, G*H)."""
    N, I, columns = size
    ax = flat(empty((N, columns), x.dtype))
    a, w = gemm.left(x, I, 1), gemm.right(W, columns, 1)
    gemm.multiply(a, w, gemm.out(ax, columns), (N, columns, I), bias=b)
    return ax


def starts(initial, has_c):
    """``h0, c0``, flat ``[B, H]``; None where there is none."""
    if initial is None:
        return None, None
    h0, c0 = initial if has_c else (initial, None)
    return flat(contiguous(h0)), None if c0 is None else flat(contiguous(c0))


def _bytes(a):
    return flat(empty((1,), "u1")) if a is None else a


@cache
def _forward(cell, R, in_shared):
    multiply = product(R)
    G, S, twice, has_c = cell.gates, cell.planes, int(cell.twice), cell.has_c
    item_or_zero = _d.item_or_zero
    step, reset = cell.forward, cell.reset or cell.forward

    def forward(ax, U, rb, h0, c0, drop, rows, zone, y, all_c, gates, h_end, c_end, size, strides,
                rates, flags, work):  # fmt: skip
        T, B, H = size
        st, sb = strides
        has_rb, has_initial, has_drop, has_rows, zone_mode, keep_c, keep_gates, reverse = flags
        lanes = cuda.blockDim.x * cuda.blockDim.y
        lane = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        b0 = cuda.blockIdx.x * R
        if in_shared:
            memory = cuda.shared.array(0, ax.dtype)
        else:
            each = R * H * (1 + G + twice) + R * lanes
            memory = work[cuda.blockIdx.x * each : (cuda.blockIdx.x + 1) * each]
        hm = memory[: R * H]
        pre = memory[R * H : R * H * (1 + G)]
        p = memory[R * H * (1 + G) : R * H * (1 + G + twice)]
        part = memory[R * H * (1 + G + twice) :]

        for e in range(lane, R * H, lanes):
            hm[e] = 0
            b, j = b0 + e // H, e % H
            if b < B:
                u = b * H + j
                h_end[u] = item_or_zero(h0, u, has_initial)
                if has_c:
                    c_end[u] = item_or_zero(c0, u, has_initial)
                hm[e] = h_end[u] * drop[u] if has_drop else h_end[u]
        cuda.syncthreads()

        for i in range(T):
            t = T - 1 - i if reverse else i
            busy = not has_rows
            if has_rows:
                for r in range(R):
                    if b0 + r < B and rows[t * st + (b0 + r) * sb] & STEPS:
                        busy = True
                for e in range(lane, R * H, lanes):
                    b, j = b0 + e // H, e % H
                    if b < B and rows[t * st + b * sb] & RESET:
                        u = b * H + j
                        h_end[u] = item_or_zero(h0, u, has_initial)
                        if has_c:
                            c_end[u] = item_or_zero(c0, u, has_initial)
                        hm[e] = h_end[u] * drop[u] if has_drop else h_end[u]
                cuda.syncthreads()
            if busy:
                if twice:
                    multiply(hm, H, U, 0, G * H, 2 * H, pre, G * H, 0, part, rb, has_rb)
                    cuda.syncthreads()
                    for e in range(lane, R * H, lanes):
                        b, j = b0 + e // H, e % H
                        p[e] = 0
                        if b < B:
                            at = (t * st + b * sb) * G * H
                            p[e] = reset(ax, at, pre, e // H * G * H, H, j) * hm[e]
                    cuda.syncthreads()
                    multiply(p, H, U, 2 * H, G * H, H, pre, G * H, 2 * H, part, rb, has_rb)
                else:
                    multiply(hm, H, U, 0, G * H, G * H, pre, G * H, 0, part, rb, has_rb)
                cuda.syncthreads()
            for e in range(lane, R * H, lanes):
                b, j = b0 + e // H, e % H
                if b < B:
                    n, u = t * st + b * sb, b * H + j
                    bits = rows[n] if has_rows else STEPS + LIVE
                    if bits & STEPS:
                        h, c = h_end[u], c_end[u]
                        h_new, c_new, p0, p1, p2, p3 = step(
                            ax, n * G * H, pre, e // H * G * H, H, j, h, c
                        )
                        if S > 0 and keep_gates:
                            at = n * S * H + j
                            gates[at] = p0
                            gates[at + H] = p1
                            gates[at + 2 * H] = p2
                            if S > 3:
                                gates[at + 3 * H] = p3
                        if zone_mode == 1:
                            kept = zone[n * H + j]
                            h_new = h if kept & 1 else h_new
                            c_new = c if kept & 2 else c_new
                        elif zone_mode == 2:
                            one = type(h)(1)
                            h_new = rates[0] * h + (one - rates[0]) * h_new
                            if rates[1] != 0:
                                c_new = rates[1] * c + (one - rates[1]) * c_new
                        h_end[u] = h_new
                        if has_c:
                            c_end[u] = c_new
                        hm[e] = h_new * drop[u] if has_drop else h_new
                    elif (
                        S > 0 and keep_gates
                    ):  # not specified, but never a NaN that was lying there
                        for s in range(S):
                            gates[(n * S + s) * H + j] = 0
                    y[n * H + j] = item_or_zero(h_end, u, bits & LIVE)
                    if keep_c:
                        all_c[n * H + j] = item_or_zero(c_end, u, bits & LIVE)
            cuda.syncthreads()

    return _d.kernel(forward, THREADS)
