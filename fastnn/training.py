"""compile, fit, evaluate, predict: how a model learns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import batches, dispatch, losses, ops, optimizers, prefetch, shapes
from fastnn.arrays import to_numpy
from fastnn.batches import Data
from fastnn.callbacks import Callback, CallbackList, History, ProgressBar
from fastnn.deferred import deferred
from fastnn.layers.activated import ActivatedLayer
from fastnn.layers.base import Layer
from fastnn.layers.core import InputLayer
from fastnn.metrics import Metric
from fastnn.metrics import get as get_metric
from fastnn.parameters import FlatParameters
from fastnn.registry import Config, serialize
from fastnn.seeding import draw_seed
from fastnn.truncated import Truncation

Array = Any


class Trainer(Layer):
    """The training half of a model; the other half says what its layers are."""

    layers: list[Layer]
    optimizer: optimizers.Optimizer | None = None
    loss: Any = None
    metrics: Sequence[Metric] = ()
    history: History | None = None
    stop_training = False
    _parameters: FlatParameters | None = None
    _mask: Any = None  # of the last output
    _loss_sum = 0.0
    _loss_count = 0

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, metrics: Any = None) -> None:
        """Choose how to learn.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss
            A cross-entropy after a last layer with softmax (or sigmoid, for the binary one) is
            computed from that layer's logits, which is exact where probabilities underflow.
        metrics : str or Metric, or iterable of them, optional
            "accuracy" becomes the binary, categorical or sparse one, by the shapes.
        """
        self.optimizer = optimizers.get(optimizer)
        self.loss = None if loss is None else losses.get(loss)
        self.metrics = [
            get_metric(m) for m in _listed("compile", "metrics", metrics, (str, Metric))
        ]
        names = [m.name for m in self.metrics]
        if len(set(names)) != len(names) or "loss" in names:
            raise ValueError(f"[{self.name}] metrics named {names}; different names are needed")

    # ------------------------------------------------------------------ the public calls

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callback | Iterable[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Sequence[Any] | None = None,
        shuffle: bool | np.random.Generator = True,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        tbptt_steps: int | None = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        x, y : array
            Samples first. Numeric features become the model's dtype (not scaled).
        batch_size : int, optional
            Default 32.
        epochs : int
            The epoch at which to stop; training goes over ``epochs - initial_epoch`` of them.
        verbose : {"auto", 0, 1, 2}
            0 silent, 1 a bar an epoch (a line, where tqdm is not installed), 2 a line an epoch.
        callbacks : Callback or iterable of them, optional
        validation_split : float
            This last part of the data, taken before shuffling, is kept for validation.
        validation_data : (x, y) or (x, y, sample_weight), optional
        shuffle : bool or numpy.random.Generator
            True draws a generator's seed from the global source (`fastnn.set_random_seed`).
        sample_weight : array [N], optional
            Weights of the samples in the loss; [N, T] for one a time step.
        initial_epoch : int
        validation_batch_size : int, optional
            Default: ``batch_size``.
        tbptt_steps : int, optional
            Truncated back-propagation through time: each batch is cut into windows of so many
            steps. States are handed on from one window to the next, gradients are not, and the
            weights change after each window (with one target a sequence: after the last one
            alone). From the number of steps on it is the same as without.

        Returns
        -------
        History
        """
        batch_size = _batch_size("fit", batch_size)
        epochs = shapes.integer("fit", "epochs", epochs, 0)
        initial_epoch = shapes.integer("fit", "initial_epoch", initial_epoch, 0)
        if not isinstance(shuffle, (bool, np.random.Generator)):
            raise TypeError(
                f"[fit] shuffle is {shapes.words(shuffle)}; a bool or a numpy.random.Generator is "
                "needed"
            )
        callbacks = _listed("fit", "callbacks", callbacks, Callback)
        self._require_compiled("fit")
        data = self._prepare("fit", x, y, sample_weight)
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ValueError(
                    f"[fit] validation_data is {shapes.words(validation_data)}; (x, y) or (x, y, "
                    "sample_weight) is needed"
                )
            validation = self._prepare("fit", *validation_data)
        elif validation_split:
            data, validation = batches.split("fit", data, validation_split)
        if not data.size:
            raise ValueError("[fit] x has no samples; at least one is needed")
        self._ready(data.x)
        truncation = None
        if tbptt_steps is not None:
            steps = shapes.integer("fit", "tbptt_steps", tbptt_steps, 1)
            truncation = Truncation(self, data, steps)

        source: Any = None
        if shuffle is not False:
            generator = np.random.default_rng(draw_seed()) if shuffle is True else shuffle
            source = batches.Shuffled(data, batch_size, generator)
        self.history = History()
        progress = [ProgressBar(2 if verbose == 2 else 1)] if verbose else []
        params = {"epochs": epochs, "steps": batches.steps(data, batch_size), "verbose": verbose}
        # History sees what the others add to the logs; the bar, last, stays below what they print.
        hooks = CallbackList([*callbacks, self.history, *progress], self, params)
        self.stop_training = False
        hooks.call("on_train_begin", {})
        logs: dict[str, float] = {}
        try:
            for epoch in range(initial_epoch, epochs):
                hooks.call("on_epoch_begin", epoch, {})
                epoch_source = source or batches.ordered(data, batch_size)
                if dispatch.on_device() and isinstance(data.x, np.ndarray):
                    epoch_source = prefetch.fetched(epoch_source)
                self._train_epoch(epoch_source, hooks, truncation)
                logs = self._logs()
                if validation is not None:
                    found = self._evaluate(validation, validation_batch_size or batch_size)
                    logs.update({f"val_{name}": value for name, value in found.items()})
                hooks.call("on_epoch_end", epoch, logs)
                if self.stop_training:
                    break
            hooks.call("on_train_end", logs)
        finally:
            for bar in progress:
                bar.close()
        return self.history

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics, without noise.

        Parameters
        ----------
        x, y : array
        batch_size : int, optional
            Default 32.
        verbose : int
            Other than 0: print them.
        sample_weight : array, optional
        return_dict : bool

        Returns
        -------
        float, list of float, or dict
            The loss; with metrics the list [loss, *metrics]; with ``return_dict`` by name.
        """
        self._require_compiled("evaluate")
        data = self._prepare("evaluate", x, y, sample_weight)
        self._ready(data.x)
        logs = self._evaluate(data, _batch_size("evaluate", batch_size))
        if verbose:
            print(" - ".join(f"{name}: {value:.4f}" for name, value in logs.items()))
        return logs if return_dict else _as_list(logs)

    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = 0) -> np.ndarray:
        """Outputs for many inputs, batch by batch, as a NumPy array.

        Parameters
        ----------
        x : array
        batch_size : int, optional
            Default 32.
        verbose : int
            Taken for Keras's sake; nothing is printed.
        """
        batch_size = _batch_size("predict", batch_size)
        data = self._prepare("predict", x)
        self._ready(data.x)
        result: np.ndarray | None = None
        start = 0
        with dispatch.constant_weights():
            for batch in batches.ordered(data, batch_size):
                y = to_numpy(self(batch.x))
                if result is None:
                    result = np.empty((data.size, *y.shape[1:]), y.dtype)
                result[start : start + len(y)] = y
                start += len(y)
        return to_numpy(self(data.x)) if result is None else result

    def train_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One step on one batch; gives what `evaluate` does, for this batch before the step."""
        self._require_compiled("train_on_batch")
        data = self._prepare("train_on_batch", x, y, sample_weight)
        self._ready(data.x)
        self._reset_logs()
        self._train_step(data)
        logs = self._logs()
        return logs if return_dict else _as_list(logs)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Outputs for one batch."""
        return to_numpy(self(x))

    # ------------------------------------------------------------------ steps

    def _train_epoch(
        self, source: Iterable[Data], hooks: CallbackList, truncation: Truncation | None
    ) -> None:
        self._reset_logs()
        with deferred() as later:  # on a device, no step waits for an answer
            for i, batch in enumerate(source):
                if hooks.wants_batches:
                    hooks.batch_begin(i)
                if truncation is None:
                    self._train_step(batch)
                else:
                    self._train_windows(batch, truncation)
                if hooks.wants_batches:
                    hooks.batch_end(i, self._logs())
                if self.stop_training:
                    break
            later.settle()

    def _train_windows(self, batch: Data, truncation: Truncation) -> None:
        with truncation.carried():
            for window, learn in truncation.windows(batch):
                if learn:
                    self._train_step(window, window.x.shape[1])
                else:
                    self(window.x, training=True)

    def _train_step(self, batch: Data, share: int = 1) -> None:
        """One step of the optimizer; ``share`` is the batch's weight in the epoch's mean loss."""
        loss, logits = self._loss_and_logits()
        y_pred = self._propagate(batch.x, True, logits)
        weight = self._sample_weight(batch, y_pred)
        value = loss(batch.y, y_pred, weight, training=True)
        self.need_dx = False
        try:
            self.backward(loss.backward())
        finally:
            self.need_dx = True
        optimizer, parameters = self.optimizer, self._parameters
        assert optimizer is not None and parameters is not None  # _ready saw to it
        optimizer.clip(parameters.gradient_views)
        optimizer.step(parameters.gradients, parameters.values)
        self._record(batch, value, y_pred, logits, share)

    def _evaluate(self, data: Data, batch_size: int) -> dict[str, float]:
        self._reset_logs()
        loss, logits = self._loss_and_logits()
        with deferred() as later, dispatch.constant_weights():
            for batch in batches.ordered(data, batch_size):
                y_pred = self._propagate(batch.x, False, logits)
                value = loss(batch.y, y_pred, self._sample_weight(batch, y_pred))
                self._record(batch, value, y_pred, logits)
            later.settle()
        return self._logs()

    def _propagate(self, x: Array, training: bool, logits: str | None) -> Array:
        return self(x, training) if logits is None else self(x, training, logits=True)

    def _loss_and_logits(self) -> tuple[Any, str | None]:
        """The loss to compute, and the activation left out for it (None: none is)."""
        last, loss = self.layers[-1], self.loss
        if (
            isinstance(last, ActivatedLayer)
            and loss.link is not None
            and last.activation == loss.link
            and not loss.from_logits
        ):
            return loss.with_logits(), loss.link
        return loss, None

    def _sample_weight(self, batch: Data, y_pred: Array) -> Array | None:
        """Sample weights times the mask of the output, in Keras's scaling."""
        mask, weight = self._mask, batch.weight
        if mask is None or mask.shape != y_pred.shape[:-1]:
            return weight
        kept = mask.astype(y_pred.dtype)
        # The loss divides by all steps; those that count are what it should divide by.
        kept *= kept.size / np.maximum(kept.sum(), 1)
        if weight is None:
            return kept
        return kept * weight.reshape(weight.shape + (1,) * (kept.ndim - weight.ndim))

    # ------------------------------------------------------------------ logs

    def _reset_logs(self) -> None:
        self._loss_sum, self._loss_count = 0.0, 0
        for metric in self.metrics:
            metric.reset_state()

    def _record(
        self, batch: Data, value: float, y_pred: Array, logits: str | None, share: int = 1
    ) -> None:
        size = batch.size * share
        self._loss_sum += value * size
        self._loss_count += size
        if self.metrics:
            if logits is not None:
                y_pred = ops.activation_forward(y_pred, logits)[0]
            mask = self._mask
            if mask is not None and mask.shape != y_pred.shape[:-1]:
                mask = None
            for metric in self.metrics:
                metric.update_state(batch.y, y_pred, mask)

    def _logs(self) -> dict[str, float]:
        self._loss_sum = float(self._loss_sum)  # waits for a device
        logs = {"loss": self._loss_sum / max(self._loss_count, 1)}
        for metric in self.metrics:
            logs[metric.name] = metric.result()
        return logs

    # ------------------------------------------------------------------ getting ready

    def _prepare(self, op: str, x: Any, y: Any = None, weight: Any = None) -> Data:
        if not self.layers:
            raise ValueError(
                f"[{op}] the model {self.name!r} has no layers; at least one is needed"
            )
        first = self._first()
        take: Any = dispatch.asarray
        if dispatch.on_device() and prefetch.stays_on_host((x, y), first._dtype):
            take = np.asarray
        return batches.prepare(op, x, y, weight, first._dtype, first.casts_input, take)

    def _first(self) -> Layer:
        """The layer that computes first: it says what features are cast to."""
        for layer in self.layers:
            if not isinstance(layer, InputLayer):
                return layer._first() if isinstance(layer, Trainer) else layer
        return self.layers[0]

    def _ready(self, x: Array) -> None:
        if not self.built:
            self.build((None, *x.shape[1:]))
        own = self._input_shape
        if own is not None and len(own) != x.ndim:
            raise ValueError(f"[{self.name}] x of shape {tuple(x.shape)}; {own} is needed")
        self.flat_weights()

    def flat_weights(self) -> list[Array]:
        """The trainable weights as the optimizer sees them: one flat array a dtype."""
        leaves = list(self.trainable_leaves())
        if self._parameters is None or not self._parameters.holds(leaves):
            self._parameters = FlatParameters(leaves)
        return self._parameters.values

    def _require_compiled(self, op: str) -> None:
        if self.loss is None or self.optimizer is None:
            raise RuntimeError(
                f"[{op}] the model {self.name!r} has no loss or optimizer; "
                "compile(optimizer=..., loss=...) is needed"
            )

    def get_compile_config(self) -> Config | None:
        """Optimizer, loss and metrics as plain Python values; None before `compile`."""
        if self.optimizer is None:
            return None
        return {
            "optimizer": serialize(self.optimizer),
            "loss": None if self.loss is None else serialize(self.loss),
            "metrics": [serialize(metric) for metric in self.metrics],
        }


def _listed(op: str, name: str, value: Any, one: Any) -> list[Any]:
    """What may be given alone, in a sequence, or not at all."""
    if value is None or isinstance(value, one):
        return [] if value is None else [value]
    try:
        return list(value)
    except TypeError:
        raise TypeError(f"[{op}] {name} is {shapes.words(value)}; a list is needed") from None


def _batch_size(op: str, batch_size: int | None) -> int:
    return 32 if batch_size is None else shapes.integer(op, "batch_size", batch_size, 1)


def _as_list(logs: dict[str, float]) -> Any:
    values = list(logs.values())
    return values if len(values) > 1 else values[0]
