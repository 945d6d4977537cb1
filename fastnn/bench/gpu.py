"""``python -m fastnn bench gpu``: fastnn on a GPU against PyTorch with cuDNN, row by row.

Each row is verified first: small, against the float64 reference on the CPU; whole, against PyTorch.
Then the sides take turns. A step is timed by events on the device, after a warm-up; a time is the
median of many. Inputs lie there several times over, together larger than the L2 cache, and the
steps go round them. What memory bounds is compared with the copy bandwidth, measured here too.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import dispatch
from fastnn.arrays import to_numpy
from fastnn.bench import gpu_jobs, gpu_torch
from fastnn.bench.gpu_rows import ConvRow, MemoryRow, RecurrentRow, Row
from fastnn.files import write_whole

# Of the largest magnitude, against float64 and against PyTorch at the same precision.
TOLERANCE = {"float32": 5e-5, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 8e-2}
_ROUND, _WARM_UP = 5, 3
_MOST_STEPS = 200
_MOST_COPIES = 16
_COPY_BYTES = 1 << 29


def unavailable() -> str | None:
    """Why nothing can be measured here, or None."""
    return dispatch.status()["cupy"]


def environment() -> dict[str, Any]:
    """Card, driver, versions."""
    import cupy

    found = dispatch.load("bench", "cupy").describe()
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fastnn": fastnn.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cupy": cupy.__version__,
        **{key: value for key, value in found.items() if key != "cupy"},
        "tf32": "off, but for the rows named tf32",
        "numba": dispatch.status()["numba"] or "available",
        "copy_bandwidth": copy_bandwidth(),
    }
    return facts | (gpu_torch.versions() if gpu_torch.available() else {"torch": None})


def copy_bandwidth() -> float:
    """Bytes a second that a copy on the device reads and writes; the best of many."""
    import cupy

    size = min(_COPY_BYTES, cupy.cuda.Device().mem_info[0] // 8)
    source = cupy.zeros(size, np.uint8)
    target = cupy.empty_like(source)
    times = _timed(lambda k: target.__setitem__(slice(None), source), 1, 20)
    return 2 * size / min(times)


def measure(row: Row, seconds: float) -> dict[str, Any]:
    """Verify and time a row; what went wrong is told in ``error``."""
    result: dict[str, Any] = {
        "name": row.name,
        "kind": type(row).__name__,
        "precision": row.precision,
    }
    with_torch = gpu_torch.available()
    _set_tf32(row.precision == "tf32", with_torch)
    try:
        with dispatch.use_backend("cupy"):
            _verify_small(row, result)
            _measure(row, seconds, with_torch, result)
    except Exception as error:  # one row must not end the others
        result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        _set_tf32(False, with_torch)
    return result


def _measure(row: Row, seconds: float, with_torch: bool, result: dict[str, Any]) -> None:
    import cupy

    dtype = gpu_jobs.dtype_of(row.precision)
    host = gpu_jobs.inputs(row)
    size = sum(a.size for a in host.values()) * dtype.itemsize
    l2 = int(cupy.cuda.Device().attributes.get("L2CacheSize", 0))
    count = max(1, min(_MOST_COPIES, -(-2 * l2 // max(size, 1))))
    copies = [
        {key: fastnn.asarray(a.astype(dtype)) for key, a in host.items()} for _ in range(count)
    ]
    jobs: dict[str, gpu_jobs.Job] = {"fastnn": gpu_jobs.job(row, copies)}
    if with_torch:
        jobs |= gpu_torch.jobs(row, [host] * count)
        _compare(row, jobs, result)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        _timed(job, count, _WARM_UP)
    end = time.perf_counter() + seconds
    while True:  # in turns, so that a clock that changes changes for all
        for name, job in jobs.items():
            times[name] += _timed(job, count, _ROUND)
        if time.perf_counter() >= end or len(times["fastnn"]) >= _MOST_STEPS:
            break
    result["steps"] = len(times["fastnn"])
    result["ms"] = {name: statistics.median(found) * 1e3 for name, found in times.items()}
    result["copies"] = count
    peers = [ms for name, ms in result["ms"].items() if name != "fastnn"]
    if peers:
        result["ratio"] = min(peers) / result["ms"]["fastnn"]
    if isinstance(row, MemoryRow):
        result["bytes_per_second"] = gpu_jobs.moved_bytes(row) / (result["ms"]["fastnn"] / 1e3)
    _numba(row, seconds, result)


def _timed(job: Callable[[int], Any], count: int, steps: int) -> list[float]:
    """Seconds of each step, by events on the current stream."""
    from cupy import cuda

    events = [cuda.Event() for _ in range(steps + 1)]
    events[0].record()
    for k in range(steps):
        job(k % count)
        events[k + 1].record()
    events[-1].synchronize()
    return [cuda.get_elapsed_time(a, b) / 1e3 for a, b in pairwise(events)]


# --------------------------------------------------------------------------- verification


def _small(row: Row) -> Row:
    if isinstance(row, RecurrentRow):
        return row._replace(T=min(row.T, 4), B=min(row.B, 4))
    if isinstance(row, ConvRow):
        return row._replace(shape=row.shape._replace(B=1))
    b, h, w, c = row.shape
    return row._replace(shape=(min(b, 2), min(h, 9), min(w, 9), c))


def _verify_small(row: Row, result: dict[str, Any]) -> None:
    """fastnn against the float64 reference, on the same rounded numbers."""
    row = _small(row)
    dtype = gpu_jobs.dtype_of(row.precision)
    host = {key: a.astype(dtype) for key, a in gpu_jobs.inputs(row).items()}
    found = gpu_jobs.job(row, [{key: fastnn.asarray(a) for key, a in host.items()}])(0)
    with dispatch.use_backend("numpy"):
        wide = {key: a.astype(np.float64) for key, a in host.items()}
        expected = gpu_jobs.job(row, [wide])(0)
    errors = [_difference(to_numpy(a), b) for a, b in zip(found, expected, strict=True)]
    result["error_to_reference"] = max(errors)
    if not max(errors) <= TOLERANCE[row.precision]:
        raise ArithmeticError(f"differs from the reference by {max(errors):.2g}")


def _compare(row: Row, jobs: dict[str, gpu_jobs.Job], result: dict[str, Any]) -> None:
    """The whole row against PyTorch; noise is each library's own."""
    if isinstance(row, MemoryRow) and row.operation == "dropout":
        return
    ours = [to_numpy(a).astype(np.float64) for a in jobs["fastnn"](0)]
    for name, job in jobs.items():
        if name == "fastnn":
            continue
        theirs = [gpu_torch.to_numpy(a) for a in job(0)]
        error = max(_difference(b, a) for a, b in zip(ours, theirs, strict=False))
        result.setdefault("difference", {})[name] = error
        # Long recurrences multiply the difference of two roundings; y and dx stay comparable.
        if not error <= 20 * TOLERANCE[row.precision]:
            raise ArithmeticError(f"differs from {name} by {error:.2g}")


