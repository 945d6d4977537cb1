"""Optimizers: the formulas as written, step by step; clipping, schedules, state."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from fastnn import optimizers
from fastnn.registry import deserialize, serialize

STEPS = 5


def sgd(w, grads, rate=0.01, momentum=0.0, nesterov=False):
    v = 0.0
    for g in grads:
        v = momentum * v - rate * g
        w = w + (momentum * v - rate * g if nesterov else v)
    return w


def rmsprop(w, grads, rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False):
    v = a = m = 0.0
    for g in grads:
        v = rho * v + (1 - rho) * g * g
        a = rho * a + (1 - rho) * g
        m = momentum * m + rate * g / np.sqrt((v - a * a if centered else v) + epsilon)
        w = w - m
    return w


def adam(w, grads, rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False):
    m = v = largest = 0.0
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        largest = np.maximum(largest, v)
        alpha = rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        w = w - alpha * m / (np.sqrt(largest if amsgrad else v) + epsilon)
    return w


CASES = [
    (optimizers.SGD, sgd, {}),
    (optimizers.SGD, sgd, {"momentum": 0.9}),
    (optimizers.SGD, sgd, {"momentum": 0.9, "nesterov": True}),
    (optimizers.RMSprop, rmsprop, {}),
    (optimizers.RMSprop, rmsprop, {"momentum": 0.5, "centered": True, "rho": 0.8}),
    (optimizers.RMSprop, rmsprop, {"centered": True, "epsilon": 1e-3}),
    (optimizers.Adam, adam, {}),
    (optimizers.Adam, adam, {"amsgrad": True, "beta_1": 0.5, "beta_2": 0.6, "epsilon": 1e-4}),
]


@pytest.mark.parametrize(("make", "formula", "options"), CASES)
@pytest.mark.parametrize("shape", [(3, 4), (2,), (100_001,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formula(rng, make, formula, options, shape, dtype):
    weights = [rng.normal(size=shape).astype(dtype), rng.normal(size=5).astype(dtype)]
    grads = [[rng.normal(size=w.shape).astype(dtype) for w in weights] for _ in range(STEPS)]
    expected = [
        formula(w.astype("float64"), [g[i].astype("float64") for g in grads], **options)
        for i, w in enumerate(weights)
    ]
    optimizer = make(**options)
    places = [w.ctypes.data for w in weights]
    for gradients in grads:
        before = [g.copy() for g in gradients]
        optimizer.apply(gradients, weights)
        for g, b in zip(gradients, before, strict=True):
            np.testing.assert_array_equal(g, b)
    assert [w.ctypes.data for w in weights] == places and optimizer.iterations == STEPS
    for w, e in zip(weights, expected, strict=True):
        assert w.dtype == dtype
        np.testing.assert_allclose(w, e, rtol=0, atol=1e-13 if dtype == "float64" else 1e-6)


def test_schedule(rng):
    rates = [0.1, 0.05, 0.025]
    optimizer = optimizers.SGD(lambda step: rates[step])
    w = [np.zeros(3)]
    for rate in rates:
        assert optimizer.current_rate() == rate
        optimizer.apply([np.ones(3)], w)
    np.testing.assert_allclose(w[0], -sum(rates))


def norm(arrays):
    return math.sqrt(sum(float((a**2).sum()) for a in arrays))


def clipped(option, grads):
    optimizer = optimizers.SGD(1.0, **option)
    weights = [np.zeros_like(g) for g in grads]
    optimizer.apply(grads, weights)
    return [-w for w in weights]


def test_clipping(rng):
    grads = [rng.normal(size=(3, 4)) * 3, rng.normal(size=5) * 0.01]
    np.testing.assert_allclose(clipped({"clipvalue": 0.5}, grads)[0], np.clip(grads[0], -0.5, 0.5))
    one, two = clipped({"clipnorm": 1.0}, grads)
    np.testing.assert_allclose(one, grads[0] / norm(grads[:1]))
    np.testing.assert_allclose(two, grads[1])
    for limit in (1.0, 100.0):
        together = clipped({"global_clipnorm": limit}, grads)
        scale = min(1.0, limit / norm(grads))
        for got, g in zip(together, grads, strict=True):
            np.testing.assert_allclose(got, g * scale)


def test_zero_and_nan_gradients():
    assert not clipped({"clipnorm": 1.0}, [np.zeros(3)])[0].any()
    assert np.isnan(
        clipped({"global_clipnorm": 1.0}, [np.array([np.nan, 1.0]), np.ones(2)])[1]
    ).all()


@pytest.mark.parametrize(("make", "formula", "options"), CASES)
def test_configuration_and_state_continue_the_run(rng, make, formula, options):
    optimizer = make(**options, clipvalue=0.7)
    weights = [rng.normal(size=(3, 4)), rng.normal(size=2)]
    grads = [[rng.normal(size=w.shape) for w in weights] for _ in range(4)]
    for g in grads[:2]:
        optimizer.apply(g, weights)
    again = deserialize(serialize(optimizer), optimizers.TABLE)
    assert again.get_config() == optimizer.get_config()
    others = [w.copy() for w in weights]
    again.set_state(optimizer.get_state(), others)
    for g in grads[2:]:
        optimizer.apply(g, weights)
        again.apply(g, others)
    for w, o in zip(weights, others, strict=True):
        np.testing.assert_array_equal(w, o)


def test_names_of_older_pickles_are_found():
    for name in ("SGD", "RMSprop", "Adam", "Optimizer"):
        assert pickle.loads(f"cfastnn.optimizers\n{name}\n.".encode()) is getattr(optimizers, name)
    again = pickle.loads(pickle.dumps(optimizers.SGD(0.1, momentum=0.9)))
    assert again.get_config() == optimizers.SGD(0.1, momentum=0.9).get_config()


def test_schedule_comes_back_through_custom_objects():
    def halving(step):
        return 0.5**step

    config = serialize(optimizers.Adam(halving))
    with pytest.raises(ValueError, match="'halving' is not known"):
        deserialize(config, optimizers.TABLE)
    again = deserialize(config, optimizers.TABLE, {"halving": halving})
    assert again.learning_rate is halving


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: optimizers.SGD(-1.0), "learning_rate"),
        (lambda: optimizers.SGD("fast"), "learning_rate"),
        (lambda: optimizers.SGD(momentum=1.5), "momentum"),
        (lambda: optimizers.Adam(beta_1=1.0), "beta_1"),
        (lambda: optimizers.RMSprop(epsilon=-1.0), "epsilon"),
        (lambda: optimizers.Adam(clipnorm=float("nan")), "clipnorm"),
        (lambda: optimizers.Adam(clipnorm=1.0, clipvalue=1.0), "clipnorm and clipvalue"),
        (lambda: optimizers.SGD().apply([np.ones(2)], []), "gradients"),
        (lambda: optimizers.SGD().apply([None], [np.ones(2)]), "gradient 0 is None"),
        (lambda: optimizers.SGD().apply([np.ones(3)], [np.ones(2)]), r"shape \(3,\)"),
        (lambda: optimizers.get("adamw2"), "adamw2"),
        (lambda: optimizers.get(3), "3"),
        (
            lambda: optimizers.Adam().set_state(
                {"iterations": np.array(1), "0.momentum": np.ones(2)}, [np.ones(2)]
            ),
            "a state with",
        ),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        run()
