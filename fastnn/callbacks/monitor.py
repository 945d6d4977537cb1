"""Watching one number of the logs."""

from __future__ import annotations

import math

from fastnn import shapes
from fastnn.callbacks.base import Callback, Logs


class Monitor(Callback):
    """Watches one number of the logs."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        owner = type(self).__name__
        shapes.check_choice(owner, "mode", mode, ("auto", "min", "max"))
        self.monitor = monitor
        larger = any(part in monitor for part in ("acc", "top_k", "auc"))
        self.mode = ("max" if larger else "min") if mode == "auto" else mode
        self.min_delta = abs(shapes.finite_number(owner, "min_delta", min_delta))

    def monitored(self, logs: Logs | None) -> float:
        """The number.

        Raises
        ------
        ValueError
            If the logs have none of that name.
        """
        logs = logs or {}
        if self.monitor not in logs:
            raise ValueError(
                f"[{type(self).__name__}] monitor={self.monitor!r}; one of {', '.join(logs)} is "
                "needed (val_ names need validation data)"
            )
        return float(logs[self.monitor])

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether ``value`` is better by more than ``min_delta``; NaN never is."""
        if reference is None:
            return not math.isnan(value)
        gain = reference - value if self.mode == "min" else value - reference
        return gain > self.min_delta
