"""What the choice of the recurrent kernels says of a card: for people, and for the notes.

``python -m fastnn info --verbose`` prints `details` of the card in hand;
``python -m fastnn.kernels.cuda.rnn_report H100`` prints the model's predictions for a named card,
which needs no GPU. Neither measures anything.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from fastnn.kernels.cuda import rnn_variants
from fastnn.kernels.cuda.rnn_choice import Refusal, choose
from fastnn.kernels.cuda.rnn_shapes import Card, Plan, Work

CARDS = {
    "RTX2080": Card(75, 46, 64 << 10),
    "A100": Card(80, 108, 163 << 10),
    "H100": Card(90, 132, 227 << 10, cluster=16),
    "B200": Card(100, 148, 227 << 10, cluster=16),
}
_CELLS = ("lstm", "gru")


def details() -> dict[str, str]:
    """The kernel that the forward pass takes for some sizes, float32, and why not the others."""
    import cupy

    from fastnn.kernels.cuda import rnn_graph, rnn_persistent

    device = cupy.cuda.runtime.getDevice()
    refusals = tuple(rnn_persistent._refusals.get(device, ()))
    wanted = os.environ.get(rnn_persistent.VARIABLE) or None
    found = lines(rnn_persistent.card(device), wanted, refusals)
    reason = rnn_graph.why_not(device)
    found["k3"] = f"steps one by one: {reason}" if reason else "steps in a CUDA graph"
    return found


def lines(
    card: Card, wanted: str | None = None, refusals: tuple[Refusal, ...] = ()
) -> dict[str, str]:
    """The same for any card; nothing is launched."""
    found = {}
    for cell in _CELLS:
        for H in (128, 512, 1024, 2048):
            for B in (1, 64):
                work = _work(card, cell, H, B, np.float32)
                plan = choose(card, work, wanted, refusals)
                found[f"{cell} H {H} B {B}"] = f"{plan} ({'; '.join(plan.reasons)})"
    return found


def predictions(card: Card) -> list[str]:
    """A table in Markdown: kernel and microseconds a step, forward and backward."""
    batches = (1, 16, 64, 256)
    table = [f"| cell, dtype, H | {' | '.join(f'B {B}' for B in batches)} |", "|---" * 5 + "|"]
    for cell in _CELLS:
        for name, dtype in (("float32", np.float32), ("bfloat16", np.float16)):  # of one size
            for H in (64, 128, 256, 512, 768, 1024, 2048):
                cells = []
                for B in batches:
                    ahead, back = (
                        choose(card, _work(card, cell, H, B, dtype, backward))
                        for backward in (False, True)
                    )
                    cells.append(f"{_brief(ahead)}, {_brief(back)}")
                table.append(f"| {cell} {name} {H} | {' | '.join(cells)} |")
    return table


def _work(card: Card, cell: str, H: int, B: int, dtype: Any, backward: bool = False) -> Work:
    return rnn_variants.work(cell, True, H, B, np.dtype(dtype), backward, card.capability)


def _brief(plan: Plan) -> str:
    return f"{plan.kernel} {plan.step_us:.1f}"


if __name__ == "__main__":
    print("\n".join(predictions(CARDS[sys.argv[1]])))
