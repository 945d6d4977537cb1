"""Are a GPU row's results right? Against float64 on the host, and against the peer on the device.

The first is over a few steps, with the row's own batch and size: so the kernel that is verified is
the one that is timed. The second is over the whole row and stays on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn
from fastnn import dispatch
from fastnn.arrays import to_numpy
from fastnn.bench import gpu_jobs, gpu_torch
from fastnn.bench.gpu_rows import ConvRow, MemoryRow, OptionRow, RecurrentRow, Row

# Of the largest magnitude, against float64 and against PyTorch at the same precision.
TOLERANCE = {"float32": 5e-5, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 8e-2}
_STEPS = (
    4,
    2,
)  # of a recurrent row, and of one with more operations than the host does in a moment
_MOMENT = 2e10
_CHUNK = 1 << 26  # elements compared at a time


def small(row: Row) -> Row:
    """What of a row the host computes too; equal rows of this kind need it once."""
    if isinstance(row, OptionRow):
        return row._replace(plain=_few_steps(row.plain))
    if isinstance(row, RecurrentRow):
        return _few_steps(row)
    if isinstance(row, ConvRow):
        return row._replace(shape=row.shape._replace(B=1))
    b, *image = row.shape
    if row.operation == "im2col":
        c, h, w = image
        return row._replace(shape=(min(b, 2), c, min(h, 9), min(w, 9)))
    h, w, c = image
    return row._replace(shape=(min(b, 2), min(h, 9), min(w, 9), c))


def _few_steps(row: RecurrentRow) -> RecurrentRow:
    operations = 12 * row.B * row.H * row.H * gpu_jobs.GATES[row.cell] * _STEPS[0]
    return row._replace(T=min(row.T, _STEPS[operations > _MOMENT]))


def against_reference(row: Row) -> float:
    """The error of a `small` row against the numpy backend in float64, on the same rounded numbers.

    Raises
    ------
    ArithmeticError
        If it is too large.
    """
    dtype = gpu_jobs.dtype_of(row.precision)
    device = gpu_jobs.inputs(row, gpu_jobs.device_normal(dtype))
    found = [to_numpy(a) for a in gpu_jobs.job(row, [device])(0)]
    with dispatch.use_backend("numpy"):
        wide = {key: to_numpy(a).astype(np.float64) for key, a in device.items()}
        expected = gpu_jobs.job(row, [wide])(0)
    error = max(_on_host(a, b) for a, b in zip(found, expected, strict=True))
    if not error <= TOLERANCE[row.precision]:
        raise ArithmeticError(f"differs from the reference by {error:.2g}")
    return error


def _on_host(actual: np.ndarray, expected: np.ndarray) -> float:
    actual, expected = actual.astype(np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        raise ArithmeticError(f"shapes {actual.shape} and {expected.shape}")
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


def against_peers(row: Row, jobs: dict[str, gpu_jobs.Job], result: dict[str, Any]) -> None:
    """The whole row's differences from PyTorch; noise is each library's own.

    Raises
    ------
    ArithmeticError
        If one is too large.
    """
    if isinstance(row, MemoryRow) and row.operation == "dropout":
        return
    ours = jobs["fastnn"](0)
    for name, job in jobs.items():
        if name.startswith("torch"):
            theirs = [gpu_torch.array(t) for t in job(0)]
            _note(row, name, theirs, ours, result)


def against_ours(
    row: Row, name: str, theirs: tuple[Any, ...], ours: tuple[Any, ...], result: dict[str, Any]
) -> None:
    """The whole row's difference between another backend on the device and cupy."""
    with dispatch.use_backend("cupy"):
        _note(row, name, [fastnn.asarray(a) for a in theirs], ours, result)


def _note(
    row: Row, name: str, theirs: list[Any], ours: tuple[Any, ...], result: dict[str, Any]
) -> None:
    pairs = zip(theirs, ours, strict=False)
    error = max(difference(a.reshape(b.shape), b) for a, b in pairs)
    result.setdefault("difference", {})[name] = error
    # Long recurrences multiply the difference of two roundings; y and dx stay comparable.
    if not error <= 20 * TOLERANCE[row.precision]:
        raise ArithmeticError(f"differs from {name} by {error:.2g}")


def difference(a: Any, b: Any) -> float:
    """``max |a - b| / max |b|`` of arrays on the device, some rows at a time; NaN gives NaN."""
    import cupy

    wide = cupy.float64 if b.dtype == np.float64 else cupy.float32
    each = max(1, _CHUNK * len(b) // max(b.size, 1))
    apart, largest = [], []
    for start in range(0, len(b), each):
        one, other = (v[start : start + each].astype(wide, copy=False) for v in (a, b))
        apart.append(cupy.abs(one - other).max())
        largest.append(cupy.abs(other).max())
    most = float(cupy.stack(largest).max())
    return float(cupy.stack(apart).max()) / max(most, 1e-30) if most == most else most
