"""What the tests of the recurrent operations share: calls, gradients by name, comparison."""

from __future__ import annotations

import numpy as np
import pytest
import rnn_oracle
from rnn_cases import LARGE, SMALL, Problem

from fastnn.kernels.cells import CELLS
from fastnn.ops.rnn import rnn_backward, rnn_forward
from fastnn.types import RnnOutput, RnnWeights

CASES = {**SMALL, **LARGE}
case_of = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def forward(problem: Problem, keep="gates"):
    return rnn_forward(problem.x, problem.weights, problem.initial, keep=keep, **problem.options)


def oracle(problem: Problem) -> rnn_oracle.Result:
    return rnn_oracle.run(problem.x, problem.weights, problem.initial, **problem.options)


def states_of(value):
    """h, or h and c, as a list."""
    return list(value) if isinstance(value, tuple) else [value]


def upstream(output: RnnOutput, seed: int = 7) -> RnnOutput:
    """Random gradients for every field of an output."""
    rng = np.random.default_rng(seed)

    def like(a):
        if isinstance(a, tuple):
            return tuple(like(part) for part in a)
        return rng.standard_normal(a.shape).astype(a.dtype)

    return RnnOutput(like(output.y), like(output.final), like(output.states))


def loss(output: RnnOutput, d: RnnOutput) -> float:
    """The scalar whose gradient with respect to the output is d."""
    total = 0.0
    for value, weight in zip(output, d, strict=True):
        if weight is not None:
            for a, w in zip(states_of(value), states_of(weight), strict=True):
                if w is not None:
                    total += float(np.vdot(a, w))
    return total


def inputs_of(problem: Problem) -> dict[str, np.ndarray]:
    """Every array that has a gradient, by name; initial zeros where none was given."""
    arrays = {"x": problem.x}
    arrays |= {n: w for n, w in problem.weights._asdict().items() if w is not None}
    kind = CELLS[problem.options["cell"]]
    B, H = problem.x.shape[1], len(problem.weights.recurrent_kernel)
    given = [np.zeros((B, H), problem.x.dtype)] * len(kind.states)
    if problem.initial is not None:
        given = states_of(problem.initial)
    return arrays | {f"initial {s}": a for s, a in zip(kind.states, given, strict=True)}


def with_inputs(problem: Problem, arrays: dict[str, np.ndarray]) -> Problem:
    initial = tuple(a for name, a in arrays.items() if name.startswith("initial"))
    weights = RnnWeights(*(arrays.get(name) for name in RnnWeights._fields))
    return Problem(
        arrays["x"], weights, initial if len(initial) > 1 else initial[0], problem.options
    )


def gradients_of(problem: Problem, grads) -> dict[str, np.ndarray]:
    found = {"x": grads.dx}
    found |= {n: g for n, g in grads.weights._asdict().items() if g is not None}
    kind = CELLS[problem.options["cell"]]
    states = zip(kind.states, states_of(grads.initial), strict=True)
    return found | {f"initial {s}": g for s, g in states}


def assert_close(actual, expected, bound, what=""):
    """Within ``bound`` of the largest magnitude."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape}, not {expected.shape}"
    error = np.abs(np.float64(actual) - expected).max(initial=0)
    scale = np.abs(expected).max(initial=0)
    assert error <= bound * max(scale, 1e-3), f"{what}: {error:.3g} of {scale:.3g}"


def assert_same_gradients(actual, expected, bound):
    assert_close(actual.dx, expected.dx, bound, "x")
    for name, a, e in zip(RnnWeights._fields, actual.weights, expected.weights, strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            assert_close(a, e, bound, name)
    for a, e in zip(states_of(actual.initial), states_of(expected.initial), strict=True):
        assert_close(a, e, bound, "initial")


def directional_error(problem: Problem, step: float = 1e-4, seed: int = 3) -> float:
    """Relative error of the gradient along a random direction of all inputs at once."""
    output, saved = forward(problem)
    d = upstream(output)
    analytic = gradients_of(problem, rnn_backward(d, saved))
    arrays = inputs_of(problem)
    rng = np.random.default_rng(seed)
    along = {name: rng.standard_normal(a.shape) for name, a in arrays.items()}
    expected = sum(float(np.vdot(analytic[name], v)) for name, v in along.items())

    def at(distance):
        moved = {name: a + distance * along[name] for name, a in arrays.items()}
        return loss(forward(with_inputs(problem, moved), keep="states")[0], d)

    # Fourth order, so that the step can stay large against rounding.
    numeric = (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / (12 * step)
    size = sum(float(np.linalg.norm(analytic[n]) * np.linalg.norm(v)) for n, v in along.items())
    return abs(numeric - expected) / max(size, 1e-6)
