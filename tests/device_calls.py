"""Runs the tests of the operations, which are written with NumPy arrays, on a device's backend.

Inside `moved_calls` the operations of `fastnn.ops` take NumPy arrays to the device, with their
strides, and bring results back; a saved record goes to the device again when it is handed to a
backward call. Calls that get no NumPy array are left alone, and so are those on another backend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn import dispatch, ops


class Device(NamedTuple):
    """How arrays go to a backend's device and back."""

    name: str  # of the backend
    kind: type  # of its arrays
    upload: Callable[[np.ndarray], Any]  # strides are kept
    download: Callable[[Any], np.ndarray]


def strided_upload(
    a: np.ndarray, flat: Callable[[np.ndarray], Any], strided: Callable[..., Any]
) -> Any:
    """``a`` on the device in its own memory layout, negative and zero strides included.

    ``flat`` uploads a contiguous vector; ``strided(vector, first, shape, strides)`` views it.
    """
    if a.size == 0 or a.flags.c_contiguous or not a.flags.aligned:
        return strided(flat(np.ascontiguousarray(a).reshape(-1)), 0, a.shape, None)
    reach = [(n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    if low % a.itemsize or any(s % a.itemsize for s in a.strides):
        return strided(flat(np.ascontiguousarray(a).reshape(-1)), 0, a.shape, None)
    count = (high - low) // a.itemsize + 1
    first = a
    for axis, r in enumerate(reach):
        if r < 0:
            first = np.flip(first, axis)
    memory = np.lib.stride_tricks.as_strided(first, (count,), (a.itemsize,))
    return strided(flat(memory.copy()), -low // a.itemsize, a.shape, a.strides)


def _convert(value: Any, kind: type, change: Callable[[Any], Any], seen: dict[int, Any]) -> Any:
    """``value`` with every array of a kind changed, in tuples and records too."""
    if type(value) is kind:  # a masked array is not for the operations: they say so
        if id(value) not in seen:
            seen[id(value)] = (value, change(value))
        return seen[id(value)][1]
    if isinstance(value, tuple):
        parts = [_convert(part, kind, change, seen) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, list):
        return [_convert(part, kind, change, seen) for part in value]
    if isinstance(value, dict):
        return {key: _convert(part, kind, change, seen) for key, part in value.items()}
    return value


def _holds(value: Any, kind: type) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return any(_holds(part, kind) for part in value)
    return isinstance(value, kind)


def _record_backend(value: Any) -> str | None:
    """The backend that a saved record among the arguments names."""
    if not isinstance(value, tuple):
        return None
    own = getattr(value, "backend", None)
    return own or next((n for part in value if (n := _record_backend(part))), None)


def _moved(operation: Callable[..., Any], device: Device) -> Callable[..., Any]:
    makes_arrays = operation is ops.random_uniform
    is_loss = operation is ops.loss_forward  # its value may stay on the device

    def call(*args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        backend = _record_backend(values) or dispatch.get_backend()
        if backend != device.name or not (makes_arrays or _holds(values, np.ndarray)):
            return operation(*args, **kwargs)
        seen: dict[int, Any] = {}
        args = _convert(args, np.ndarray, device.upload, seen)
        kwargs = {k: _convert(v, np.ndarray, device.upload, seen) for k, v in kwargs.items()}
        back = {id(there): (there, here) for here, there in seen.values()}
        result = _convert(operation(*args, **kwargs), device.kind, device.download, back)
        return (float(result[0]), *result[1:]) if is_loss else result

    return call


@contextmanager
def moved_calls(device: Device) -> Iterator[None]:
    """The operations take NumPy arrays to ``device`` inside the block, for every caller."""
    calls = {getattr(ops, name): _moved(getattr(ops, name), device) for name in ops.__all__[2:]}
    changed = []
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if module is not fastnn and not name.startswith(("fastnn.ops", "test_", "rnn_", "helpers")):
            continue
        for key, value in list(vars(module).items()):
            if callable(value) and value.__hash__ is not None and value in calls:
                changed.append((module, key, value))
                setattr(module, key, calls[value])
    try:
        yield
    finally:
        for module, key, value in changed:
            setattr(module, key, value)
