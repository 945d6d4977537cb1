"""What the machine can do at most: a participant beside the others, timed in the same rounds.

For matrix products the ceiling is the fastest of fastnn's and NumPy's product of square matrices
that fit the cache; for pooling it is copying as many bytes as pooling has to move, which meets the
same caches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.bench import ours
from fastnn.bench.inputs import Arrays
from fastnn.bench.jobs import Jobs, Work
from fastnn.bench.rows import PoolRow, Row, traffic

SIZES = (256, 512, 1024)
NUMPY_MARGIN = 1.05

prepare = ours.prepare


def jobs(row: Row, arrays: Arrays) -> Jobs:
    """Products (or a copy) in the row's dtype; a variant's name ends in its size."""
    if isinstance(row, PoolRow):
        return {
            f"copy {size}": {mode: _work(_copy(size, row.dtype))}
            for mode in row.modes
            if (size := int(traffic(row, mode) or 0) // 2)
        }
    found = {}
    for size in SIZES:
        rng = np.random.default_rng(size)
        a, b = (rng.standard_normal((size, size)).astype(row.dtype) for _ in range(2))
        ours_call = partial(ops.dense_forward, a, b)
        for name, call in (("fastnn", ours_call), ("NumPy", partial(np.matmul, a, b))):
            found[f"{name} product {size}"] = {mode: _work(call) for mode in row.modes}
    return found


def amount(variant: str) -> float:
    """Floating-point operations, or bytes read and written, of one call of a variant."""
    kind, _, size = variant.rpartition(" ")
    return 2.0 * int(size) if kind == "copy" else 2.0 * int(size) ** 3


def cost(variant: str, seconds: float) -> float:
    """What to choose the ceiling by: seconds for an operation.

    NumPy's product has to be clearly faster: its threads wait for each other on a busy machine, and
    one lucky trial should not make it the ceiling.
    """
    return seconds / amount(variant) * (NUMPY_MARGIN if variant.startswith("NumPy") else 1.0)


def _work(call: Callable[[], Any]) -> Work:
    return Work(call, lambda result: {})


def _copy(size: int, dtype: str) -> Callable[[], Any]:
    source = np.ones(size // np.dtype(dtype).itemsize, dtype)
    return partial(np.copyto, np.empty_like(source), source)
