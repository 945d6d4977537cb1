"""Initial weights, with Keras 3 names, arguments and formulas.

An initializer is called with a shape and gives a float64 array; the layer casts it. So float32 and
float64 layers of one seed start from the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.registry import Configurable, Table
from fastnn.seeding import SeedGenerator, check_seed

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "compute_fans",
    "get",
]


class Initializer(Configurable):
    """Base class: ``initializer(shape)`` gives a float64 array of that shape."""

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError


class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All ones."""

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)


class Constant(Initializer):
    """One value everywhere.

    Parameters
    ----------
    value : float
    """

    config_fields = ("value",)

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, float(self.value))


class Identity(Initializer):
    """``gain`` times the identity matrix; two dimensions only.

    Parameters
    ----------
    gain : float
    """

    config_fields = ("gain",)

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"[Identity] shape {shape}; a shape of 2 dimensions is needed")
        return self.gain * np.eye(*shape)


class RandomInitializer(Initializer):
    """Base class of those that draw numbers.

    Parameters
    ----------
    seed : int, optional
        With a seed, every call gives the same values, as in Keras; without one, each call draws
        a new seed (see `fastnn.set_random_seed`).
    """

    config_fields: tuple[str, ...] = ("seed",)

    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else check_seed(type(self).__name__, seed)

    def _generator(self) -> np.random.Generator:
        seed = SeedGenerator().seed if self.seed is None else self.seed
        return np.random.default_rng(seed)


class RandomNormal(RandomInitializer):
    """Normal distribution.

    Parameters
    ----------
    mean, stddev : float
    seed : int, optional
    """

    config_fields = ("mean", "stddev", "seed")

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._generator().normal(self.mean, self.stddev, shape)


class TruncatedNormal(RandomNormal):
    """Normal distribution, drawn again outside two standard deviations of the mean."""

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.mean + self.stddev * _truncated_normal(self._generator(), shape)


class RandomUniform(RandomInitializer):
    """Uniform distribution over [minval, maxval).

    Parameters
    ----------
    minval, maxval : float
    seed : int, optional
    """

    config_fields = ("minval", "maxval", "seed")

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.minval = minval
        self.maxval = maxval

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._generator().uniform(self.minval, self.maxval, shape)


class VarianceScaling(RandomInitializer):
    """Variance ``scale / n``, n being the fan in, the fan out or their average.

    Parameters
    ----------
    scale : float
        Positive.
    mode : {"fan_in", "fan_out", "fan_avg"}
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
    seed : int, optional
    """

    config_fields: tuple[str, ...] = ("scale", "mode", "distribution", "seed")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        if not scale > 0:
            raise ValueError(f"[VarianceScaling] scale={scale!r}; a positive number is needed")
        _one_of("VarianceScaling", "mode", mode, ("fan_in", "fan_out", "fan_avg"))
        _one_of(
            "VarianceScaling",
            "distribution",
            distribution,
            ("truncated_normal", "untruncated_normal", "uniform"),
        )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        generator = self._generator()
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return generator.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return generator.normal(0.0, math.sqrt(variance), shape)
        # The constant is the standard deviation of a standard normal cut off at +-2.
        stddev = math.sqrt(variance) / 0.87962566103423978
        return stddev * _truncated_normal(generator, shape)


class _Scaled(VarianceScaling):
    """A named point of `VarianceScaling`: only the seed is left to choose."""

    config_fields = ("seed",)
    _scaling: tuple[float, str, str]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self._scaling, seed=seed)


class GlorotUniform(_Scaled):
    """Uniform over +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    _scaling = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    _scaling = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Scaled):
    """Uniform over +-sqrt(6 / fan_in) (He et al. 2015)."""

    _scaling = (2.0, "fan_in", "uniform")


class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in (He et al. 2015)."""

    _scaling = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Uniform over +-sqrt(3 / fan_in) (LeCun et al. 1998)."""

    _scaling = (1.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in (LeCun et al. 1998)."""

    _scaling = (1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014).

    More than two dimensions are seen as the matrix [product of the leading ones, last].

    Parameters
    ----------
    gain : float
    seed : int, optional
    """

    config_fields = ("gain", "seed")

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(
                f"[Orthogonal] shape {shape}; a shape of at least 2 dimensions is needed"
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = self._generator().normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        # Without the signs q is not uniform over the orthogonal matrices (Mezzadri 2007).
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


def compute_fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Fan in and fan out of a weight: for a kernel [..., in, out], times the window's cells."""
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    cells = math.prod(shape[:-2])
    return float(shape[-2] * cells), float(shape[-1] * cells)


def _truncated_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = generator.normal(size=math.prod(shape))
    outside = np.flatnonzero(np.abs(values) > 2.0)
    while outside.size:
        values[outside] = generator.normal(size=outside.size)
        outside = outside[np.abs(values[outside]) > 2.0]
    return values.reshape(shape)


def _one_of(owner: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"[{owner}] {name}={value!r}; one of {', '.join(choices)} is needed")


TABLE = Table(
    "initializer",
    (
        Constant,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        Identity,
        LecunNormal,
        LecunUniform,
        Ones,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
        Zeros,
    ),
    {"uniform": "RandomUniform", "normal": "RandomNormal", "zero": "Zeros", "one": "Ones"},
)


def get(identifier: Any) -> Any:
    """An initializer from a name, a configuration or a callable ``f(shape) -> array``."""
    initializer = TABLE.get(identifier)
    if not callable(initializer):
        raise TypeError(
            f"[initializer] {identifier!r}; a name, an Initializer or a function of the shape is "
            "needed"
        )
    return initializer
