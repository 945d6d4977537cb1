"""Time on a GPU: events on the device, the copy bandwidth, what card and versions are there."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

import fastnn
from fastnn import dispatch
from fastnn.bench import gpu_torch

_COPY_BYTES = 1 << 29
_TF32 = "CUPY_TF32"  # which fastnn's own kernels look at as CuPy does


def unavailable() -> str | None:
    """Why nothing can be measured here, or None."""
    return dispatch.status()["cupy"]


def timed(job: Callable[[int], Any], count: int, steps: int) -> list[float]:
    """Seconds of each step, by events on the current stream; ``count`` copies take turns."""
    from cupy import cuda

    events = [cuda.Event() for _ in range(steps + 1)]
    events[0].record()
    for k in range(steps):
        job(k % count)
        events[k + 1].record()
    events[-1].synchronize()
    return [cuda.get_elapsed_time(a, b) / 1e3 for a, b in pairwise(events)]


def copy_bandwidth() -> float:
    """Bytes a second that a copy on the device reads and writes; the best of many."""
    import cupy

    size = min(_COPY_BYTES, cupy.cuda.Device().mem_info[0] // 8)
    source = cupy.zeros(size, np.uint8)
    target = cupy.empty_like(source)
    times = timed(lambda k: target.__setitem__(slice(None), source), 1, 20)
    return 2 * size / min(times)


def release() -> None:
    """Give the memory that CuPy and PyTorch keep for later back to the device."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    if gpu_torch.available():
        gpu_torch.release()


def set_tf32(on: bool) -> None:
    """Let products of float32 round to TF32, or not: CuPy's, fastnn's kernels', PyTorch's."""
    import cupy
    from cupy._core import _routines_linalg as linalg

    kind = linalg.COMPUTE_TYPE_TF32 if on else linalg.COMPUTE_TYPE_DEFAULT
    linalg.set_compute_type(cupy.float32, kind)
    os.environ[_TF32] = str(int(on))
    if gpu_torch.available():
        gpu_torch.set_tf32(on)


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
