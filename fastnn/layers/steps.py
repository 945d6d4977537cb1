"""Layers whose work stops at one operation, so that those of two layers can run at once.

A generator yields the operation's arguments, is sent its result, and returns what the layer makes
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

Steps = Generator[Any, Any, Any]


def alone(steps: Steps, operation: Callable[[Any], Any]) -> Any:
    """Run the operation of one, and give what it returns."""
    return _end(steps, operation(next(steps)))


def both(first: Steps, second: Steps, pair: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """Run the operations of two together, and give what each returns."""
    one, other = pair(next(first), next(second))
    return _end(first, one), _end(second, other)


def _end(steps: Steps, result: Any) -> Any:
    try:
        steps.send(result)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a layer asked for a second operation")
