"""What the machine can do at most: a participant beside the others, timed in the same rounds.

For matrix products the ceiling is the fastest of fastnn's and NumPy's product of square matrices
that fit the cache; for pooling it is the bandwidth of copying memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import ops
from fastnn.bench import ours
from fastnn.bench.inputs import Arrays
from fastnn.bench.jobs import Job, Jobs, Work
from fastnn.bench.rows import PoolRow, Row

SIZES = (256, 512, 1024)
COPY_BYTES = 32 << 20

prepare = ours.prepare


def jobs(row: Row, arrays: Arrays) -> Jobs:
    """Products (or a copy) in the row's dtype; a variant's name ends in its size."""
    if isinstance(row, PoolRow):
        return {f"copy {COPY_BYTES}": _job(row, _copy(row))}
    found = {}
    for size in SIZES:
        rng = np.random.default_rng(size)
        a, b = (rng.standard_normal((size, size)).astype(row.dtype) for _ in range(2))
        found[f"fastnn product {size}"] = _job(row, lambda a=a, b=b: ops.dense_forward(a, b)[0])
        found[f"NumPy product {size}"] = _job(row, lambda a=a, b=b: a @ b)
    return found


def amount(variant: str) -> float:
    """Floating-point operations, or bytes read and written, of one call of a variant."""
    kind, _, size = variant.rpartition(" ")
    return 2.0 * int(size) if kind == "copy" else 2.0 * int(size) ** 3


def _job(row: Row, call: Any) -> Job:
    return {mode: Work(call, lambda result: {}) for mode in row.modes}


def _copy(row: Row) -> Any:
    source = np.ones(COPY_BYTES // np.dtype(row.dtype).itemsize, row.dtype)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)
