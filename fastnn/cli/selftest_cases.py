"""What the self-test runs: one small case of each operation that has a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import ops
from fastnn.types import RnnOutput, RnnWeights

Backward = Callable[[Any], Sequence[Any]]


class Case(NamedTuple):
    """``run(*arrays)`` gives the output and a function from its gradient to those of arrays."""

    op: str
    detail: str
    run: Callable[..., tuple[Any, Backward]]
    arrays: tuple[np.ndarray, ...]


def cases(rng: np.random.Generator) -> Iterator[Case]:
    """Float64 cases; sizes are primes, so that none fills a vector or a tile."""
    yield from _convolutions(rng)
    yield from _pools(rng)
    yield from _recurrences(rng)
    yield from _rest(rng)


def _plain(forward: Callable[..., Any], backward: Callable[..., Any], **options: Any) -> Any:
    """An op whose backward gives one gradient an array, alone or in a record."""

    def run(*arrays: Any) -> tuple[Any, Backward]:
        y, saved = forward(*arrays, **options)

        def back(dy: Any) -> Sequence[Any]:
            grads = backward(dy, saved)
            return grads if isinstance(grads, tuple) else (grads,)

        return y, back

    return run


def _convolutions(rng: np.random.Generator) -> Iterator[Case]:
    x, bias = rng.standard_normal((2, 9, 7, 4)), rng.standard_normal(6)
    for detail, groups, options in (
        ("same, stride 2, tanh", 1, {"padding": "same", "strides": 2, "activation": "tanh"}),
        ("groups 2, dilation 2", 2, {"groups": 2, "dilation": 2}),
    ):
        kernel = rng.standard_normal((3, 2, 4 // groups, 6))
        run = _plain(ops.conv2d_forward, ops.conv2d_backward, **options)
        yield Case("conv2d", detail, run, (x, kernel, bias))
    run = _plain(ops.conv1d_forward, ops.conv1d_backward, padding="causal")
    arrays = (rng.standard_normal((2, 11, 3)), rng.standard_normal((3, 3, 5)))
    yield Case("conv1d", "causal", run, (*arrays, rng.standard_normal(5)))


def _pools(rng: np.random.Generator) -> Iterator[Case]:
    # Distinct values far apart: a small step does not change which one is the largest.
    x = (1 + rng.permutation(2 * 7 * 5 * 3).reshape(2, 7, 5, 3)) / 10.0
    window = {"pool_size": 3, "strides": 2}
    run = _plain(ops.max_pool2d_forward, ops.max_pool2d_backward, **window)
    yield Case("max_pool2d", "3, stride 2", run, (x,))
    run = _plain(ops.avg_pool2d_forward, ops.avg_pool2d_backward, padding="same", **window)
    yield Case("avg_pool2d", "same", run, (x,))
    run = _plain(ops.stochastic_pool2d_forward, ops.stochastic_pool2d_backward, **window)
    yield Case("stochastic_pool2d", "inference", run, (x,))


def _recurrences(rng: np.random.Generator) -> Iterator[Case]:
    for cell, gates, detail, options in (
        ("simple_rnn", 1, "tanh", {}),
        ("lstm", 4, "gates kept", {}),
        ("lstm", 4, "gates computed again", {"keep": "states"}),
        ("gru", 3, "reset after", {}),
        ("gru", 3, "reset before", {"reset_after": False}),
        ("lstm", 4, "reverse, lengths, dropout", _noisy()),
    ):
        steps, batch, inputs, units = 5, 3, 2, 7
        states = 2 if cell == "lstm" else 1
        arrays = (
            rng.standard_normal((steps, batch, inputs)),
            rng.standard_normal((inputs, gates * units)),
            rng.standard_normal((units, gates * units)) / 3,
            rng.standard_normal(gates * units),
            *rng.standard_normal((states, batch, units)),
        )
        yield Case(cell, detail, _recurrence(cell, options), arrays)


def _noisy() -> dict[str, Any]:
    return {
        "reverse": True,
        "lengths": np.array([5, 2, 0]),
        "recurrent_dropout": 0.3,
        "zoneout": 0.2,
        "seed": 1,
    }


def _recurrence(cell: str, options: dict[str, Any]) -> Any:
    def run(x: Any, kernel: Any, recurrent: Any, bias: Any, *initial: Any) -> Any:
        out, saved = ops.rnn_forward(
            x,
            RnnWeights(kernel, recurrent, bias),
            initial if len(initial) == 2 else initial[0],
            cell=cell,
            **options,
        )

        def back(dy: Any) -> Sequence[Any]:
            grads = ops.rnn_backward(RnnOutput(dy), saved)
            first = grads.initial if isinstance(grads.initial, tuple) else (grads.initial,)
            return (grads.dx, *grads.weights[:3], *first)

        return out.y, back

    return run


def _rest(rng: np.random.Generator) -> Iterator[Case]:
    x = rng.standard_normal((5, 7))
    run = _plain(ops.dense_forward, ops.dense_backward, activation="sigmoid")
    yield Case("dense", "sigmoid", run, (x, rng.standard_normal((7, 3)), rng.standard_normal(3)))
    smooth = [
        name for name in ops.ACTIVATIONS if name not in ("relu", "leaky_relu", "hard_sigmoid")
    ]
    for name in smooth:
        run = _plain(ops.activation_forward, ops.activation_backward, activation=name)
        yield Case("activation", name, run, (x,))
    indices = rng.integers(0, 7, (3, 5))
    run = _plain(lambda table: ops.embedding_forward(indices, table), ops.embedding_backward)
    yield Case("embedding", "", run, (x.T.copy(),))
    run = _plain(ops.dropout_forward, ops.dropout_backward, rate=0.4, seed=3)
    yield Case("dropout", "", run, (x,))
    yield from _losses(rng, x)


def _losses(rng: np.random.Generator, x: np.ndarray) -> Iterator[Case]:
    classes = rng.integers(0, 7, 5)
    for name, y_true, from_logits in (
        ("mean_squared_error", x[::-1], False),
        ("huber", x[::-1], False),
        ("binary_crossentropy", (x[::-1] > 0).astype(float), True),
        ("categorical_crossentropy", np.eye(7)[classes], True),
        ("sparse_categorical_crossentropy", classes, True),
    ):
        yield Case("loss", name, _loss(name, y_true, from_logits), (x,))


def _loss(name: str, y_true: np.ndarray, from_logits: bool) -> Any:
    def run(y_pred: Any) -> tuple[Any, Backward]:
        value, saved = ops.loss_forward(y_true, y_pred, loss=name, from_logits=from_logits)
        return value, lambda scale: (ops.loss_backward(saved, scale=float(scale)),)

    return run
