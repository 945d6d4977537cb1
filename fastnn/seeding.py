"""Where seeds come from: one global source for what has no seed, and one counter a layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_MASK64 = (1 << 64) - 1
_source = np.random.default_rng()


def set_random_seed(seed: int) -> None:
    """Make every default choice that follows reproducible: weights, noise, shuffling.

    Layers, initializers and models that were given no ``seed`` draw one from a global source;
    this restarts that source, as ``keras.utils.set_random_seed`` does.

    Parameters
    ----------
    seed : int
        Any integer that is not negative.

    Raises
    ------
    ValueError
        If ``seed`` is not such an integer.
    """
    global _source
    _source = np.random.default_rng(check_seed("set_random_seed", seed))


@contextmanager
def use_random_seed(seed: int) -> Iterator[None]:
    """`set_random_seed` for a block, after which the source goes on where it was."""
    global _source
    before = _source
    set_random_seed(seed)
    try:
        yield
    finally:
        _source = before


def draw_seed() -> int:
    """A fresh seed (63 bits) from the global source."""
    return int(_source.integers(0, 1 << 63))


def check_seed(owner: str, seed: object) -> int:
    """``seed`` as an int, or the error."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"[{owner}] seed={seed!r}; a non-negative integer or None is needed")
    return int(seed)


class SeedGenerator:
    """A sequence of 64-bit seeds: a pure function of (seed, number of calls so far).

    Parameters
    ----------
    seed : int, optional
        None draws one from the global source (see `set_random_seed`).

    Attributes
    ----------
    seed : int
    counter : int
        How many seeds were given out; setting it back repeats them.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = draw_seed() if seed is None else check_seed("SeedGenerator", seed)
        self.counter = 0

    def next(self) -> int:
        """The next seed: SplitMix64 (Steele, Lea, Flood 2014) of seed and counter."""
        self.counter += 1
        # A layer's seed is often a small number that its neighbour has too, plus one: mixing it
        # first keeps (seed 1, call 2) apart from (seed 2, call 1).
        return _mix(_mix(self.seed) + self.counter)


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)
