"""Callbacks: what happens beside the training, with Keras 3's hooks, names and arguments."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastnn import shapes

Logs = Mapping[str, float]

__all__ = [
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
]


class Callback:
    """Base class: override the hooks you need.

    Attributes
    ----------
    model : Sequential
        Set ``model.stop_training = True`` to end after this epoch.
    params : dict
        ``epochs``, ``steps`` (batches an epoch) and ``verbose``.
    """

    model: Any = None
    params: Mapping[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called first, by fit."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Called second, by fit."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch; not called if training ends by an exception."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation; ``logs`` has loss, metrics and their ``val_``."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch, counted from 0."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch; ``logs`` has the means of this epoch so far."""


class CallbackList:
    """Several callbacks as one.

    Parameters
    ----------
    callbacks : iterable of Callback
    model : Sequential
    params : mapping
    """

    def __init__(
        self, callbacks: Iterable[Callback], model: Any, params: Mapping[str, Any]
    ) -> None:
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"[fit] callback {callback!r}; a fastnn.callbacks.Callback is needed"
                )
            callback.set_model(model)
            callback.set_params(params)
        # A batch takes a fraction of a millisecond: hooks that do nothing are not called.
        self._begin = self._overriding("on_train_batch_begin")
        self._end = self._overriding("on_train_batch_end")

    def _overriding(self, hook: str) -> list[Callback]:
        default = getattr(Callback, hook)
        return [c for c in self.callbacks if getattr(type(c), hook) is not default]

    @property
    def wants_batches(self) -> bool:
        """Whether any callback looks at single batches."""
        return bool(self._begin or self._end)

    def batch_begin(self, batch: int) -> None:
        """Call on_train_batch_begin."""
        for callback in self._begin:
            callback.on_train_batch_begin(batch, {})

    def batch_end(self, batch: int, logs: Logs) -> None:
        """Call on_train_batch_end."""
        for callback in self._end:
            callback.on_train_batch_end(batch, logs)

    def call(self, hook: str, *arguments: Any) -> None:
        """Call a hook of all."""
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)


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


class ProgressBar(Callback):
    """Tells how training goes: a bar an epoch (tqdm, if it is installed), or one line.

    Parameters
    ----------
    verbose : {1, 2}
        2: lines, no bar.
    """

    _REFRESH = 0.1  # seconds

    def __init__(self, verbose: int = 1) -> None:
        self.verbose = verbose
        self._bar: Any = None
        self._start = self._shown = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Open the bar."""
        self._start = time.perf_counter()
        tqdm = _tqdm() if self.verbose == 1 else None
        if tqdm is not None:
            self._bar = tqdm(
                total=self.params["steps"],
                desc=self._title(epoch),
                unit="batch",
                file=sys.stdout,
                dynamic_ncols=True,
            )

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._shown > self._REFRESH:
            self._shown = now
            self._bar.set_postfix_str(_words(logs or {}), refresh=False)
        self._bar.update(1)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Close the bar, or print the line."""
        words = _words(logs or {})
        if self._bar is not None:
            self._bar.set_postfix_str(words)
            self.close()
        else:
            seconds = time.perf_counter() - self._start
            print(f"{self._title(epoch)} - {seconds:.1f} s - {words}", flush=True)

    def close(self) -> None:
        """Leave the terminal in order, also after an exception."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _title(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.params['epochs']}"


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError:  # the [progress] extra; lines do without it
        return None
    return tqdm


def _words(logs: Logs) -> str:
    return " - ".join(f"{name}: {value:.4f}" for name, value in logs.items())


class _Monitor(Callback):
    """Watches one number of the logs."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        owner = type(self).__name__
        shapes.check_choice(owner, "mode", mode, ("auto", "min", "max"))
        self.monitor = monitor
        larger = any(part in monitor for part in ("acc", "top_k", "auc"))
        self.mode = ("max" if larger else "min") if mode == "auto" else mode
        self.min_delta = abs(min_delta)

    def monitored(self, logs: Logs | None) -> float:
        """The number."""
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


class EarlyStopping(_Monitor):
    """Stops when a number no longer improves.

    Parameters
    ----------
    monitor : str
    min_delta : float
        Smaller changes are no improvement.
    patience : int
        Epochs without improvement after which training stops.
    verbose : int
    mode : {"auto", "min", "max"}
        Auto: the larger the better for accuracies, else the smaller.
    baseline : float, optional
        What an improvement must beat to count for the patience.
    restore_best_weights : bool
        End with the weights of the best epoch.
    start_from_epoch : int
        Epochs before this one are not looked at.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = shapes.integer(type(self).__name__, "patience", patience, 0)
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, and stop."""
        if epoch < self.start_from_epoch:
            return
        value = self.monitored(logs)
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.improves(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improves(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Go back to the best weights."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of epoch {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
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
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.best: float | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save."""
        if self.save_best_only:
            value = self.monitored(logs)
            if not self.improves(value, self.best):
                return
            self.best = value
        path = self.filepath.format(**{**(logs or {}), "epoch": epoch + 1})
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved {path}")


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, rate) -> rate``.
    """

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        optimizer = self.model.optimizer
        optimizer.learning_rate = float(self.schedule(epoch, optimizer.current_rate()))
