"""The scikit-learn estimators: scikit-learn's own checks, sequences, searches, errors."""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import layers, seeding

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fastnn.sklearn import EXPECTED_FAILED_CHECKS, SequenceClassifier, SequenceRegressor

BOTH = [SequenceClassifier, SequenceRegressor]


@pytest.mark.parametrize("kind", BOTH)
def test_scikit_learns_own_checks(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(
            kind(), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_fail=None, on_skip=None
        )
    status = {result["check_name"]: result["status"] for result in results}
    assert len(status) > 40
    bad = {name for name, one in status.items() if one not in ("passed", "skipped", "xfail")}
    assert not bad
    assert {name for name, one in status.items() if one == "xfail"} <= set(EXPECTED_FAILED_CHECKS)


def sequences(rng, count=120, steps=9):
    """Which of two waves, whatever its phase."""
    y = rng.integers(0, 2, count)
    t = np.arange(steps)
    phase = rng.uniform(0, 6, (count, 1))
    x = np.sin((0.5 + 0.9 * y)[:, None] * t + phase)
    return x[..., None], np.array(["slow", "fast"])[y]


def network(outputs, last):
    return fastnn.Sequential([layers.GRU(12), layers.Dense(outputs, last)])


@pytest.mark.parametrize(
    ("outputs", "last"), [(2, "softmax"), (2, None), (1, "sigmoid"), (1, None)]
)
def test_a_classifier_of_sequences(backend, rng, outputs, last):
    x, y = sequences(rng)
    model = network(outputs, last)
    adam = fastnn.optimizers.Adam(0.02)
    estimator = SequenceClassifier(model, optimizer=adam, epochs=40, random_state=1)
    assert estimator.fit(x, y) is estimator
    assert estimator.score(x, y) > 0.9
    assert list(estimator.classes_) == ["fast", "slow"]
    assert not model.built and estimator.model is model
    p = estimator.predict_proba(x)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(estimator.predict(x), estimator.classes_[p.argmax(axis=1)])
    own = estimator.model_.predict(x)
    assert own.shape == (len(x), outputs)
    if last is not None:
        np.testing.assert_allclose(p[:, 1], own[:, -1], rtol=1e-6)
    assert sorted(estimator.history_) == ["accuracy", "loss"]


def test_one_seed_is_one_model_and_others_seeds_are_left_alone(rng):
    x, y = sequences(rng, 30)
    fastnn.set_random_seed(5)
    first = seeding.draw_seed()
    fastnn.set_random_seed(5)
    fits = [SequenceClassifier(epochs=2, random_state=seed).fit(x, y) for seed in (1, 1, 2)]
    assert seeding.draw_seed() == first
    a, b, c = (one.predict_proba(x) for one in fits)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("flat", [True, False])
def test_a_regressor_of_sequences(backend, rng, flat):
    x = rng.normal(size=(120, 4, 2))
    y = x[:, -1] * 2 + x[:, -2]
    y = y[:, 0] if flat else y
    adam = fastnn.optimizers.Adam(0.03)
    options = {"optimizer": adam, "random_state": 0, "epochs": 20, "model_options": {"units": 8}}
    estimator = SequenceRegressor(**options).fit(x, y)
    assert estimator.predict(x).shape == y.shape
    assert estimator.score(x, y) > 0.8


def test_rows_of_a_table_are_series_for_recurrent_models(rng):
    x, y = sequences(rng)
    table = x[..., 0]
    estimators = [
        SequenceClassifier(network(2, None), epochs=3, random_state=0).fit(z, y) for z in (x, table)
    ]
    np.testing.assert_array_equal(
        estimators[0].predict_proba(x), estimators[1].predict_proba(table)
    )


def build(n_outputs, units=4, hidden=1):
    body = [layers.Dense(units, "relu") for _ in range(hidden)]
    return fastnn.Sequential([*body, layers.Dense(n_outputs)])


def test_a_search_over_the_network(rng):
    x = rng.normal(size=(60, 3))
    y = (x[:, 0] > 0) * 1
    adam = fastnn.optimizers.Adam(0.05)
    estimator = SequenceClassifier(build, optimizer=adam, epochs=20, random_state=0)
    grid = {"model__units": [2, 8], "model__hidden": [1, 2], "batch_size": [10]}
    search = GridSearchCV(estimator, grid, cv=2).fit(x, y)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_estimator_
    assert best.model_options == {
        k: search.best_params_[f"model__{k}"] for k in ("units", "hidden")
    }
    assert best.model_.layers[0].units == search.best_params_["model__units"]
    assert estimator.model_options is None
    assert clone(best).get_params()["model__units"] == best.model_.layers[0].units
    pipe = make_pipeline(StandardScaler(), estimator)
    pipe.set_params(sequenceclassifier__model__units=8)
    assert cross_val_score(pipe, x, y, cv=3).mean() > 0.7


def test_parameters_are_not_changed_and_pickles_predict(rng):
    x, y = sequences(rng, 40)
    stop = fastnn.callbacks.EarlyStopping("loss", patience=1, min_delta=10.0)
    adam = fastnn.optimizers.Adam(0.01)
    estimator = SequenceClassifier(
        network(2, "softmax"), optimizer=adam, callbacks=[stop], loss="categorical_crossentropy"
    ).fit(x, y)
    assert len(estimator.history_["loss"]) == 2
    assert stop.model is None and adam.get_state()["iterations"] == 0
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict_proba(x), estimator.predict_proba(x))


def test_padding_changes_nothing(backend, rng):
    model = fastnn.Sequential([layers.Masking(), *network(2, None).layers])
    x, y = sequences(rng, 30)
    padded = np.concatenate([x, np.zeros((30, 4, 1))], axis=1)
    fits = [SequenceClassifier(model, epochs=3, random_state=0).fit(z, y) for z in (x, padded)]
    np.testing.assert_allclose(fits[0].predict_proba(x), fits[1].predict_proba(padded), rtol=1e-5)


X, Y = np.random.default_rng(0).normal(size=(8, 5, 2)), np.arange(8) % 2


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: SequenceClassifier(network(3, "softmax")).fit(X, Y), r"outputs.*\(None, 3\)"),
        (lambda: SequenceClassifier(network(1, "sigmoid")).fit(X, np.arange(8) % 3), r"\[N, 3\]"),
        (lambda: SequenceClassifier(network(2, None), model_options={"a": 1}).fit(X, Y), "options"),
        (lambda: SequenceClassifier(model_options=3).fit(X, Y), "model_options"),
        (lambda: SequenceClassifier("gru").fit(X, Y), "model='gru'"),
        (lambda: SequenceClassifier(lambda: 3).fit(X, Y), "gave 3"),
        (lambda: SequenceClassifier().fit(X, np.zeros(8)), "one class"),
        (lambda: SequenceRegressor().fit(np.ones((4, 2, 2, 2)), np.ones(4)), "no model for"),
        (
            lambda: SequenceRegressor(
                fastnn.Sequential([layers.Lambda(np.tanh), layers.Dense(1)])
            ).fit(X[:, 0], Y),
            "made anew",
        ),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        run()


def test_other_features_or_counts_are_refused():
    estimator = SequenceClassifier(epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match=r"X has 1 features.*expecting 2"):
        estimator.predict(X[..., :1])
    assert estimator.predict(X[:, :3]).shape == (8,)  # fewer steps
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(X, Y[:5])
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(np.where(X > 0, X, np.nan), Y)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "fastnn.sklearn")
    with pytest.raises(
        ImportError, match=r"^\[sklearn\].*pip install 'fastnn\[sklearn\]' is needed"
    ):
        importlib.import_module("fastnn.sklearn")
