"""``python -m fastnn bench gpu``: fastnn on a GPU against PyTorch with cuDNN, row by row.

Each row is verified first: a few steps against the float64 reference on the CPU; whole, against
PyTorch. Then the sides take turns. A step is timed by events on the device, after a warm-up; a time
is the median of many. Inputs are made on the device and lie there several times over, together
larger than the L2 cache, and the steps go round them; PyTorch reads the same memory. What memory
bounds is compared with the copy bandwidth, measured here too.

A run can end at any time and be continued: rows that are in the file are not measured again.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import fastnn
from fastnn import dispatch
from fastnn.bench import gpu_compile, gpu_jobs, gpu_torch, gpu_verify
from fastnn.bench.gpu_results import Results
from fastnn.bench.gpu_rows import MemoryRow, OptionRow, RecurrentRow, Row
from fastnn.bench.gpu_timing import copy_bandwidth as copy_bandwidth
from fastnn.bench.gpu_timing import environment, release, set_tf32, timed
from fastnn.bench.gpu_timing import unavailable as unavailable

_ROUND, _WARM_UP = 5, 3
_LONG = 0.05  # seconds of a step that needs no more warming up
_MOST_STEPS = 200
_MOST_COPIES = 16
_AHEAD = 96  # rows whose kernels are compiled at a time


def measure(row: Row, seconds: float, result: dict[str, Any], known: dict[str, float]) -> None:
    """Verify and time a row into ``result``; ``known``: errors of the small rows seen before."""
    result |= {"kind": type(row).__name__, "precision": row.precision}
    release()  # also what a row that failed left behind
    set_tf32(row.precision == "tf32")
    try:
        with dispatch.use_backend("cupy"):
            small = gpu_verify.small(row)
            if small.name not in known:
                known[small.name] = gpu_verify.against_reference(small)
            result |= {"verified": small.name, "error_to_reference": known[small.name]}
            _measure(row, seconds, result)
    finally:
        set_tf32(False)
        release()


def _measure(row: Row, seconds: float, result: dict[str, Any]) -> None:
    import cupy

    normal = gpu_jobs.device_normal(gpu_jobs.dtype_of(row.precision))
    copies = [gpu_jobs.inputs(row, normal)]
    size = sum(a.nbytes for a in copies[0].values())
    l2 = int(cupy.cuda.Device().attributes.get("L2CacheSize", 0))
    count = max(1, min(_MOST_COPIES, -(-2 * l2 // max(size, 1))))
    copies += [gpu_jobs.inputs(row, normal) for _ in range(count - 1)]
    jobs = {"fastnn": gpu_jobs.job(row, copies)}
    if isinstance(row, OptionRow):
        jobs["plain"] = gpu_jobs.job(row.plain, copies)
    if gpu_torch.available():
        jobs |= gpu_torch.jobs(row, copies)
        gpu_verify.against_peers(row, jobs, result)
    times = _take_turns(jobs, count, seconds)
    result["steps"] = len(times["fastnn"])
    result["ms"] = {name: statistics.median(found) * 1e3 for name, found in times.items()}
    result["copies"] = count
    ours = result["ms"]["fastnn"]
    if isinstance(row, OptionRow):
        result["cost"] = ours / result["ms"]["plain"]
        return
    peers = [ms for name, ms in result["ms"].items() if name != "fastnn"]
    if peers:
        result["ratio"] = min(peers) / ours
    if isinstance(row, MemoryRow):
        result["bytes_per_second"] = gpu_jobs.moved_bytes(row) / (ours / 1e3)
    _numba(row, copies, result)


def _take_turns(
    jobs: dict[str, gpu_jobs.Job], count: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of the steps of each; in turns, so that a clock that changes changes for all."""
    one_of_each = 0.0
    for job in jobs.values():
        timed(job, count, 1)
        [step] = timed(job, count, 1)
        one_of_each += step
        if step < _LONG:
            timed(job, count, _WARM_UP)
    each = max(1, min(_ROUND, int(seconds / max(one_of_each, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in jobs}
    end = time.perf_counter() + seconds
    while True:
        for name, job in jobs.items():
            times[name] += timed(job, count, each)
        if time.perf_counter() >= end or len(times["fastnn"]) >= _MOST_STEPS:
            return times


def _numba(row: Row, copies: list[dict[str, Any]], result: dict[str, Any]) -> None:
    """The backend numba on pooling, im2col and some recurrent rows, where it is available."""
    recurrent = isinstance(row, RecurrentRow) and row.H <= 256 and row.T <= 256
    window = isinstance(row, MemoryRow) and row.pool
    if row.precision != "float32" or not (recurrent or window):
        return
    if dispatch.status()["numba"] is not None:
        return
    ours = gpu_jobs.job(row, copies)(0)
    with dispatch.use_backend("numba"):
        there = {key: fastnn.asarray(a) for key, a in copies[0].items()}  # the same memory
        job = gpu_jobs.job(row, [there])
        gpu_verify.against_ours(row, "numba", job(0), ours, result)
        result["ms"] |= _medians("numba", job)
    if isinstance(row, RecurrentRow):
        # Forward alone, on both sides: the loop has no backward pass.
        with dispatch.use_backend("numba"):
            result["ms"] |= _medians("numba_forward", gpu_jobs.forward(row, [there]))
        result["ms"] |= _medians("cupy_loop_forward", gpu_jobs.cupy_loop(row, copies))


def _medians(name: str, job: gpu_jobs.Job) -> dict[str, float]:
    timed(job, 1, _WARM_UP)
    return {name: statistics.median(timed(job, 1, _ROUND)) * 1e3}


# --------------------------------------------------------------------------- the report


def run(
    rows: list[Row],
    path: Path,
    seconds: float,
    limit: float | None = None,
    workers: int = 1,
) -> int:
    """Measure the rows that are not in the file yet and print a line for each; 1 if a row failed.

    Raises
    ------
    ValueError
        If the file is there and cannot be continued.
    """
    from fastnn.kernels.cuda import rnn_persistent

    facts = environment() | {"seconds": seconds}
    for key, value in facts.items():
        print(f"{key:<20} {value}")
    results = Results(path, "gpu", facts, limit)
    known = {r["verified"]: r["error_to_reference"] for r in results.rows if "verified" in r}
    left = results.missing(rows)
    if len(left) < len(rows):
        print(f"{len(rows) - len(left)} of {len(rows)} rows are in {path}")
    import cupy

    card = rnn_persistent.card(cupy.cuda.runtime.getDevice())
    wanted = os.environ.get(rnn_persistent.VARIABLE) or None
    for i, row in enumerate(left):
        if not results.in_time():
            print(f"{len(left) - i} rows not run: the limit of {limit:.0f} s is reached")
            break
        if workers and i % _AHEAD == 0:
            found = [v for r in left[i : i + _AHEAD] for v in gpu_compile.variants(r, card, wanted)]
            print(gpu_compile.ahead(found, workers), flush=True)
        with results.row(row.name) as result:
            measure(row, seconds, result, known)
        print(_line(result, facts["copy_bandwidth"]), flush=True)
    print(_summary(results.rows))
    print(f"numbers  {path}")
    asked = {row.name for row in rows}
    return int(any("error" in row for row in results.rows if row["name"] in asked))


def _line(row: dict[str, Any], bandwidth: float) -> str:
    if "error" in row:
        return f"{row['name']:<36} {row['error']}"
    times = "  ".join(f"{name} {ms:.4g} ms" for name, ms in row["ms"].items())
    words = [f"{row['name']:<36} {times}"]
    for name in ("ratio", "cost"):
        if name in row:
            words.append(f"{name} {row[name]:.2f}")
    if "bytes_per_second" in row:
        words.append(f"{row['bytes_per_second'] / bandwidth:.0%} of copy")
    return "  ".join(words)


def _summary(rows: list[dict[str, Any]]) -> str:
    """The geometric mean of the ratios, and the smallest, by kind and precision; costs: largest."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        for what in ("ratio", "cost"):
            if what in row:
                group = row["name"].partition("-")[0] if what == "cost" else row["kind"]
                groups.setdefault((what, group, row["precision"]), []).append(row[what])
    lines = []
    for (what, group, precision), found in sorted(groups.items()):
        worst = f"largest {max(found):.2f}" if what == "cost" else f"smallest {min(found):.2f}"
        mean = statistics.geometric_mean(found)
        lines.append(
            f"{what} {group:<18} {precision:<9} geometric mean {mean:.2f}, {worst}, "
            f"{len(found)} rows"
        )
    if not any(what == "ratio" for what, _, _ in groups):
        lines.append("no peer to compare with: PyTorch sees no GPU here")
    return "\n".join(lines)
