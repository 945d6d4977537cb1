"""What tests of the operations share: comparison, gradient checks, memory layouts, definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fastnn import dispatch

# Relative to the largest magnitude of the reference.
TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}
GRADIENT_TOLERANCE = 1e-7

format_of = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])

Backward = Callable[[Any], Sequence[Any]]


def relative_error(actual: Any, expected: Any) -> float:
    """Largest difference, relative to the largest magnitude of ``expected``."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if actual.size == 0:
        return 0.0
    scale = np.abs(expected).max()
    return float(np.abs(actual - expected).max() / (scale if scale > 0 else 1.0))


def assert_close(actual: Any, expected: Any, dtype: Any, factor: float = 1.0) -> None:
    """``actual`` is of ``dtype`` and within its tolerance of ``expected``."""
    actual = np.asarray(actual)
    assert actual.dtype == dtype, (actual.dtype, dtype)
    error = relative_error(actual, expected)
    assert error <= factor * TOLERANCE[np.dtype(dtype)], error


def assert_close_to_reference(run: Callable[..., Any], arrays: Sequence[Any], factor: float = 1.0):
    """``run(*arrays)`` on the chosen backend agrees with the float64 reference on the same values.

    ``run`` returns an array or a sequence of arrays (None is passed over).
    """
    dtype = next(a.dtype for a in arrays if a is not None and a.dtype.kind == "f")
    actual = run(*arrays)
    wide = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]
    with dispatch.use_backend("numpy"):
        expected = run(*wide)
    if isinstance(actual, np.ndarray):
        actual, expected = [actual], [expected]
    for one, other in zip(actual, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other, dtype, factor)


def check_gradients(
    run: Callable[..., tuple[Any, Backward]],
    arrays: Sequence[Any],
    *,
    full: bool,
    step: float = 1e-5,
    tolerance: float = GRADIENT_TOLERANCE,
) -> None:
    """Compare the gradients of an operation with central differences, in float64.

    ``run(*arrays)`` gives the output and a function of dy that gives the gradients, one for each
    array. ``full`` moves each element alone, otherwise all of an array in one random direction.
    """
    rng = np.random.default_rng(7)
    y, backward = run(*arrays)
    dy = rng.standard_normal(np.shape(y))
    grads = backward(dy)
    assert len(grads) == len(arrays)

    def value(i: int, moved: Any) -> float:
        changed = [moved if i == j else a for j, a in enumerate(arrays)]
        return float((run(*changed)[0] * dy).sum())

    for i, (array, grad) in enumerate(zip(arrays, grads, strict=True)):
        assert grad.shape == array.shape and grad.dtype == array.dtype
        if full:
            numeric = np.empty(array.shape)
            for at in np.ndindex(array.shape):
                ends = []
                for sign in (1, -1):
                    moved = array.copy()
                    moved[at] += sign * step
                    ends.append(value(i, moved))
                numeric[at] = (ends[0] - ends[1]) / (2 * step)
            assert relative_error(grad, numeric) <= tolerance, f"array {i}"
        else:
            direction = rng.standard_normal(array.shape)
            direction /= np.linalg.norm(direction)
            slope = value(i, array + step * direction) - value(i, array - step * direction)
            error = abs(slope / (2 * step) - float((grad * direction).sum()))
            assert error <= tolerance * np.linalg.norm(grad), f"array {i}"


@contextmanager
def unchanged(*arrays: Any) -> Iterator[None]:
    """No bit of the arrays changes inside the block."""
    before = [a.tobytes() for a in arrays]
    yield
    for i, (array, content) in enumerate(zip(arrays, before, strict=True)):
        assert array.tobytes() == content, f"array {i} was changed"


def _strided(a: np.ndarray) -> np.ndarray:
    spread = np.full(tuple(2 * n + 1 for n in a.shape), np.nan).astype(a.dtype)
    view = spread[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def _read_only(a: np.ndarray) -> np.ndarray:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def _reversed(a: np.ndarray) -> np.ndarray:
    flip = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[flip])[flip]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "strided": _strided,
    "reversed": _reversed,
    "read_only": _read_only,
}


def same_on_every_layout(run: Callable[..., Sequence[Any]], arrays: Sequence[np.ndarray]) -> None:
    """``run`` gives the same for every memory layout of its arrays, and leaves them alone."""
    expected = run(*arrays)
    for name, layout in LAYOUTS.items():
        moved = [layout(a) for a in arrays]
        with unchanged(*moved):
            actual = run(*moved)
        for one, other in zip(actual, expected, strict=True):
            error = relative_error(one, other)
            assert error <= TOLERANCE[np.dtype(other.dtype)], name


def to_format(x: np.ndarray, data_format: str) -> np.ndarray:
    """Images ``[B, h, w, C]`` in a data format, in C order."""
    return x if data_format == "channels_last" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def softmax(row: list[float]) -> list[float]:
    """Of Python floats, by definition."""
    e = [math.exp(v - max(row)) for v in row]
    return [v / math.fsum(e) for v in e]


def sigmoid(v: float) -> float:
    """Of a Python float; small values keep their digits."""
    return 1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v))
