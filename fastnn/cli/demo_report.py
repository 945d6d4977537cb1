"""What the demo tells and leaves behind: a line and a saved model each epoch, the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.callbacks import Callback
from fastnn.cli.demo_recipe import Split, probabilities


class Report(Callback):
    """Saves the model after each epoch whose loss is finite, and keeps the history.

    Saving goes to a temporary name first, so an interrupt leaves the model of the epoch before.

    Parameters
    ----------
    epochs
        How many there will be.
    path
        Where the model goes; None saves nothing.
    """

    def __init__(self, epochs: int, path: Path | None) -> None:
        super().__init__()
        self.epochs = epochs
        self.path = path
        self.epoch = 0  # finished
        self.saved = 0  # the epoch whose model the file has
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record, and save."""
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(float(value))
        if self.path is not None and math.isfinite(self.history["loss"][-1]):
            self.model.save(self.path)
            self.saved = epoch + 1
        self.epoch = epoch + 1

    def left_behind(self) -> str:
        """What an interrupt leaves, in words."""
        if self.saved:
            return f"the model of epoch {self.saved} is in {self.path}"
        return "no model was saved"


def draw(
    path: Path,
    title: str,
    subtitle: str,
    history: Mapping[str, Sequence[float]],
    part: Split,
    logits: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """The picture of the run."""
    from fastnn.plotting import training_figure

    training_figure(
        path,
        history,
        part.x_test,
        part.y_test,
        probabilities(logits),
        title=title,
        subtitle=subtitle,
        class_names=class_names,
    )
