"""What a callback is: hooks that `fit` calls; the list that calls those of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Logs = Mapping[str, float]


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
        """After an epoch and its validation; ``logs`` has loss, metrics and their ``val_``.

        What a callback adds to ``logs`` (a dict) the later ones and `History` see.
        """

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
        return [
            c for c in self.callbacks if hook in vars(c) or getattr(type(c), hook) is not default
        ]

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


_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class LambdaCallback(Callback):
    """Functions of yours as hooks.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        ``function(epoch, logs)``.
    on_train_begin, on_train_end : callable, optional
        ``function(logs)``.
    on_train_batch_begin, on_train_batch_end : callable, optional
        ``function(batch, logs)``.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
    ) -> None:
        given = locals()
        for hook in _HOOKS:
            function = given[hook]
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"[LambdaCallback] {hook}={function!r}; a function is needed")
            setattr(self, hook, function)
