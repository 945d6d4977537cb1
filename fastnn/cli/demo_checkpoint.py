"""What the demo leaves behind when it is interrupted: the last good model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastnn.callbacks import Callback


class Checkpoint(Callback):
    """Saves the model after each epoch whose loss is finite.

    Saving goes to a temporary name first, so an interrupt leaves the model of the epoch before.

    Parameters
    ----------
    path
        Where the model goes; None saves nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.epoch = 0  # finished
        self.saved = 0  # the epoch whose model the file has

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save."""
        if self.path is not None and logs and math.isfinite(logs["loss"]):
            self.model.save(self.path)
            self.saved = epoch + 1
        self.epoch = epoch + 1

    def left_behind(self) -> str:
        """What is there, in words."""
        if self.saved:
            return f"the model of epoch {self.saved} is in {self.path}"
        return "no model was saved"
