"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.optimizers.base import Array, Optimizer
from fastnn.optimizers.running import running_mean
from fastnn.types import RmspropStep


class RMSprop(Optimizer):
    """Division by a running root mean square (Tieleman and Hinton 2012).

    ``v = rho v + (1 - rho) g^2``; with ``centered`` also ``a = rho a + (1 - rho) g``, and v - a^2
    takes v's place; ``w -= rate g / sqrt(v + epsilon)``, through a momentum if there is one.

    Parameters
    ----------
    learning_rate : float or callable
    rho, momentum, epsilon : float
    centered : bool
    **clips
        See `Optimizer`.
    """

    config_fields = (*Optimizer.config_fields, "rho", "momentum", "epsilon", "centered")
    slot_names = ("velocity", "momentum", "average_gradient")

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **clips: Any,
    ) -> None:
        super().__init__(learning_rate, **clips)
        self.rho = self._check("rho", rho, 0.0, 1.0)
        self.momentum = self._check("momentum", momentum, 0.0, 1.0)
        self.epsilon = self._check("epsilon", epsilon, 0.0)
        self.centered = bool(centered)

    def used_slots(self) -> tuple[str, ...]:
        """Those that the options need."""
        wanted = (True, bool(self.momentum), self.centered)
        return tuple(n for n, use in zip(self.slot_names, wanted, strict=True) if use)

    def fused_step(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], rate: float
    ) -> RmspropStep:
        """The step as a record."""
        momentum = slots[1] if self.momentum else None
        average = slots[-1] if self.centered else None
        arrays = weight, gradient, slots[0], momentum, average
        return RmspropStep(*arrays, 1.0 - self.rho, rate, self.momentum, self.epsilon)

    def update(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        """One step of the formula above."""
        velocity, rho = slots[0], self.rho
        np.square(gradient, out=scratch)
        running_mean(velocity, scratch, 1.0 - rho, scratch)
        if self.centered:
            average = slots[-1]
            running_mean(average, gradient, 1.0 - rho, scratch)
            np.square(average, out=scratch)
            np.subtract(velocity, scratch, out=scratch)
            np.add(scratch, self.epsilon, out=scratch)
        else:
            np.add(velocity, self.epsilon, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.divide(gradient, scratch, out=scratch)
        np.multiply(scratch, rate, out=scratch)
        if self.momentum:
            momentum = slots[1]
            np.multiply(momentum, self.momentum, out=momentum)
            np.add(momentum, scratch, out=momentum)
            scratch = momentum
        np.subtract(weight, scratch, out=weight)
