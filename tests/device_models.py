"""What tests of models on a device share: a model and its data, and checks against the CPU.

``there`` says whether an array is on the device: `on_numba`, or that it is one of CuPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import layers, optimizers, prefetch


def on_numba(x: Any) -> bool:
    """Whether x is an array of the backend numba on the device."""
    from fastnn.kernels.numba.array import DeviceArray

    return type(x) is DeviceArray


def assert_same(
    actual: Iterable[Any],
    expected: Iterable[Any],
    there: Callable[[Any], bool],
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Each array of ``actual`` is on the device and has the shape and the values expected."""
    for one, other in zip(actual, expected, strict=True):
        assert there(one) and one.shape == other.shape, type(one)
        np.testing.assert_allclose(one.get(), other, rtol=rtol, atol=atol)


def problem(rng: np.random.Generator, samples: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of 3 features, and whether their sum is positive."""
    x = rng.standard_normal((samples, steps, 3)).astype("float32")
    return x, (x.sum(axis=(1, 2)) > 0).astype("int64")


def build(units: int, *start: Any) -> fastnn.Sequential:
    """An LSTM with noise that learns it, always the same one; ``start`` comes before it."""
    fastnn.set_random_seed(0)
    model = fastnn.Sequential(
        [*start, layers.LSTM(units), layers.Dropout(0.1), layers.Dense(2, "softmax")]
    )
    adam = optimizers.Adam(0.02, global_clipnorm=1.0)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def slots_of(model: fastnn.Sequential) -> list[Any]:
    """The state of its optimizer."""
    return [slot for slots in model.optimizer._slots for slot in slots]


def check_fit(
    backend: str, make: Callable[[], fastnn.Sequential], x: Any, y: Any, **options: Any
) -> None:
    """`fit`, `predict` and `evaluate` give on the backend what they give on the CPU."""
    runs = {}
    for name in ("numpy", backend):
        with fastnn.use_backend(name):
            model = make()
            history = model.fit(x, y, verbose=0, **options)
            runs[name] = history.history, model.predict(x), model.evaluate(x, y)
    for key, values in runs["numpy"][0].items():
        np.testing.assert_allclose(runs[backend][0][key], values, rtol=1e-4, err_msg=key)
    np.testing.assert_allclose(runs[backend][1], runs["numpy"][1], atol=1e-5)
    np.testing.assert_allclose(runs[backend][2], runs["numpy"][2], rtol=1e-4)
    assert type(runs[backend][1]) is np.ndarray


def prefetched(monkeypatch: pytest.MonkeyPatch) -> list[prefetch.Prefetched]:
    """The runs over batches that are fetched ahead, as they begin."""
    used: list[prefetch.Prefetched] = []
    whole = prefetch.Prefetched.__iter__
    monkeypatch.setattr(
        prefetch.Prefetched, "__iter__", lambda self: (used.append(self), whole(self))[1]
    )
    return used


def check_bad_label(model: fastnn.Sequential, x: Any, y: Any, **options: Any) -> None:
    """A label outside the classes is an error of the epoch."""
    y = y.copy()
    y[7] = 2
    with pytest.raises(ValueError, match=r"^\[loss_forward\] y_true .*0 <= y_true < 2 is needed"):
        model.fit(x, y, epochs=1, verbose=0, **options)


def check_saving(model: fastnn.Sequential, x: Any, path: Any) -> None:
    """What a model on the device saves, one on the CPU loads."""
    model.save(path)
    expected = model.predict(x)
    with fastnn.use_backend("numpy"):
        np.testing.assert_allclose(fastnn.load_model(path).predict(x), expected, atol=1e-5)
