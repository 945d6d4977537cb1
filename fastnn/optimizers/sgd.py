"""Gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.optimizers.base import Array, Optimizer
from fastnn.types import SgdStep


class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's correction.

    ``v = momentum * v - rate * g``; ``w += v`` or, with nesterov, ``w += momentum * v - rate * g``.

    Parameters
    ----------
    learning_rate : float or callable
    momentum : float
        In [0, 1).
    nesterov : bool
    **clips
        See `Optimizer`.
    """

    config_fields = (*Optimizer.config_fields, "momentum", "nesterov")
    slot_names = ("momentum",)

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **clips: Any,
    ) -> None:
        super().__init__(learning_rate, **clips)
        self.momentum = self._check("momentum", momentum, 0.0, 1.0)
        self.nesterov = bool(nesterov)

    def used_slots(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return self.slot_names if self.momentum else ()

    def fused_step(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], rate: float
    ) -> SgdStep:
        """The step as a record."""
        velocity = slots[0] if slots else None
        return SgdStep(weight, gradient, velocity, rate, self.momentum, self.nesterov)

    def update(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        """One step of the formula above."""
        np.multiply(gradient, rate, out=scratch)
        if not slots:
            np.subtract(weight, scratch, out=weight)
            return
        (velocity,) = slots
        np.multiply(velocity, self.momentum, out=velocity)
        np.subtract(velocity, scratch, out=velocity)
        if self.nesterov:
            np.subtract(weight, scratch, out=weight)
            np.multiply(velocity, self.momentum, out=scratch)
            np.add(weight, scratch, out=weight)
        else:
            np.add(weight, velocity, out=weight)
