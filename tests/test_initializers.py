"""Initial weights: distributions, fans, seeds, configurations."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import initializers
from fastnn.registry import deserialize, serialize

NAMES = sorted(initializers.TABLE.names)
SHAPE = (3, 3, 40, 50)
FAN_IN, FAN_OUT = 9 * 40, 9 * 50


@pytest.mark.parametrize("name", NAMES)
def test_every_name(name):
    shape = (6, 6)
    values = initializers.get(name)(shape)
    assert values.shape == shape and values.dtype == np.float64 and np.isfinite(values).all()


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / (FAN_IN + FAN_OUT)),
        ("glorot_normal", 2 / (FAN_IN + FAN_OUT)),
        ("he_uniform", 2 / FAN_IN),
        ("he_normal", 2 / FAN_IN),
        ("lecun_uniform", 1 / FAN_IN),
        ("lecun_normal", 1 / FAN_IN),
        ("random_normal", 0.05**2),
        ("random_uniform", 0.05**2 / 3),
        ("truncated_normal", (0.05 * 0.87962566) ** 2),
    ],
)
def test_mean_and_variance(name, variance):
    fastnn.set_random_seed(0)
    values = initializers.get(name)(SHAPE)
    assert values.var() == pytest.approx(variance, rel=0.04)
    assert abs(values.mean()) < 4 * (variance / values.size) ** 0.5
    if "uniform" in name:
        assert np.abs(values).max() <= (3 * variance) ** 0.5
    if name in ("truncated_normal", "he_normal", "glorot_normal", "lecun_normal"):
        assert np.abs(values).max() <= 2 * variance**0.5 / 0.87962566


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((), (1, 1)),
        ((7,), (7, 7)),
        ((3, 5), (3, 5)),
        ((2, 3, 5), (6, 10)),
        (SHAPE, (FAN_IN, FAN_OUT)),
    ],
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize("shape", [(5, 5), (4, 9), (9, 4), (2, 3, 4)])
def test_orthogonal(shape):
    values = initializers.Orthogonal(gain=2.0, seed=1)(shape).reshape(-1, shape[-1]) / 2
    short = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
    np.testing.assert_allclose(short, np.eye(len(short)), atol=1e-12)


def test_constants():
    assert np.all(initializers.Constant(2.5)((2, 3)) == 2.5)
    assert not initializers.Zeros()((2, 3)).any() and np.all(initializers.Ones()((2,)) == 1)
    np.testing.assert_array_equal(initializers.Identity(3.0)((2, 3)), 3 * np.eye(2, 3))


def test_seeds():
    one = initializers.HeNormal(seed=4)
    np.testing.assert_array_equal(one((3, 4)), one((3, 4)))
    np.testing.assert_array_equal(one((3, 4)), initializers.HeNormal(seed=4)((3, 4)))
    free = initializers.HeNormal()
    assert not np.array_equal(free((3, 4)), free((3, 4)))
    fastnn.set_random_seed(9)
    first = free((3, 4))
    fastnn.set_random_seed(9)
    np.testing.assert_array_equal(free((3, 4)), first)


@pytest.mark.parametrize(
    "made",
    [
        initializers.Constant(0.5),
        initializers.VarianceScaling(2.0, "fan_out", "uniform", seed=1),
        initializers.Orthogonal(0.5, seed=2),
        initializers.GlorotUniform(seed=3),
        initializers.RandomUniform(-1, 1, seed=4),
    ],
)
def test_configurations(made):
    again = deserialize(serialize(made), initializers.TABLE)
    np.testing.assert_array_equal(again((3, 4)), made((3, 4)))


def test_functions_are_initializers():
    layer = fastnn.layers.Dense(2, kernel_initializer=lambda shape: np.full(shape, 0.5))
    layer.build((None, 3))
    assert np.all(layer.kernel == 0.5)
    wrong = fastnn.layers.Dense(2, kernel_initializer=lambda shape: np.zeros(3))
    with pytest.raises(ValueError, match=r"kernel gave shape \(3,\); \(3, 2\) is needed"):
        wrong.build((None, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.get("gloriot"), "gloriot"),
        (lambda: initializers.get(3), "3"),
        (lambda: initializers.HeNormal(seed="a"), "seed"),
        (lambda: initializers.VarianceScaling(0.0), "scale"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), "distribution"),
        (lambda: initializers.Orthogonal()((3,)), "shape"),
        (lambda: initializers.Identity()((3, 3, 3)), "shape"),
    ],
)
def test_errors_say_what_is_needed(make, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        make()
