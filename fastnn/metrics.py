"""Metrics, with Keras 3 names: means that are accumulated batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import shapes
from fastnn.arrays import to_numpy
from fastnn.deferred import on_device
from fastnn.registry import Configurable, Table, snake_case

__all__ = [
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "get",
    "in_top_k",
]


class Metric(Configurable):
    """Mean of a value per sample over all batches since `reset_state`.

    A metric of your own implements `values`.

    Parameters
    ----------
    name : str, optional
        Under which it is reported; default: the class's name in snake case.
    """

    config_fields: tuple[str, ...] = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name or snake_case(type(self).__name__)
        self.reset_state()

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """One value a sample (numbers or booleans)."""
        raise NotImplementedError(f"[{self.name}] has no values")

    def reset_state(self) -> None:
        """Begin anew."""
        self._total: Any = 0.0
        self._count: Any = 0.0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch into account.

        Parameters
        ----------
        y_true, y_pred : array
        sample_weight : array, optional
            One number a sample; the result is then the weighted mean.
        """
        # A metric of one's own gets NumPy arrays, as `values` says.
        if on_device(y_pred) and on_device(y_true) and type(self).__module__ == __name__:
            self._update_on_device(self.values(y_true, y_pred), sample_weight)
            return
        values = self.values(to_numpy(y_true), to_numpy(y_pred))
        if sample_weight is None:
            total = np.count_nonzero(values) if values.dtype == bool else values.sum(dtype=float)
            self._total += float(total)
            self._count += values.size
        else:
            weight = np.asarray(to_numpy(sample_weight), float)
            weight = weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
            weight = np.broadcast_to(weight, values.shape)
            self._total += float((values * weight).sum())
            self._count += float(weight.sum())

    def _update_on_device(self, values: Any, sample_weight: Any) -> None:
        """The sums stay on the device until `result`: nothing waits for it."""
        if sample_weight is None:
            self._total = values.sum(dtype=np.float64) + self._total
            self._count += values.size
        else:
            weight = sample_weight.astype(np.float64)
            weight = weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
            weight = np.broadcast_to(weight, values.shape)
            self._total = (values * weight).sum() + self._total
            self._count = weight.sum() + self._count

    def result(self) -> float:
        """The mean so far; 0 before the first sample."""
        self._total, self._count = float(self._total), float(self._count)
        return self._total / self._count if self._count else 0.0

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """`update_state`, then `result`."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()


class BinaryAccuracy(Metric):
    """How often a prediction lies on the label's side of the threshold.

    Parameters
    ----------
    name : str, optional
    threshold : float
    """

    config_fields = ("name", "threshold")

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = threshold

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Mean over the last axis, as in Keras."""
        right = (y_pred > self.threshold) == _like(y_true, y_pred)
        return right.mean(axis=-1) if right.ndim > 1 and right.shape[-1] > 1 else right


class CategoricalAccuracy(Metric):
    """How often the largest prediction is that of the largest target, over the last axis."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Booleans."""
        return y_true.argmax(axis=-1) == y_pred.argmax(axis=-1)


class SparseCategoricalAccuracy(Metric):
    """How often the largest prediction, over the last axis, is the label's."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Booleans."""
        return _labels(y_true, y_pred) == y_pred.argmax(axis=-1)


class SparseTopKCategoricalAccuracy(Metric):
    """How often the label is among the k largest predictions; see `in_top_k`.

    Parameters
    ----------
    k : int
    name : str, optional
    """

    config_fields = ("k", "name")

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        super().__init__(name)
        self.k = shapes.integer(self.name, "k", k, 1)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Booleans."""
        return in_top_k(_labels(y_true, y_pred), y_pred, self.k)


class MeanSquaredError(Metric):
    """Mean of ``(y_true - y_pred)**2``."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Mean over the last axis."""
        return _over_last(np.square(_like(y_true, y_pred) - y_pred))


class MeanAbsoluteError(Metric):
    """Mean of ``|y_true - y_pred|``."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Mean over the last axis."""
        return _over_last(np.abs(_like(y_true, y_pred) - y_pred))


def in_top_k(targets: Any, predictions: Any, k: int) -> np.ndarray:
    """Whether each target is among the k largest predictions.

    Parameters
    ----------
    targets : int array [...]
    predictions : array [..., C]
    k : int
        At least 1.

    Returns
    -------
    bool array [...]
        Classes tied with the target do not push it out; a NaN prediction of the target is False.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a target is outside 0 .. C - 1.
    """
    targets, predictions = to_numpy(targets), to_numpy(predictions)
    k = shapes.integer("in_top_k", "k", k, 1)
    if targets.shape != predictions.shape[:-1]:
        raise ValueError(
            f"[in_top_k] targets of shape {targets.shape} and predictions of shape "
            f"{predictions.shape}; the same shape but for the last axis is needed"
        )
    targets = shapes.labels("in_top_k", "targets", targets, predictions.shape[-1])
    own = np.take_along_axis(predictions, targets[..., None], axis=-1)
    # Not "fewer than k are larger": a NaN is larger than nothing, and would be in.
    return ((predictions > own).sum(axis=-1) < k) & ~np.isnan(own[..., 0])


def _like(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    if y_true.shape == y_pred.shape:
        return y_true
    if y_true.size == y_pred.size:
        return y_true.reshape(y_pred.shape)  # [N] for [N, 1], or the other way round
    raise ValueError(
        f"[metric] y_true of shape {y_true.shape} and y_pred of shape {y_pred.shape}; the same "
        "shape is needed"
    )


def _labels(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"[metric] y_true of shape {y_true.shape}; labels of shape {y_pred.shape[:-1]} are "
            "needed"
        )
    return y_true


def _over_last(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1) if values.ndim > 1 else values


TABLE = Table(
    "metric",
    (
        BinaryAccuracy,
        CategoricalAccuracy,
        MeanAbsoluteError,
        MeanSquaredError,
        SparseCategoricalAccuracy,
        SparseTopKCategoricalAccuracy,
    ),
    {
        "mse": "MeanSquaredError",
        "mae": "MeanAbsoluteError",
        "sparse_top_k": "SparseTopKCategoricalAccuracy",
        "in_top_k": "SparseTopKCategoricalAccuracy",
    },
)


class DeferredAccuracy(Metric):
    """``"accuracy"``: binary, categorical or sparse, whichever the first batch's shapes say."""

    def reset_state(self) -> None:
        """Begin anew."""
        super().reset_state()
        self._chosen: Metric | None = None

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Those of the chosen metric."""
        if self._chosen is None:
            self._chosen = _accuracy_for(y_true, y_pred)
        return self._chosen.values(y_true, y_pred)


def _accuracy_for(y_true: np.ndarray, y_pred: np.ndarray) -> Metric:
    if y_pred.ndim < 2 or y_pred.shape[-1] == 1:
        return BinaryAccuracy()
    if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
        return SparseCategoricalAccuracy()
    return CategoricalAccuracy()


def get(identifier: Any) -> Any:
    """A metric from a name, a configuration, a class, or a `Metric`."""
    if identifier in ("accuracy", "acc"):
        return DeferredAccuracy(identifier)
    metric = TABLE.get(identifier, {"DeferredAccuracy": DeferredAccuracy})
    if not isinstance(metric, Metric):
        raise TypeError(f"[metric] {identifier!r}; a name or a Metric is needed")
    if isinstance(identifier, str):
        metric.name = identifier
    return metric
