"""Recurrent layers on the GPU: the large products by cuBLAS, the recurrence by one of four kernels.

    forward     ax = x W                      one product over all steps
                recurrence                    K0 to K3, see rnn_choice.py
    backward    gates again                   keep="states": hm U of all steps, one product
                recurrence, backwards         -> da [N, G*H] of all steps
                dx = da W^T, dW = x^T da, dU = hm^T da, db = column sums: one each

All runs on CuPy's current stream, nothing waits for the host, and every sum has a fixed order.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import rnn_persistent, rnn_steps
from fastnn.kernels.cuda.rnn_call import NULL, Call, dense, pointer

_GRU_AFTER, _GRU_BEFORE = 2, 3


def forward(x: Any, weights: Any, initial: Any, spec: Any, keep: str | None) -> tuple[Any, ...]:
    """Run one direction of a recurrent layer.

    Parameters
    ----------
    x : cupy.ndarray [T, B, I]
    weights : RnnWeights
    initial : None, cupy.ndarray [B, H], or for lstm the pair (h, c)
    spec : RnnSpec
    keep : "gates", "states" or None

    Returns
    -------
    y : [T, B, H], in the memory order of x
    final_h, final_c : [B, H]; final_c None but for lstm
    c : [T, B, H], or None
    gates : [T, B, S, H], or None
    """
    call = Call(x, weights, initial, spec)
    H, zeros = call.H, spec.lengths is not None
    y = call.rows(H, zeros=zeros)
    c = call.rows(H, zeros=zeros) if call.lstm and keep else None
    gates = call.rows(call.planes, H, zeros=zeros) if keep == "gates" and call.planes else None
    final_h = _state(call, call.h0)
    final_c = _state(call, call.c0) if call.lstm else None
    if call.N:
        ax = project(call, call.by_row(x), weights)
        bias, recurrent_bias = dense(weights.bias), dense(weights.recurrent_bias)
        outward = (ax, bias, recurrent_bias, y, c, gates, final_h, final_c)
        outward = tuple(pointer(a) for a in outward)
        recurrence(call, outward, weights.recurrent_kernel, backward=False)
    y, c, gates = (call.by_time(a) for a in (y, c, gates))
    return y, final_h, final_c, c, gates


def backward(
    dy: Any,
    d_final_h: Any,
    d_final_c: Any,
    d_states_h: Any,
    d_states_c: Any,
    saved: Any,
    need_dx: bool,
) -> tuple[Any, ...]:
    """Gradients of `forward`.

    Parameters
    ----------
    dy, d_states_h, d_states_c : cupy.ndarray [T, B, H] or None
    d_final_h, d_final_c : cupy.ndarray [B, H] or None
    saved : RnnSaved
    need_dx : bool

    Returns
    -------
    dx : [T, B, I] in the memory order of x, or None
    dkernel, drecurrent_kernel : [I, G*H], [H, G*H]
    dbias, drecurrent_bias : [G*H], or None without the weight
    dh0, dc0 : [B, H]; dc0 None but for lstm
    """
    x, weights, spec = saved.x, saved.weights, saved.spec
    call = Call(x, weights, saved.initial, spec)
    H, columns = call.H, call.G * call.H
    dh0 = _state(call, dense(d_final_h))
    dc0 = _state(call, dense(d_final_c)) if call.lstm else None
    if call.N == 0:
        dx = call.by_time(call.rows(call.I)) if need_dx else None
        zeros = (None if w is None else cupy.zeros(w.shape, call.dtype) for w in weights)
        return dx, *zeros, dh0, dc0

    y, c = call.by_row(saved.y), call.by_row(saved.c)
    gates = call.by_row(saved.gates)
    x_rows = call.stepping_rows(x)
    hm, p = call.rows(H), None
    if call.planes and gates is None:
        gates = _gates_again(call, x_rows, weights, y, hm)
    if call.cell == _GRU_BEFORE:
        p = call.rows(H)
    call.launch("rnn_previous", call.N * H, (*call.args, y, pointer(gates), hm, pointer(p)))

    da = call.rows(columns, zeros=call.ragged)
    dr = call.rows(columns, zeros=call.ragged) if call.cell == _GRU_AFTER else None
    upstream = [call.last_contiguous(d) for d in (dy, d_states_h, d_states_c)]
    inward = (
        *(pointer(a) for a in (y, c, gates)),
        *(array for array, _, _ in upstream),
        *(stride for _, *strides in upstream for stride in strides),
        *(pointer(dense(a)) for a in (d_final_h, d_final_c)),
        *(pointer(a) for a in (da, dr, dh0, dc0)),
    )
    recurrence(call, inward, weights.recurrent_kernel, backward=True)

    recurrent = da if dr is None else dr
    dx = call.by_time(cupy.matmul(da, weights.kernel.T)) if need_dx else None
    dkernel = cupy.matmul(x_rows.T, da)
    if p is None:
        drecurrent = cupy.matmul(hm.T, recurrent)
    else:
        drecurrent = cupy.empty((H, columns), call.dtype)
        drecurrent[:, : 2 * H] = cupy.matmul(hm.T, da[:, : 2 * H])
        drecurrent[:, 2 * H :] = cupy.matmul(p.T, da[:, 2 * H :])
    dbias = None if weights.bias is None else call.column_sums(da)
    drecurrent_bias = None if weights.recurrent_bias is None else call.column_sums(recurrent)
    return dx, dkernel, drecurrent, dbias, drecurrent_bias, dh0, dc0


def recurrence(call: Call, arrays: tuple[Any, ...], recurrent: Any, backward: bool) -> None:
    """All steps, without the large products around them, by the kernel that the plan names."""
    if backward:
        if not rnn_persistent.backward(call, arrays, recurrent):
            rnn_steps.backward(call, arrays, recurrent)
    elif not rnn_persistent.forward(call, arrays, recurrent):
        rnn_steps.forward(call, arrays, recurrent)


def project(call: Call, x_rows: Any, weights: Any) -> Any:
    """``x W``, ``[N, G*H]``; the kernels add the biases."""
    return cupy.matmul(x_rows, weights.kernel)


def _state(call: Call, start: Any) -> Any:
    """A fresh ``[B, H]`` that holds ``start``, or zeros."""
    if start is None:
        return cupy.zeros((call.B, call.H), call.dtype)
    return start.copy()


def _gates_again(call: Call, x_rows: Any, weights: Any, y: Any, hm: Any) -> Any:
    """The activated gates of all steps from the states, ``[N, S, H]``."""
    H, U = call.H, weights.recurrent_kernel
    call.launch("rnn_previous", call.N * H, (*call.args, y, NULL, hm, NULL))
    ax = project(call, x_rows, weights)
    gates = call.rows(call.planes, H)
    sizes = (np.int64(call.N), np.int64(H))
    biases = (pointer(dense(weights.bias)), pointer(dense(weights.recurrent_bias)))

    def activate(au: Any, phase: int, p: Any) -> None:
        args = (*sizes, ax, au, *biases, np.int32(phase), hm, pointer(p), gates)
        call.launch("rnn_activate", call.N * H, args)

    if call.cell == _GRU_BEFORE:
        p = call.rows(H)
        activate(cupy.matmul(hm, U[:, : 2 * H]), 0, p)
        activate(cupy.matmul(p, U[:, 2 * H :]), 1, None)
    else:
        activate(cupy.matmul(hm, U), 0, None)
    return gates
