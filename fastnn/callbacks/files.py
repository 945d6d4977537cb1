"""What is left on the disk: models, and lines of logs."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from fastnn import shapes
from fastnn.callbacks.base import Callback, Logs
from fastnn.callbacks.monitor import Monitor


class ModelCheckpoint(Monitor):
    """Saves the model after an epoch, or only after the best so far.

    Parameters
    ----------
    filepath : str or path
        May name ``{epoch}`` (from 1) and entries of the logs, as in ``"{epoch:02d}-{loss:.2f}"``.
    monitor : str
        Looked at only with ``save_best_only``.
    verbose : int
    save_best_only : bool
    save_weights_only : bool
    mode : {"auto", "min", "max"}
    save_freq : "epoch" or int
        An integer: after every so many batches, in place of epochs.
    initial_value_threshold : float, optional
        What the first saved model must beat, with ``save_best_only``.

    Notes
    -----
    The folder is made where there is none.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if save_freq != "epoch":
            save_freq = shapes.integer(type(self).__name__, "save_freq", save_freq, 1)
        self.save_freq = save_freq
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.best = initial_value_threshold
        self._epoch = self._batches = 0
        if save_freq != "epoch":  # else no batch need be told of
            self.on_train_batch_end = self._count  # type: ignore[method-assign]

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remember the number."""
        self._epoch = epoch

    def _count(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._batches % int(self.save_freq) == 0:
            self._save({**(logs or {}), "batch": batch + 1})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save."""
        if self.save_freq == "epoch":
            self._epoch = epoch
            self._save(dict(logs or {}))

    def _save(self, logs: dict[str, float]) -> None:
        logs["epoch"] = self._epoch + 1
        try:
            path = self.filepath.format(**logs)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"[ModelCheckpoint] filepath={self.filepath!r} ({error!r}); a name with any of "
                f"{', '.join(logs)} in braces is needed"
            ) from None
        if self.save_best_only:
            value = self.monitored(logs)
            if not self.improves(value, self.best):
                return
            self.best = value
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            print(f"Epoch {self._epoch + 1}: saved {path}")


class CSVLogger(Callback):
    """Writes the logs of every epoch as a line of a CSV file, at once.

    The columns are ``epoch`` (from 0), then the logs in alphabetical order; without validation
    those with ``val_`` are there too, as NA, so that trainings can be appended to one another.

    Parameters
    ----------
    filename : str or path
    separator : str
    append : bool
        Go on in a file that is there; default: a new one.
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        self.filename = Path(filename)
        self.separator = separator
        self.append = bool(append)
        self.keys: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin the file."""
        self.keys = None
        if not self.append:
            self.filename.write_text("")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the line."""
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                self.keys += [f"val_{key}" for key in self.keys]
        # Opened for each line: an exception in training leaves no file open.
        with open(self.filename, "a", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if file.tell() == 0:
                writer.writerow(["epoch", *self.keys])
            writer.writerow([epoch, *(logs.get(key, "NA") for key in self.keys)])
