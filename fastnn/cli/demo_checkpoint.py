"""Keeps the best model of a training, in memory and on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.callbacks import Callback


class BestModel(Callback):
    """Keeps the model with the lowest validation loss so far; NaN is never the best.

    Saving goes to a temporary name first, so an interrupt leaves the model that was there before.

    Parameters
    ----------
    path
        Where the model goes; None keeps it in memory alone.

    Attributes
    ----------
    epoch : int
        How many are finished.
    best : int
        The epoch that was kept, from 1; 0 if there is none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.epoch = 0
        self.best = 0
        self._loss = math.inf
        self._weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Compare and save."""
        loss = (logs or {})["val_loss"]
        if loss < self._loss:
            self._weights = [weight.copy() for weight in self.model.get_weights()]
            if self.path is not None:
                self.model.save(self.path)
            self._loss, self.best = loss, epoch + 1
        self.epoch = epoch + 1

    def restore(self) -> None:
        """Give the model the weights that were kept."""
        if self.best:
            self.model.set_weights(self._weights)

    def left_behind(self) -> str:
        """What is on disk, in words."""
        if self.best and self.path is not None:
            return f"the model of epoch {self.best}, the best so far, is in {self.path}"
        return "no model was saved"