def _difference(actual: np.ndarray, expected: np.ndarray) -> float:
    actual, expected = actual.astype(np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        raise ArithmeticError(f"shapes {actual.shape} and {expected.shape}")
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


# --------------------------------------------------------------------------- Numba's rows


def _numba(row: Row, seconds: float, result: dict[str, Any]) -> None:
    """The backend numba on pooling and on some recurrent rows, where it is available."""
    recurrent = isinstance(row, RecurrentRow) and row.H <= 256 and row.T <= 256
    pooling = isinstance(row, MemoryRow) and row.pool
    if dispatch.status()["numba"] is not None or row.precision != "float32":
        return
    if not (recurrent or pooling):
        return
    import cupy

    host = gpu_jobs.inputs(row)
    with dispatch.use_backend("numba"):
        job = gpu_jobs.job(row, [{key: fastnn.asarray(a) for key, a in host.items()}])
        _timed(job, 1, _WARM_UP)
        result["ms"]["numba"] = statistics.median(_timed(job, 1, _ROUND)) * 1e3
    if isinstance(row, RecurrentRow):
        loop = gpu_jobs.cupy_loop(row, [{key: cupy.asarray(a) for key, a in host.items()}])
        _timed(loop, 1, _WARM_UP)
        result["ms"]["cupy_loop_forward"] = statistics.median(_timed(loop, 1, _ROUND)) * 1e3


def _set_tf32(on: bool, with_torch: bool) -> None:
    import cupy

    core = getattr(cupy, "_core", None)
    if core is not None:
        kind = core.COMPUTE_TYPE_TF32 if on else core.COMPUTE_TYPE_DEFAULT
        core.set_compute_type(np.float32, kind)
    if with_torch:
        gpu_torch.set_tf32(on)


# --------------------------------------------------------------------------- the report


def run(rows: list[Row], path: Path, seconds: float, limit: float | None = None) -> int:
    """Measure, print a line a row, and write the file anew after each; 1 if a row failed."""
    document: dict[str, Any] = {"environment": environment(), "seconds": seconds, "rows": []}
    for key, value in document["environment"].items():
        print(f"{key:<20} {value}")
    end = None if limit is None else time.monotonic() + limit
    for i, row in enumerate(rows):
        if end is not None and time.monotonic() > end:
            document["not_run"] = [left.name for left in rows[i:]]
            print(f"{len(rows) - i} rows not run: the limit of {limit:.0f} s is reached")
            break
        document["rows"].append(measure(row, seconds))
        print(_line(document["rows"][-1], document["environment"]["copy_bandwidth"]), flush=True)
        write_whole(path, (json.dumps(document, indent=1) + "\n").encode())
    print(_summary(document["rows"]))
    print(f"numbers  {path}")
    return int(any("error" in row for row in document["rows"]))


def _line(row: dict[str, Any], bandwidth: float) -> str:
    if "error" in row:
        return f"{row['name']:<36} {row['error']}"
    times = "  ".join(f"{name} {ms:.4g} ms" for name, ms in row["ms"].items())
    words = [f"{row['name']:<36} {times}"]
    if "ratio" in row:
        words.append(f"ratio {row['ratio']:.2f}")
    if "bytes_per_second" in row:
        words.append(f"{row['bytes_per_second'] / bandwidth:.0%} of copy")
    return "  ".join(words)


def _summary(rows: list[dict[str, Any]]) -> str:
    """The geometric mean of the ratios, and the smallest, by kind and precision."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if "ratio" in row:
            groups.setdefault((row["kind"], row["precision"]), []).append(row["ratio"])
    lines = [
        f"{kind:<14} {precision:<9} geometric mean {statistics.geometric_mean(found):.2f}, "
        f"smallest {min(found):.2f}, {len(found)} rows"
        for (kind, precision), found in sorted(groups.items())
    ]
    return "\n".join(lines) if lines else "no peer to compare with: PyTorch sees no GPU here"
