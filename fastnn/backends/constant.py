"""What backends may keep of weights that the caller has promised not to change.

`fastnn.constant_weights` is the promise. While it holds, `kept` is a dict in which a backend puts
what it has made of weights (packed panels, say), for later calls with the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_kept: ContextVar[dict[Any, Any] | None] = ContextVar("fastnn_constant_weights", default=None)


def kept() -> dict[Any, Any] | None:
    """The dict of the innermost promise; None without one."""
    return _kept.get()


@contextmanager
def promise() -> Iterator[None]:
    """A block in which weights do not change; inside another one, the same block."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def broken() -> None:
    """Weights were changed all the same: what was made of them is forgotten."""
    found = _kept.get()
    if found:
        found.clear()
