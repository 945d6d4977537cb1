"""Losses: Keras 3 names over `fastnn.ops.loss_forward`.

A loss is called with targets and predictions and gives a float; ``backward`` then gives the
gradient of the predictions.
"""

from __future__ import annotations

from typing import Any

from fastnn import dispatch, ops, shapes
from fastnn.registry import Configurable, Table

Array = Any

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "get",
]


class Loss(Configurable):
    """Base class: ``loss(y_true, y_pred, sample_weight=None, training=False) -> float``.

    A subclass of your own implements `forward`.
    """

    #: The activation whose input the loss can take in place of its output (``with_logits``).
    link: str | None = None

    def __init__(self) -> None:
        self._dy: Any = None

    def forward(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None, keep: bool
    ) -> tuple[float, Any]:
        """The value, and what `vjp` needs (None unless ``keep``)."""
        raise NotImplementedError(f"[{type(self).__name__}] has no forward")

    def vjp(self, saved: Any, scale: float) -> Array:
        """Gradient of y_pred, times ``scale``."""
        raise NotImplementedError(f"[{type(self).__name__}] has no vjp")

    def __call__(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        training: bool = False,
    ) -> float:
        """The loss.

        Parameters
        ----------
        y_true : array
            In y_pred's shape, or [..., ] without its last axis where that is one wide; integers
            without the last axis for `SparseCategoricalCrossentropy`.
        y_pred : array [..., C]
        sample_weight : array, optional
            One number a sample (all axes but the last), or for the first axes of them.
        training : bool
            True: keep what `backward` needs.
        """
        y_pred = dispatch.asarray(y_pred)
        if sample_weight is not None:
            sample_weight = dispatch.asarray(sample_weight).astype(y_pred.dtype, copy=False)
        value, saved = self.forward(dispatch.asarray(y_true), y_pred, sample_weight, training)
        self._dy = saved if training else None
        return value

    def backward(self, scale: float = 1.0) -> Array:
        """Gradient of the last call's ``y_pred``, times ``scale``."""
        if self._dy is None:
            raise RuntimeError(
                f"[{type(self).__name__}] backward without a call before it; a call with "
                "training=True is needed"
            )
        return self.vjp(self._dy, scale)

    def with_logits(self) -> Loss:
        """The same loss for predictions before `link`."""
        raise NotImplementedError(f"[{type(self).__name__}] does not take logits")


class _OpLoss(Loss):
    """A loss that is one operation."""

    loss: str
    integer_targets = False

    def _arguments(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.config_fields}

    def forward(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None, keep: bool
    ) -> tuple[float, Any]:
        """One operation."""
        if not self.integer_targets:
            if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
                y_true = y_true[..., None]
            if y_true.dtype.kind == "f":
                y_true = y_true.astype(y_pred.dtype, copy=False)
        return ops.loss_forward(
            y_true,
            y_pred,
            loss=self.loss,
            sample_weight=sample_weight,
            keep=keep,
            **self._arguments(),
        )

    def vjp(self, saved: Any, scale: float) -> Array:
        """Gradient of y_pred."""
        return ops.loss_backward(saved, scale)


class MeanSquaredError(_OpLoss):
    """``mean((y_true - y_pred)**2)``."""

    loss = "mean_squared_error"


class MeanAbsoluteError(_OpLoss):
    """``mean(|y_true - y_pred|)``."""

    loss = "mean_absolute_error"


class Huber(_OpLoss):
    """Square near zero, straight from ``delta`` on (Huber 1964).

    Parameters
    ----------
    delta : float
    """

    loss = "huber"
    config_fields = ("delta",)

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = shapes.positive_number("Huber", "delta", delta)


class _CrossEntropy(_OpLoss):
    config_fields = ("from_logits",)

    def __init__(self, from_logits: bool = False) -> None:
        super().__init__()
        self.from_logits = bool(from_logits)

    def with_logits(self) -> Loss:
        """The same loss with ``from_logits=True``."""
        return type(self)(from_logits=True)


class BinaryCrossentropy(_CrossEntropy):
    """``-(t log p + (1 - t) log(1 - p))``, the mean over the last axis.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are before the sigmoid.
    """

    loss = "binary_crossentropy"
    link = "sigmoid"


class CategoricalCrossentropy(_CrossEntropy):
    """``-sum(t log p)`` over the last axis, for targets in y_pred's shape.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are before the softmax.
    """

    loss = "categorical_crossentropy"
    link = "softmax"


class SparseCategoricalCrossentropy(_CrossEntropy):
    """``-log p[label]``, for integer labels.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are before the softmax.
    """

    loss = "sparse_categorical_crossentropy"
    link = "softmax"
    integer_targets = True


TABLE = Table(
    "loss",
    (
        BinaryCrossentropy,
        CategoricalCrossentropy,
        Huber,
        MeanAbsoluteError,
        MeanSquaredError,
        SparseCategoricalCrossentropy,
    ),
    {"mse": "MeanSquaredError", "mae": "MeanAbsoluteError"},
)


def get(identifier: Any) -> Any:
    """A loss from a name, a configuration, a class, or a `Loss`."""
    loss = TABLE.get(identifier)
    if not isinstance(loss, Loss):
        raise TypeError(f"[loss] {identifier!r}; a name or a Loss is needed")
    return loss
