"""The logs of every epoch, and their picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fastnn.callbacks.base import Callback, Logs


class History(Callback):
    """Keeps the logs of every epoch; `Sequential.fit` gives it back.

    Attributes
    ----------
    history : dict of str to list of float
    epoch : list of int
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        names: Sequence[str] | None = None,
        title: str = "",
    ) -> Any:
        """Draw every number of the logs over the epochs, validation beside training.

        Parameters
        ----------
        path : str or path, optional
            A PNG file, written under a temporary name and moved into place.
        names : sequence of str, optional
            Which numbers, without ``val_``; default: all.
        title : str

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is not installed: ``pip install 'fastnn[plot]'``.
        ValueError
            If there is no epoch yet, or no number of a name.
        """
        from fastnn import plotting

        return plotting.history_figure(self.history, path, names, title, epochs=self.epoch)
