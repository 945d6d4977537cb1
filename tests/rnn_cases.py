"""The recurrent cases as data: every cell under every option, and how to make their arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cells import CELLS
from fastnn.types import RnnWeights

CELL_OPTIONS: dict[str, dict[str, Any]] = {
    "tanh": {"cell": "simple_rnn", "activation": "tanh"},
    "relu": {"cell": "simple_rnn", "activation": "relu"},
    "lstm": {"cell": "lstm"},
    "gru_after": {"cell": "gru", "reset_after": True},
    "gru_before": {"cell": "gru", "reset_after": False},
}


class Case(NamedTuple):
    """Sizes and options of one call; ``lengths``, ``mask`` and ``resets`` name a pattern below."""

    T: int = 5
    B: int = 3
    I: int = 2
    H: int = 3
    initial: bool = True
    bias: bool = True
    recurrent_bias: bool = False
    reverse: bool = False
    lengths: str | None = None
    mask: str | None = None
    resets: str | None = None
    recurrent_dropout: float | None = None
    zoneout: Any = None


SMALL = {
    "plain": Case(),
    "no_initial": Case(initial=False),
    "T1": Case(T=1),
    "B1": Case(B=1),
    "I1": Case(I=1),
    "H1": Case(H=1),
    "all1": Case(T=1, B=1, I=1, H=1),
    "no_bias": Case(bias=False),
    "recurrent_bias": Case(recurrent_bias=True),
    "recurrent_bias_only": Case(bias=False, recurrent_bias=True),
    "reverse": Case(reverse=True),
    "lengths": Case(lengths="uneven"),
    "lengths_zero": Case(lengths="zeros"),
    "lengths_all_zero": Case(lengths="all_zero"),
    "reverse_lengths": Case(reverse=True, lengths="zeros"),
    "mask": Case(mask="random"),
    "mask_row": Case(mask="row"),
    "mask_none": Case(mask="none"),
    "reverse_mask": Case(reverse=True, mask="random"),
    "resets": Case(resets="random"),
    "resets_no_initial": Case(resets="random", initial=False),
    "resets_all": Case(resets="all"),
    "reverse_resets": Case(reverse=True, resets="random"),
    "dropout": Case(recurrent_dropout=0.4),
    "zoneout": Case(zoneout=0.4),
    "dropout_zoneout": Case(recurrent_dropout=0.25, zoneout=0.5, recurrent_bias=True),
    "lengths_mask_resets": Case(T=6, B=4, lengths="zeros", mask="random", resets="random"),
    "everything": Case(
        T=6,
        B=5,
        recurrent_bias=True,
        lengths="zeros",
        mask="random",
        resets="random",
        recurrent_dropout=0.25,
        zoneout=0.3,
    ),
    "everything_reverse": Case(
        T=6,
        B=5,
        recurrent_bias=True,
        reverse=True,
        lengths="zeros",
        mask="row",
        resets="random",
        recurrent_dropout=0.25,
        zoneout=0.3,
    ),
}

LARGE = {
    "primes": Case(T=7, B=13, I=11, H=97),
    "primes_options": Case(
        T=11,
        B=17,
        I=19,
        H=31,
        recurrent_bias=True,
        lengths="zeros",
        mask="random",
        resets="random",
        recurrent_dropout=0.2,
        zoneout=0.1,
    ),
    "primes_reverse": Case(T=11, B=37, I=5, H=23, reverse=True, lengths="uneven", resets="random"),
    "vectors": Case(T=9, B=64, I=32, H=64),
    "one_row": Case(T=31, B=1, I=29, H=67),
    "many_rows": Case(T=3, B=211, I=3, H=5, lengths="uneven"),
    "I1_H97": Case(T=5, B=6, I=1, H=97, zoneout=0.2),
    "H1_I97": Case(T=5, B=6, I=97, H=1),
}

# The accuracy that issue and contract promise: T <= 32, K <= 1024.
DEEP = {
    "H1024": Case(T=32, B=2, I=8, H=1024, recurrent_bias=True),
    "I1024": Case(T=32, B=3, I=1024, H=33, reverse=True),
}


class Problem(NamedTuple):
    """The arrays and options of a call: ``rnn_forward(x, weights, initial, **options)``."""

    x: np.ndarray
    weights: RnnWeights
    initial: Any
    options: dict[str, Any]


def make(case: Case, cell: str, dtype: Any = np.float64, seed: int = 1) -> Problem:
    """Random arrays for a case; the same numbers, rounded, in every dtype."""
    rng = np.random.default_rng(seed)
    T, B, I, H = case[:4]
    options = dict(CELL_OPTIONS[cell])
    kind = CELLS[options["cell"]]
    columns = kind.gates * H

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(dtype)

    x = normal(T, B, I)
    weights = RnnWeights(
        normal(I, columns, scale=0.7 * I**-0.5),
        normal(H, columns, scale=0.7 * H**-0.5),
        normal(columns, scale=0.3) if case.bias else None,
        normal(columns, scale=0.3) if case.recurrent_bias else None,
    )
    initial: Any = None
    if case.initial:
        parts = tuple(normal(B, H, scale=0.5) for _ in kind.states)
        initial = parts if len(parts) > 1 else parts[0]
    options["reverse"] = case.reverse
    if case.lengths:
        options["lengths"] = _lengths(case.lengths, T, B, rng)
    if case.mask:
        options["mask"] = _flags(case.mask, T, B, rng)
    if case.resets:
        options["resets"] = _flags(case.resets, T, B, rng)
    if case.recurrent_dropout is not None:
        options["recurrent_dropout"] = case.recurrent_dropout
    if case.zoneout is not None:
        options["zoneout"] = case.zoneout
    if case.recurrent_dropout is not None or case.zoneout is not None:
        options["seed"] = 2**40 + 17
    return Problem(x, weights, initial, options)


def _lengths(pattern: str, T: int, B: int, rng: np.random.Generator) -> np.ndarray:
    lengths = rng.integers(1, T + 1, B)
    if pattern == "zeros":
        lengths[::3] = 0
        lengths[-1] = T
    if pattern == "all_zero":
        lengths[:] = 0
    return lengths


def _flags(pattern: str, T: int, B: int, rng: np.random.Generator) -> np.ndarray:
    flags = rng.random((T, B)) < 0.5
    if pattern == "row":
        flags[:, 0] = False
    if pattern in ("none", "all"):
        flags[:] = pattern == "all"
    return flags
