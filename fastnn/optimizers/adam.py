"""Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.optimizers.base import Array, Optimizer
from fastnn.optimizers.running import running_mean
from fastnn.types import AdamStep


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba 2015), in Keras's form of the bias correction.

    ``m += (g - m)(1 - beta_1)``, ``v += (g^2 - v)(1 - beta_2)``, ``w -= alpha m / (sqrt(v) +
    epsilon)`` with ``alpha = rate sqrt(1 - beta_2^t) / (1 - beta_1^t)``.

    Parameters
    ----------
    learning_rate : float or callable
    beta_1, beta_2, epsilon : float
    amsgrad : bool
        Divide by the largest v so far (Reddi et al. 2018).
    **clips
        See `Optimizer`.
    """

    config_fields = (*Optimizer.config_fields, "beta_1", "beta_2", "epsilon", "amsgrad")
    slot_names = ("momentum", "velocity", "velocity_hat")

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **clips: Any,
    ) -> None:
        super().__init__(learning_rate, **clips)
        self.beta_1 = self._check("beta_1", beta_1, 0.0, 1.0)
        self.beta_2 = self._check("beta_2", beta_2, 0.0, 1.0)
        self.epsilon = self._check("epsilon", epsilon, 0.0)
        self.amsgrad = bool(amsgrad)

    def used_slots(self) -> tuple[str, ...]:
        """m, v and, with amsgrad, the largest v."""
        return self.slot_names if self.amsgrad else self.slot_names[:2]

    def _factors(self, rate: float) -> tuple[float, float, float]:
        """alpha, 1 - beta_1 and 1 - beta_2 of the next step."""
        t = self.iterations + 1
        alpha = rate * (1.0 - self.beta_2**t) ** 0.5 / (1.0 - self.beta_1**t)
        return alpha, 1.0 - self.beta_1, 1.0 - self.beta_2

    def fused_step(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], rate: float
    ) -> AdamStep:
        """The step as a record."""
        alpha, share_m, share_v = self._factors(rate)
        largest = slots[2] if self.amsgrad else None
        arrays = weight, gradient, slots[0], slots[1], largest
        return AdamStep(*arrays, share_m, share_v, alpha, self.epsilon)

    def update(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        """One step of the formula above."""
        alpha, share_m, share_v = self._factors(rate)
        m, v = slots[:2]
        running_mean(m, gradient, share_m, scratch)
        np.square(gradient, out=scratch)
        running_mean(v, scratch, share_v, scratch)
        if self.amsgrad:
            np.maximum(slots[2], v, out=slots[2])
            v = slots[2]
        np.sqrt(v, out=scratch)
        np.add(scratch, self.epsilon, out=scratch)
        np.divide(m, scratch, out=scratch)
        np.multiply(scratch, alpha, out=scratch)
        np.subtract(weight, scratch, out=weight)
