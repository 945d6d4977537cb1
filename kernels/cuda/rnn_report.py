"""What `python -m fastnn info --verbose` says about the recurrent kernels of a card."""

from __future__ import annotations

import os

import cupy

from fastnn.kernels.cells import CELLS
from fastnn.kernels.cuda import rnn_persistent
from fastnn.kernels.cuda.rnn_choice import choose
from fastnn.kernels.cuda.rnn_shapes import Card, Work

_CELLS = (("lstm", 1), ("gru", 2))
_UNITS = (128, 512, 1024, 2048)
_BATCHES = (1, 64)


def details() -> dict[str, str]:
    """The kernel that a training step takes for some sizes, float32, and why not the others."""
    device = cupy.cuda.runtime.getDevice()
    refusals = tuple(rnn_persistent._refusals.get(device, ()))
    wanted = os.environ.get(rnn_persistent.VARIABLE) or None
    return lines(rnn_persistent.card(device), wanted, refusals)


def lines(card: Card, wanted: str | None = None, refusals: tuple = ()) -> dict[str, str]:
    """The same for any card; nothing is launched."""
    found = {}
    for cell, code in _CELLS:
        for H in _UNITS:
            for B in _BATCHES:
                work = Work(code, CELLS[cell].gates, H, B, itemsize=4)
                plan = choose(card, work, wanted, refusals)
                found[f"{cell} H {H} B {B}"] = f"{plan} ({'; '.join(plan.reasons)})"
    return found
