"""What the self-test runs: small cases of each operation that has a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn.ops import ACTIVATIONS
from fastnn.types import RnnWeights


class Case(NamedTuple):
    """``gradcheck(op, *inputs, **options)``."""

    op: str
    detail: str
    inputs: tuple[Any, ...]
    options: dict[str, Any]


def cases(rng: np.random.Generator) -> Iterator[Case]:
    """Sizes are primes where they can be, so that few fill a vector or a tile."""
    yield from _convolutions(rng)
    yield from _pools(rng)
    yield from _recurrences(rng)
    yield from _rest(rng)


def _convolutions(rng: np.random.Generator) -> Iterator[Case]:
    x, bias = rng.standard_normal((2, 9, 7, 4)), rng.standard_normal(6)
    for detail, groups, options in (
        ("same, stride 2, tanh", 1, {"padding": "same", "strides": 2, "activation": "tanh"}),
        ("groups 2, dilation 2", 2, {"groups": 2, "dilation": 2}),
    ):
        kernel = rng.standard_normal((3, 2, 4 // groups, 6))
        yield Case("conv2d", detail, (x, kernel, bias), options)
    inputs = tuple(rng.standard_normal(shape) for shape in ((2, 11, 3), (3, 3, 5), (5,)))
    yield Case("conv1d", "causal", inputs, {"padding": "causal"})


def _pools(rng: np.random.Generator) -> Iterator[Case]:
    # Positive and far apart: a small step changes neither which is the largest nor a sign.
    x = (1 + rng.permutation(2 * 7 * 5 * 3).reshape(2, 7, 5, 3)) / 10.0
    window = {"pool_size": 3, "strides": 2}
    yield Case("max_pool2d", "3, stride 2", (x,), window)
    yield Case("avg_pool2d", "3, stride 2, same", (x,), {"padding": "same", **window})
    yield Case("stochastic_pool2d", "3, stride 2, inference", (x,), window)


def _recurrences(rng: np.random.Generator) -> Iterator[Case]:
    noisy = {
        "reverse": True,
        "lengths": np.array([5, 2, 0]),
        "recurrent_dropout": 0.3,
        "zoneout": 0.2,
        "seed": 1,
    }
    for cell, gates, detail, options in (
        ("simple_rnn", 1, "tanh", {}),
        ("lstm", 4, "gates kept", {}),
        ("lstm", 4, "gates again", {"keep": "states"}),
        ("lstm", 4, "reverse, lengths, noise", noisy),
        ("gru", 3, "reset after", {}),
        ("gru", 3, "reset before", {"reset_after": False}),
    ):
        steps, batch, inputs, units = 5, 3, 2, 7
        x = rng.standard_normal((steps, batch, inputs))
        weights = RnnWeights(
            rng.standard_normal((inputs, gates * units)),
            rng.standard_normal((units, gates * units)) / 3,
            rng.standard_normal(gates * units),
        )
        h, c = rng.standard_normal((2, batch, units))
        initial = (h, c) if cell == "lstm" else h
        yield Case("rnn", f"{cell}, {detail}", (x, weights, initial), {"cell": cell, **options})


def _rest(rng: np.random.Generator) -> Iterator[Case]:
    x, y = rng.standard_normal((2, 5, 7))
    kernel, bias = rng.standard_normal((7, 3)), rng.standard_normal(3)
    yield Case("dense", "sigmoid", (x, kernel, bias), {"activation": "sigmoid"})
    for name in ACTIVATIONS:
        yield Case("activation", name, (x,), {"activation": name})
    yield Case("embedding", "repeated indices", (rng.integers(0, 5, (3, 4)), x), {})
    yield Case("dropout", "rate 0.4", (x,), {"rate": 0.4, "seed": 3})
    classes = rng.integers(0, 7, 5)
    for name, y_true, from_logits in (
        ("mean_squared_error", y, False),
        ("mean_absolute_error", y, False),
        ("huber", y, False),
        ("binary_crossentropy", (y > 0).astype(np.float64), True),
        ("categorical_crossentropy", np.eye(7)[classes], True),
        ("sparse_categorical_crossentropy", classes, True),
    ):
        yield Case("loss", name, (y_true, x), {"loss": name, "from_logits": from_logits})
