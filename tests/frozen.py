"""Frozen values from outside oracles: small cases, packed into one npz without pickle.

A case is a name, a JSON description of what was computed, and named arrays. All arrays of one
element type lie one after the other in a single vector, because an npz member costs 300 bytes and
a file of frozen values has a thousand of them; a float array is stored in the smallest type that
holds its values exactly (inputs lie on a coarse grid for that reason). Needs NumPy alone, so it
runs in the oracle's environment too.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FLOATS = ("float16", "float32")


class Case(NamedTuple):
    """One frozen computation: ``spec`` says what, ``arrays`` holds its inputs and results."""

    name: str
    spec: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def series(self, prefix: str) -> list[np.ndarray]:
        """The arrays ``prefix0``, ``prefix1``, ... in order."""
        count = sum(key.startswith(prefix) and key[len(prefix) :].isdigit() for key in self.arrays)
        return [self.arrays[f"{prefix}{i}"] for i in range(count)]


def numbered(prefix: str, arrays: Iterable[Any]) -> dict[str, np.ndarray]:
    """The inverse of :meth:`Case.series`."""
    return {f"{prefix}{i}": np.asarray(a) for i, a in enumerate(arrays)}


def grid(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Normal numbers rounded to 1/64: exact in float16, so every dtype starts from the same."""
    return np.round(np.clip(rng.standard_normal(shape) * scale, -8, 8) * 64) / 64


def _smallest(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        for name in FLOATS:
            with np.errstate(over="ignore"):
                small = array.astype(name)
            if np.array_equal(small.astype(array.dtype), array):
                return small
    return array


def save(path: Path, cases: Iterable[Case], about: dict[str, str]) -> None:
    """Write the cases; ``about`` names the versions they came from."""
    vectors: dict[str, list[np.ndarray]] = {}
    length: dict[str, int] = {}
    index = []
    for case in cases:
        where = {}
        for key, value in case.arrays.items():
            stored = _smallest(np.asarray(value))
            kind = stored.dtype.name
            start = length.get(kind, 0)
            where[key] = [kind, start, list(stored.shape), np.asarray(value).dtype.name]
            vectors.setdefault(kind, []).append(stored.ravel())
            length[kind] = start + stored.size
        index.append([case.name, case.spec, where])
    text = json.dumps({"about": about, "cases": index}, separators=(",", ":"))
    members = {kind: np.concatenate(parts) for kind, parts in vectors.items()}
    members["index"] = np.frombuffer(text.encode(), np.uint8)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
    with os.fdopen(handle, "wb") as file:
        np.savez_compressed(file, **members)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def load(path: Path) -> list[Case]:
    """The cases of a file that :func:`save` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        members = {name: archive[name] for name in archive.files}
    index = json.loads(members["index"].tobytes().decode())
    return [
        Case(name, spec, {key: _restore(members, *at) for key, at in where.items()})
        for name, spec, where in index["cases"]
    ]


def _restore(
    members: dict[str, np.ndarray], kind: str, start: int, shape: list[int], dtype: str
) -> np.ndarray:
    size = int(np.prod(shape))
    return members[kind][start : start + size].reshape(shape).astype(dtype)
