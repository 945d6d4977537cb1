"""Whether two participants computed the same."""

from __future__ import annotations

import numpy as np

from fastnn.bench.inputs import Arrays
from fastnn.bench.rows import EpochRow, Row

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}  # relative to the largest magnitude

# Adam divides a gradient by its own size: where it is next to nothing, rounding decides the sign.
EPOCH_TOLERANCE = 1e-2


def tolerance(row: Row) -> float:
    """How far results of a row may lie apart."""
    return EPOCH_TOLERANCE if isinstance(row, EpochRow) else TOLERANCE[row.dtype]


def difference(found: Arrays, expected: Arrays) -> tuple[float, str]:
    """The largest relative difference, and in which array. NaN counts as infinite.

    Arrays that one side does not give are not compared, but one has to be there.
    """
    worst = (0.0, "")
    shared = [name for name in expected if name in found]
    if not shared:
        return (np.inf, "no result in common")
    for name in shared:
        a, b = np.asarray(found[name], np.float64), np.asarray(expected[name], np.float64)
        if a.shape != b.shape:
            return (np.inf, f"{name}: shapes {a.shape} and {b.shape}")
        scale = np.abs(b).max(initial=0.0)
        gap = float(np.abs(a - b).max(initial=0.0) / (scale if scale > 0 else 1.0))
        worst = max(worst, (gap if gap == gap else np.inf, name))
    return worst
