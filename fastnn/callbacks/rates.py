"""Learning rates that change while a model trains."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fastnn import shapes
from fastnn.callbacks.base import Callback, Logs
from fastnn.callbacks.monitor import Monitor


def _log_rate(model: Any, logs: Any) -> None:
    """The rate among the logs, from where it comes into the history, as in Keras."""
    if isinstance(logs, dict):
        logs["learning_rate"] = model.optimizer.current_rate()


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, rate) -> rate``, or ``schedule(epoch) -> rate``; epochs from 0.
    verbose : int
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(
                f"[LearningRateScheduler] schedule={schedule!r}; a function of the epoch (and the "
                "rate) is needed"
            )
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        optimizer = self.model.optimizer
        rate = optimizer.current_rate()
        rate = self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch)
        optimizer.learning_rate = shapes.finite_number("LearningRateScheduler", "the rate", rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is {optimizer.learning_rate:g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Tell the rate."""
        _log_rate(self.model, logs)


class ReduceLROnPlateau(Monitor):
    """Lowers the learning rate when a number no longer improves.

    Parameters
    ----------
    monitor : str
    factor : float
        The new rate is the old one times this; in 0 .. 1.
    patience : int
        Epochs without improvement after which the rate is lowered.
    verbose : int
    mode : {"auto", "min", "max"}
        Auto: the larger the better for accuracies, else the smaller.
    min_delta : float
        Smaller changes are no improvement.
    cooldown : int
        Epochs after a change in which none is waited for.
    min_lr : float
        The rate does not go below.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        owner = type(self).__name__
        self.factor = shapes.finite_number(owner, "factor", factor)
        if not 0.0 < self.factor < 1.0:
            raise ValueError(f"[{owner}] factor={factor!r}; a number between 0 and 1 is needed")
        self.patience = shapes.integer(owner, "patience", patience, 0)
        self.verbose = verbose
        self.cooldown = shapes.integer(owner, "cooldown", cooldown, 0)
        self.min_lr = shapes.finite_number(owner, "min_lr", min_lr)
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, and lower."""
        _log_rate(self.model, logs)
        value = self.monitored(logs)
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(value, self.best):
            self.best = value
            self.wait = 0
        elif not self.cooldown_counter:
            self.wait += 1
            if self.wait >= self.patience and self._lower(epoch):
                self.cooldown_counter = self.cooldown
                self.wait = 0

    def _lower(self, epoch: int) -> bool:
        optimizer = self.model.optimizer
        if callable(optimizer.learning_rate):
            raise TypeError(
                "[ReduceLROnPlateau] the optimizer's learning_rate is a function; a number is "
                "needed"
            )
        if optimizer.learning_rate <= self.min_lr:
            return False
        optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is {optimizer.learning_rate:g}")
        return True


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a function of C, which does not tell
        return True
    return True
