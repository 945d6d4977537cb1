"""Optimizers with Keras 3's names, defaults and formulas, in place and without allocation."""

from __future__ import annotations

from typing import Any

from fastnn.optimizers.adam import Adam
from fastnn.optimizers.base import Optimizer
from fastnn.optimizers.rmsprop import RMSprop
from fastnn.optimizers.sgd import SGD
from fastnn.registry import Table

__all__ = ["SGD", "Adam", "Optimizer", "RMSprop", "get"]

TABLE = Table("optimizer", (Adam, RMSprop, SGD), {"rmsprop": "RMSprop", "sgd": "SGD"})


def get(identifier: Any, custom_objects: Any = None) -> Any:
    """An optimizer from a name, a configuration, a class, or an `Optimizer`."""
    optimizer = TABLE.get(identifier, custom_objects)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"[optimizer] {identifier!r}; a name or an Optimizer is needed")
    return optimizer
