"""Models as scikit-learn estimators. Needs scikit-learn: ``pip install 'fastnn[sklearn]'``.

from fastnn.sklearn import SequenceClassifier

def build(n_outputs, units=64, rate=0.0):
    return fastnn.Sequential([layers.GRU(units, dropout=rate), layers.Dense(n_outputs)])

search = GridSearchCV(
    SequenceClassifier(build, epochs=20), {"model__units": [32, 64], "batch_size": [16, 64]}
)
search.fit(x, y)          # x [samples, steps, features], or [samples, features]
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import layers, losses, ops, seeding
from fastnn.layers.activated import ActivatedLayer
from fastnn.models import Container, Sequential

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as missing:
    raise ImportError(
        f"[sklearn] scikit-learn 1.6 or newer is not there ({missing}); "
        "pip install 'fastnn[sklearn]' is needed"
    ) from missing

__all__ = ["EXPECTED_FAILED_CHECKS", "SequenceClassifier", "SequenceRegressor"]

# For sklearn.utils.estimator_checks.check_estimator(..., expected_failed_checks=...).
EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a sample of weight 2 is not one that comes twice: batches are cut elsewhere then"
    ),
    "check_methods_subset_invariance": (
        "float32: a sum is rounded in another order where a batch has other rows (1e-6, not 1e-7)"
    ),
}

_PREFIX = "model__"
# What works along time: an [N, T] array is made [N, T, 1] for these.
_OF_SEQUENCES = (
    layers.AveragePooling1D,
    layers.Bidirectional,
    layers.Conv1D,
    layers.GRU,
    layers.GlobalAveragePooling1D,
    layers.GlobalMaxPooling1D,
    layers.LSTM,
    layers.MaxPooling1D,
    layers.SimpleRNN,
    layers.TimeDistributed,
)


class _SequenceEstimator(BaseEstimator):
    """What classifier and regressor share; see `SequenceClassifier`."""

    _metrics: tuple[str, ...] = ()

    def __init__(
        self,
        model: Any = None,
        *,
        model_options: Mapping[str, Any] | None = None,
        optimizer: Any = "adam",
        loss: Any = None,
        epochs: int = 100,
        batch_size: int = 32,
        validation_split: float = 0.0,
        callbacks: Any = None,
        shuffle: bool = True,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.model_options = model_options
        self.optimizer = optimizer
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_split = validation_split
        self.callbacks = callbacks
        self.shuffle = shuffle
        self.verbose = verbose
        self.random_state = random_state

    # ------------------------------------------------------------------ parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Those of the constructor; deep: the model's options too, as ``model__<name>``."""
        params = super().get_params(deep=False)
        if deep and isinstance(self.model_options, Mapping):
            params |= {_PREFIX + key: value for key, value in self.model_options.items()}
        return params

    def set_params(self, **params: Any) -> Any:
        """Set some of the constructor's parameters; ``model__<name>`` is an option of the model."""
        options = {
            key.removeprefix(_PREFIX): params.pop(key)
            for key in list(params)
            if key.startswith(_PREFIX)
        }
        super().set_params(**params)
        if options:
            self.model_options = {**(self.model_options or {}), **options}
        return self

    # ------------------------------------------------------------------ fitting

    def _fit(self, x: np.ndarray, y: np.ndarray, n_outputs: int, sample_weight: Any) -> Any:
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, x)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeding.use_random_seed(seed):
            model = self._built(n_outputs, x.shape)
            x = _shaped(model, x)
            model.build((None, *x.shape[1:]))
            self._check_outputs(model, n_outputs)
            loss = self._default_loss(model) if self.loss is None else losses.get(self.loss)
            # Parameters stay as they were: what fit changes are copies.
            model.compile(copy.deepcopy(self.optimizer), loss, self._metrics)
            history = model.fit(
                x,
                np.eye(n_outputs)[y] if isinstance(loss, losses.CategoricalCrossentropy) else y,
                batch_size=self.batch_size,
                epochs=self.epochs,
                verbose=self.verbose,
                callbacks=copy.deepcopy(self.callbacks),
                validation_split=self.validation_split,
                shuffle=self.shuffle,
                sample_weight=sample_weight,
            )
        self.model_ = model
        self.history_ = history.history
        return self

    def _check_outputs(self, model: Container, n_outputs: int) -> None:
        shape = model.output_shape
        if shape is None or shape[1:] not in self._output_shapes(n_outputs):
            raise ValueError(
                f"[{type(self).__name__}.fit] a model with outputs of shape {shape}; "
                f"[N, {n_outputs}] is needed"
            )

    def _output_shapes(self, n_outputs: int) -> list[tuple[int, ...]]:
        return [(n_outputs,)]

    def _default_loss(self, model: Container) -> Any:
        raise NotImplementedError(f"[{type(self).__name__}] has no loss")

    def _built(self, n_outputs: int, shape: tuple[int, ...]) -> Container:
        """A new model with weights of its own."""
        owner = f"[{type(self).__name__}.fit]"
        if self.model_options is not None and not isinstance(self.model_options, Mapping):
            raise TypeError(
                f"{owner} model_options={self.model_options!r}; a mapping of names is needed"
            )
        options = dict(self.model_options or {})
        if self.model is None:
            return _default(n_outputs, shape, **options)
        if isinstance(self.model, Container):
            if options:
                raise ValueError(
                    f"{owner} model_options {sorted(options)} for a model that is made already; a "
                    "function that makes it is needed"
                )
            try:
                return type(self.model).from_config(self.model.get_config())
            except ValueError as error:  # a Lambda's function has only its name
                raise ValueError(
                    f"{owner} the model cannot be made anew ({error}); a function that makes it "
                    "is needed"
                ) from error
        if not callable(self.model):
            raise TypeError(
                f"{owner} model={self.model!r}; None, a Sequential or Model, or a function that "
                "makes one is needed"
            )
        if "n_outputs" in inspect.signature(self.model).parameters:
            options.setdefault("n_outputs", n_outputs)
        model = self.model(**options)
        if not isinstance(model, Container):
            raise TypeError(
                f"{owner} the function of the model gave {model!r}; a Sequential or Model is needed"
            )
        return model

    # ------------------------------------------------------------------ data

    def _validated(self, x: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Numbers without NaN, [N, F] or [N, T, F]; checked against those of fit."""
        if _rank(x) < 3:
            options: dict[str, Any] = {"multi_output": True} if reset else {}
            return validate_data(self, x, y, reset=reset, dtype="numeric", **options)
        # scikit-learn takes the second axis for the features, which here is time.
        x = check_array(x, dtype="numeric", allow_nd=True)
        if reset:
            self.n_features_in_ = x.shape[-1]
        elif x.shape[-1] != self.n_features_in_:
            raise ValueError(
                f"X has {x.shape[-1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        if not reset:
            return x
        y = check_array(y, ensure_2d=False, dtype=None)
        check_consistent_length(x, y)
        return x, y

    def _outputs(self, x: Any) -> np.ndarray:
        check_is_fitted(self)
        x = self._validated(x, reset=False)
        return self.model_.predict(_shaped(self.model_, x), batch_size=256)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")


class SequenceClassifier(ClassifierMixin, _SequenceEstimator):
    """A model that tells classes, as a scikit-learn classifier.

    Parameters
    ----------
    model : Sequential, Model, or callable, optional
        One output a class, or a single one for two classes; its last layer has a softmax or
        sigmoid, or none, and is then taken to give logits. Each `fit` makes it anew; this one is
        not changed. A function that makes it gets ``model_options``, and ``n_outputs`` if it has a
        parameter of this name. Default: a GRU of 64 units for sequences, a hidden layer of 100 for
        [N, features].
    model_options : dict, optional
        Arguments of that function. In searches each is a parameter ``model__<name>``.
    optimizer : str or Optimizer
        An `Optimizer` is copied by each `fit`.
    loss : str or Loss, optional
        Default: the cross-entropy that fits the last layer.
    epochs, batch_size, validation_split, callbacks, shuffle, verbose
        As in `Sequential.fit`.
    random_state : int, RandomState or None
        Of weights, order and noise.

    Attributes
    ----------
    model_ : Sequential or Model
        The fitted one.
    classes_ : array [C]
    history_ : dict of str to list of float
    n_features_in_ : int

    Notes
    -----
    X is [N, steps, features] or [N, features]; for a model that begins with a layer of sequences
    [N, steps] serves too. Padded sequences: begin the model with `Masking`.
    """

    _metrics = ("accuracy",)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train; y [N] are labels of any kind.

        Raises
        ------
        ValueError, TypeError
            If the data or the model do not fit.
        """
        X, y = self._validated(X, y, reset=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"[{type(self).__name__}.fit] y has one class, {self.classes_[0]!r}; at least two "
                "are needed"
            )
        return self._fit(X, codes, len(self.classes_), sample_weight)

    def _output_shapes(self, n_outputs: int) -> list[tuple[int, ...]]:
        return [(n_outputs,), (1,)] if n_outputs == 2 else [(n_outputs,)]

    def _default_loss(self, model: Container) -> Any:
        logits = _activation(model) is None
        if model.output_shape[1] == 1:  # type: ignore[index]
            return losses.BinaryCrossentropy(from_logits=logits)
        return losses.SparseCategoricalCrossentropy(from_logits=logits)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C], in the order of ``classes_``."""
        y = self._outputs(X)
        single = y.shape[1] == 1
        if _activation(self.model_) is None:
            y = ops.activation_forward(y, "sigmoid" if single else "softmax")[0]
        return np.concatenate([1 - y, y], axis=1) if single else y

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest classes [N]."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class SequenceRegressor(RegressorMixin, _SequenceEstimator):
    """A model that tells numbers, as a scikit-learn regressor.

    Parameters are those of `SequenceClassifier`; the model has one output a target, and the default
    loss is the mean squared error.

    Attributes
    ----------
    model_ : Sequential or Model
    history_ : dict of str to list of float
    n_features_in_ : int
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train; y is [N] or [N, targets].

        Raises
        ------
        ValueError, TypeError
            If the data or the model do not fit.
        """
        X, y = self._validated(X, y, reset=True)
        y = np.asarray(y, float)
        self._flat = y.ndim == 1
        y = y.reshape(len(y), -1)
        return self._fit(X, y, y.shape[1], sample_weight)

    def _default_loss(self, model: Container) -> Any:
        return losses.MeanSquaredError()

    def predict(self, X: Any) -> np.ndarray:
        """Numbers in the shape of fit's y."""
        # float64 is what scikit-learn's regressors give.
        y = self._outputs(X).astype(float)
        return y[:, 0] if self._flat else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _default(n_outputs: int, shape: tuple[int, ...], units: int | None = None) -> Sequential:
    if len(shape) > 3:
        raise ValueError(
            f"[sklearn] no model for inputs of shape {shape}; model=... is needed where they are "
            "not [N, features] or [N, steps, features]"
        )
    head = layers.Dense(n_outputs)
    if len(shape) == 3:
        return Sequential([layers.GRU(64 if units is None else units), head])
    return Sequential([layers.Dense(100 if units is None else units, "relu"), head])


def _activation(model: Container) -> str | None:
    """That of the last layer, if it makes probabilities; None: outputs are before it."""
    last = model.layers[-1]
    name = last.activation if isinstance(last, ActivatedLayer) else None
    return name if name in ("sigmoid", "softmax") else None


def _rank(x: Any) -> int:
    try:
        return len(x.shape) if hasattr(x, "shape") else np.asarray(x).ndim
    except ValueError:  # rows of different lengths, of which validate_data tells
        return 1


def _shaped(model: Container, x: np.ndarray) -> np.ndarray:
    return x[..., None] if x.ndim == 2 and isinstance(model._first(), _OF_SEQUENCES) else x
