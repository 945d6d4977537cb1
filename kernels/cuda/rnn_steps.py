"""Kernel K3: the recurrence with one cuBLAS product and one pointwise kernel a step.

It runs on every card and every size. `rnn_graph` keeps the launches of some steps in a CUDA graph;
without it they are made one by one, and where a step's work is large they hide behind it.

What changes from call to call lies in device memory (`ForwardSteps` of rnn_steps.cu), written by
the kernel that begins, so the launches of a step are the same in every call of the same sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import rnn_graph
from fastnn.kernels.cuda.rnn_call import NULL, THREADS, Call, pointer

STEPS_BYTES = 512  # of ForwardSteps and BackwardSteps
_RESET_BEFORE = 3

Product = Callable[[Any, Any, Any], None]  # a, b, out


def forward(call: Call, outward: tuple[Any, ...], recurrent: Any) -> None:
    """All steps; ``outward`` is OUTWARD_PARAMETERS of rnn_step.cuh."""
    _run(Forward, call, outward, recurrent)


def backward(call: Call, inward: tuple[Any, ...], recurrent: Any) -> None:
    """All steps; ``inward`` is INWARD_PARAMETERS of rnn_step.cuh."""
    _run(Backward, call, inward, recurrent)


def _run(kind: type[Steps], call: Call, arrays: tuple[Any, ...], recurrent: Any) -> None:
    if rnn_graph.run(kind, call, arrays, recurrent):
        return
    steps = kind(call)
    steps.begin(call, arrays, recurrent)
    for k in range(call.T):
        steps.step(k, _matmul)
    steps.finish(call.T)


def _matmul(a: Any, b: Any, out: Any) -> None:
    cupy.matmul(a, b, out=out)


class Steps:
    """The buffers of the steps in one direction, and their launches.

    Parameters
    ----------
    call : Call
        Its sizes, cell and dtype are kept; everything else belongs to `begin`.
    """

    _advance: Any

    def __init__(self, call: Call) -> None:
        self.before = call.cell == _RESET_BEFORE
        self._blocks = min(-(-call.B * call.H // THREADS), 1 << 20)
        self.at = cupy.empty(STEPS_BYTES // 8, np.int64)
        # A GRU that resets before the product has two: of z and r, and of n.
        self.wide_part = (2 if self.before else call.G) * call.H

    def _launch(self, kernel: Any, *args: Any) -> None:
        kernel((self._blocks,), (THREADS,), args)

    def begin(self, call: Call, arrays: tuple[Any, ...], recurrent: Any) -> None:
        """Take a call's arrays and weights."""
        raise NotImplementedError

    def step(self, k: int, product: Product) -> None:
        """Step k of those that `advance` has not passed."""
        raise NotImplementedError

    def finish(self, k: int) -> None:
        """What is left after the last step."""

    def advance(self, steps: int) -> None:
        """Count so many steps as done."""
        self._advance((1,), (1,), (self.at, np.int64(steps)))


class Forward(Steps):
    """hm U, then the cell."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        B, H, wide_part = call.B, call.H, self.wide_part
        self.h = cupy.empty((B, H), call.wide)
        self.c = cupy.empty((B, H), call.wide) if call.lstm else NULL
        self.hm = cupy.empty((B, H), call.dtype)
        self.U = cupy.empty((H, wide_part), call.dtype)
        self.au = cupy.empty((B, wide_part), call.dtype)
        self.zr = NULL
        if self.before:
            self.U_n = cupy.empty((H, H), call.dtype)
            self.au_n, self.p = (cupy.empty((B, H), call.dtype) for _ in range(2))
            self.zr = cupy.empty((B, 2, H), call.wide)
            self._reset = call.kernel("rnn_step_reset")
        self._begin = call.kernel("rnn_begin_forward")
        self._step = call.kernel("rnn_step_forward")
        self._advance = call.kernel("rnn_advance_forward")

    def begin(self, call: Call, arrays: tuple[Any, ...], recurrent: Any) -> None:
        self.U[...] = recurrent[:, : self.wide_part]
        if self.before:
            self.U_n[...] = recurrent[:, self.wide_part :]
        self._launch(self._begin, *call.args, *arrays, self.at, self.h, self.c, self.hm)

    def step(self, k: int, product: Product) -> None:
        product(self.hm, self.U, self.au)
        au = self.au
        if self.before:
            self._launch(self._reset, self.at, np.int64(k), self.au, self.hm, self.zr, self.p)
            product(self.p, self.U_n, self.au_n)
            au = self.au_n
        self._launch(self._step, self.at, np.int64(k), au, self.h, self.c, self.hm, self.zr)


class Backward(Steps):
    """The cell's gradients, then their product with U^T."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        B, H, wide_part = call.B, call.H, self.wide_part
        self.d = cupy.empty((6, B, H), call.wide)
        self.dhm = cupy.empty((B, H), call.dtype)
        self.du = cupy.empty((B, wide_part), call.dtype)
        self.U = cupy.empty((wide_part, H), call.dtype)
        self.dn = self.dp = self.U_n = None
        if self.before:
            self.dn, self.dp = (cupy.empty((B, H), call.dtype) for _ in range(2))
            self.U_n = cupy.empty((H, H), call.dtype)
            self._reset = call.kernel("rnn_step_backward_reset")
        self._begin = call.kernel("rnn_begin_backward")
        self._step = call.kernel("rnn_step_backward")
        self._advance = call.kernel("rnn_advance_backward")

    def begin(self, call: Call, arrays: tuple[Any, ...], recurrent: Any) -> None:
        self.U[...] = recurrent[:, : self.wide_part].T
        if self.U_n is not None:
            self.U_n[...] = recurrent[:, self.wide_part :].T
        self._begin((1,), (1,), (*call.args, *arrays, self.at))

    def step(self, k: int, product: Product) -> None:
        self.finish(k)
        if self.before:
            product(self.dn, self.U_n, self.dp)
            self._launch(self._reset, self.at, np.int64(k), self.dp, self.d, self.du)
        product(self.du, self.U, self.dhm)

    def finish(self, k: int) -> None:
        """The first half of step k; after the last step, what is left of it."""
        args = (self.at, np.int64(k), self.dhm, self.d, self.du, pointer(self.dn))
        self._launch(self._step, *args)
