"""Kernel K3: the recurrence with one cuBLAS product and one pointwise kernel a step.

It runs on every card and every size. CuPy refuses cuBLAS while a stream is captured (cupy#6290), so
the steps are launched one by one; where a step's work is large enough for this kernel to be chosen,
the launches hide behind it.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda.rnn_call import NULL, THREADS, Call, pointer

_RESET_BEFORE = 3


def _over_units(call: Call, function: str) -> Any:
    kernel = call.kernel(function)
    blocks = min(-(-call.B * call.H // THREADS), 1 << 20)
    return lambda *args: kernel((blocks,), (THREADS,), args)


def forward(call: Call, outward: tuple[Any, ...], recurrent: Any) -> None:
    """All steps; ``outward`` is OUTWARD_PARAMETERS of rnn_step.cuh."""
    B, H, T = call.B, call.H, call.T
    h = cupy.empty((B, H), call.wide)
    c = cupy.empty((B, H), call.wide) if call.lstm else NULL
    hm = cupy.empty((B, H), call.dtype)
    _over_units(call, "rnn_begin_forward")(*call.args, h, c, hm)
    step = _over_units(call, "rnn_step_forward")
    steps = np.int64(T)
    if call.cell != _RESET_BEFORE:
        U = cupy.ascontiguousarray(recurrent)
        au = cupy.empty((B, call.G * H), call.dtype)
        for s in range(T):
            cupy.matmul(hm, U, out=au)
            step(*call.args, *outward, np.int64(s), steps, au, h, c, hm, NULL)
        return
    reset = _over_units(call, "rnn_step_reset")
    U_zr, U_n = (
        cupy.ascontiguousarray(part) for part in (recurrent[:, : 2 * H], recurrent[:, 2 * H :])
    )
    au, au_n, p = (cupy.empty((B, n * H), call.dtype) for n in (2, 1, 1))
    zr = cupy.empty((B, 2, H), call.wide)
    for s in range(T):
        cupy.matmul(hm, U_zr, out=au)
        reset(*call.args, *outward, np.int64(s), steps, au, hm, zr, p)
        cupy.matmul(p, U_n, out=au_n)
        step(*call.args, *outward, np.int64(s), steps, au_n, h, c, hm, zr)


def backward(call: Call, inward: tuple[Any, ...], recurrent: Any) -> None:
    """All steps; ``inward`` is INWARD_PARAMETERS of rnn_step.cuh."""
    B, H, T = call.B, call.H, call.T
    before = call.cell == _RESET_BEFORE
    d = cupy.empty((6, B, H), call.wide)
    dhm = cupy.empty((B, H), call.dtype)
    blocks = 2 if before else call.G
    du = cupy.empty((B, blocks * H), call.dtype)
    dn = cupy.empty((B, H), call.dtype) if before else None
    dp = cupy.empty((B, H), call.dtype) if before else None
    U = cupy.ascontiguousarray(recurrent[:, : blocks * H].T)
    U_n = cupy.ascontiguousarray(recurrent[:, 2 * H :].T) if before else None
    step = _over_units(call, "rnn_step_backward")
    reset = _over_units(call, "rnn_step_backward_reset") if before else None
    steps = np.int64(T)
    for s in range(T + 1):
        step(*call.args, *inward, np.int64(s), steps, dhm, d, du, pointer(dn))
        if s == T:
            return
        if reset is not None:
            cupy.matmul(dn, U_n, out=dp)
            reset(*call.args, *inward, np.int64(s), steps, dp, d, du)
        cupy.matmul(du, U, out=dhm)
