"""Every row of `fastnn.bench.rows`, each backend beside the others: verified, then timed.

A row's reference is fastnn's own numpy backend in float64.
"""

from __future__ import annotations

import time
from functools import lru_cache

import pytest

from fastnn import dispatch
from fastnn.bench import compare, inputs, ours, rows
from fastnn.bench.jobs import Unsupported

TURN = 0.12  # seconds of timing for one participant on one row

CASES = [
    (row, mode) for _, row in rows.select("all") for mode in row.modes if row not in rows.EPOCH
]


@lru_cache(maxsize=1)  # the cases of a row follow each other
def reference(row: rows.Row, mode: str) -> inputs.Arrays:
    wide = row._replace(dtype="float64")
    arrays = inputs.make(row)
    exact = {k: a.astype("float64") if a.dtype.kind == "f" else a for k, a in arrays.items()}
    with dispatch.use_backend("numpy"):
        job = next(iter(ours.jobs(wide, exact).values()))
        return job[mode].checked()


@pytest.mark.parametrize(("row", "mode"), CASES, ids=[f"{row.name}-{mode}" for row, mode in CASES])
def test_row(row, mode, participant, benchmark):
    benchmark.group = f"{row.name} {mode}"
    arrays = inputs.make(row)
    try:
        jobs = participant.jobs(row, arrays)
    except Unsupported as reason:
        pytest.skip(str(reason))
    job = next(iter(jobs.values()))
    if mode not in job:
        pytest.skip(f"no {mode}")
    gap, where = compare.difference(job[mode].checked(), reference(row, mode))
    assert gap <= compare.tolerance(row), where

    start = time.perf_counter()
    job[mode].call()
    about = time.perf_counter() - start
    rounds = max(1, min(200, int(TURN / about)))
    steps = int(arrays["lengths"].sum()) if "lengths" in arrays else None
    work = rows.flops(row, mode, steps) or rows.traffic(row, mode)
    benchmark.pedantic(job[mode].call, rounds=rounds, iterations=1)
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["rate"] = work / benchmark.stats.stats.median
