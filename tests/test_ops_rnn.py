"""The recurrent contract on every backend: values, gradients, every option, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import rnn_oracle
from conftest import need
from hypothesis import given
from hypothesis import strategies as st
from rnn_cases import CELL_OPTIONS, DEEP, LARGE, SMALL, Case, Problem, make

from fastnn.dispatch import use_backend
from fastnn.kernels.cells import CELLS, saved_planes
from fastnn.ops.rnn import rnn_backward, rnn_backward_pair, rnn_forward, rnn_forward_pair
from fastnn.types import RnnOutput, RnnWeights

CASES = {**SMALL, **LARGE}


@pytest.fixture(params=sorted(CELL_OPTIONS))
def cell(request):
    return request.param


@pytest.fixture(params=list(CASES))
def case(request):
    return CASES[request.param]


@pytest.fixture(params=list(SMALL))
def small(request):
    return SMALL[request.param]


# --------------------------------------------------------------------------- helpers


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


# --------------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-12), ("float32", 2e-6)])
def test_forward_is_the_contract(backend, cell, case, dtype, bound):
    problem = make(case, cell, dtype)
    expected = oracle(problem)
    output, saved = forward(problem)
    assert saved.backend == backend
    assert output.y.dtype == dtype
    assert_close(output.y, expected.y, bound, "y")
    for got, want in zip(
        states_of(output.final), [expected.final_h, expected.final_c], strict=False
    ):
        assert got.dtype == dtype
        assert_close(got, want, bound, "final")
    for got, want in zip(states_of(output.states), [expected.y, expected.c], strict=False):
        assert_close(got, want, bound, "states")
    planes = saved_planes(problem.options["cell"], problem.options.get("reset_after", True))
    if planes == 0:
        assert saved.gates is None
    else:
        assert saved.gates.shape == (case.T, case.B, planes, case.H)
        for t, b in np.ndindex(case.T, case.B):
            if expected.gates[t][b] is not None:
                assert_close(saved.gates[t, b], np.array(expected.gates[t][b]), bound, "gates")


@pytest.mark.parametrize("name", DEEP)
def test_float32_stays_near_float64_in_deep_sums(backend, cell, name):
    rounded = make(DEEP[name], cell, np.float32)
    output, saved = forward(rounded)
    exact = Problem(
        np.float64(rounded.x),
        RnnWeights(*(None if w is None else np.float64(w) for w in rounded.weights)),
        tuple(map(np.float64, rounded.initial))
        if isinstance(rounded.initial, tuple)
        else np.float64(rounded.initial),
        rounded.options,
    )
    with use_backend("numpy"):
        expected, expected_saved = forward(exact)
        d = upstream(expected)
        expected_grads = rnn_backward(d, expected_saved)
    assert_close(output.y, expected.y, 2e-6, "y")
    for got, want in zip(states_of(output.final), states_of(expected.final), strict=True):
        assert_close(got, want, 2e-6, "final")
    grads = rnn_backward(upstream(output), saved)
    # d itself is rounded to float32, and BPTT adds 2 T roundings to forward's.
    assert_same_gradients(grads, expected_grads, 1e-5)


def test_keep_changes_nothing_but_what_is_saved(backend, cell, case):
    problem = make(case, cell)
    full, saved = forward(problem)
    lean, lean_saved = forward(problem, keep="states")
    none, nothing = forward(problem, keep=None)
    assert nothing is None and none.states is None
    assert lean_saved.gates is None
    for other in (lean, none):
        np.testing.assert_array_equal(other.y, full.y)
        for a, b in zip(states_of(other.final), states_of(full.final), strict=True):
            np.testing.assert_array_equal(a, b)
    d = upstream(full)
    assert_same_gradients(rnn_backward(d, lean_saved), rnn_backward(d, saved), 1e-12)


def test_states_of_h_are_y(backend, cell):
    output, saved = forward(make(Case(), cell))
    assert states_of(output.states)[0] is output.y
    assert saved.y is output.y


@pytest.mark.parametrize("reverse", [False, True])
def test_zoneout_without_seed_is_the_expected_state(backend, cell, reverse):
    case = Case(zoneout=0.3, reverse=reverse, lengths="uneven", mask="random")
    problem = make(case, cell)
    problem.options["seed"] = None
    expected = oracle(problem)
    output, saved = forward(problem, keep=None)
    assert saved is None
    assert_close(output.y, expected.y, 1e-12)
    assert_close(
        states_of(output.final)[-1],
        [expected.final_h, expected.final_c][len(states_of(output.final)) - 1],
        1e-12,
    )


def test_zoneout_rates_of_h_and_c_are_separate(backend):
    for rates in [(0.5, 0.0), (0.0, 0.5), (0.2, 0.7)]:
        problem = make(Case(zoneout=rates), "lstm")
        expected = oracle(problem)
        output, _ = forward(problem)
        assert_close(output.y, expected.y, 1e-12)
        assert_close(output.final[1], expected.final_c, 1e-12)
        assert directional_error(problem) <= 1e-7


def test_noise_depends_on_seed_and_on_nothing_else(backend, cell):
    problem = make(Case(T=4, B=6, H=7, recurrent_dropout=0.5, zoneout=0.3), cell)
    first, _ = forward(problem)
    again, _ = forward(problem, keep=None)
    np.testing.assert_array_equal(first.y, again.y)
    problem.options["seed"] += 2**32  # the high word of the key counts
    other, _ = forward(problem)
    assert not np.array_equal(first.y, other.y)


def test_lengths_are_truncated_runs(backend, cell):
    for reverse in (False, True):
        problem = make(Case(T=6, B=5, lengths="zeros", reverse=reverse), cell)
        output, _ = forward(problem)
        options = {k: v for k, v in problem.options.items() if k != "lengths"}
        for b, length in enumerate(problem.options["lengths"]):
            initial = problem.initial
            initial = (
                tuple(s[b : b + 1] for s in initial)
                if isinstance(initial, tuple)
                else initial[b : b + 1]
            )
            alone, _ = rnn_forward(
                problem.x[:length, b : b + 1], problem.weights, initial, **options
            )
            assert_close(output.y[:length, b], alone.y[:, 0], 1e-13)
            assert not output.y[length:, b].any()
            for a, e in zip(states_of(output.final), states_of(alone.final), strict=True):
                assert_close(a[b], e[0], 1e-13)


def test_resets_are_split_runs(backend, cell):
    for reverse in (False, True):
        problem = make(Case(T=7, B=3, reverse=reverse), cell)
        resets = np.zeros((7, 3), bool)
        resets[3] = True
        output, _ = rnn_forward(
            problem.x, problem.weights, problem.initial, resets=resets, **problem.options
        )
        at = 4 if reverse else 3
        for part in (slice(None, at), slice(at, None)):
            alone, _ = rnn_forward(
                problem.x[part], problem.weights, problem.initial, **problem.options
            )
            assert_close(output.y[part], alone.y, 1e-13)


def test_nothing_is_read_where_no_row_steps(backend, cell):
    """NaN in padding and under the mask reaches neither values nor gradients."""
    problem = make(Case(T=6, B=5, lengths="zeros", mask="random", reverse=True), cell)
    clean, clean_saved = forward(problem)
    lengths, mask = problem.options["lengths"], problem.options["mask"]
    live = np.arange(6)[:, None] < lengths
    dirty = problem.x.copy()
    dirty[~(live & mask)] = np.nan
    output, saved = forward(problem._replace(x=dirty))
    np.testing.assert_array_equal(output.y, clean.y)
    d = upstream(clean)
    d_dirty = RnnOutput(d.y.copy(), d.final, d.states)
    d_dirty.y[~live] = np.nan
    for keep in ("gates", "states"):
        _, saved = forward(problem._replace(x=dirty), keep=keep)
        grads = rnn_backward(d_dirty, saved)
        assert_same_gradients(grads, rnn_backward(d, clean_saved), 1e-13)
        assert not grads.dx[~(live & mask)].any()


def test_nan_and_infinity_pass_through(backend, cell):
    problem = make(Case(T=3, B=3), cell)
    problem.x[1, 0] = np.nan
    problem.x[1, 1] = np.inf
    with np.errstate(all="raise"):
        output, saved = forward(problem)
        grads = rnn_backward(upstream(output), saved)
    assert np.isfinite(output.y[0]).all() and np.isfinite(output.y[:, 2]).all()
    assert np.isnan(output.y[1:, 0]).all()
    assert np.isnan(grads.weights.kernel).any()
    assert np.isfinite(grads.dx[:, 2]).all()


def test_saturated_gates_are_finite(backend, cell):
    if cell == "relu":
        pytest.skip("relu does not saturate")
    problem = make(Case(), cell)
    problem.x[...] = np.where(problem.x > 0, 1e4, -1e4)
    for dtype in (np.float32, np.float64):
        cast = Problem(
            problem.x.astype(dtype),
            RnnWeights(*(None if w is None else w.astype(dtype) for w in problem.weights)),
            None,
            problem.options,
        )
        with np.errstate(all="raise"):
            output, saved = forward(cast)
            grads = rnn_backward(upstream(output), saved)
        assert np.isfinite(output.y).all() and np.isfinite(grads.weights.kernel).all()


# --------------------------------------------------------------------------- gradients


def test_every_gradient_by_central_differences(backend, cell, small):
    problem = make(small, cell)
    output, saved = forward(problem)
    d = upstream(output)
    arrays = inputs_of(problem)
    analytic = gradients_of(problem, rnn_backward(d, saved))
    step = 1e-4
    for name, a in arrays.items():
        numeric = np.zeros(a.shape)
        for at in np.ndindex(a.shape):
            values = []
            for distance in (step, -step, 2 * step, -2 * step):
                moved = a.copy()
                moved[at] += distance
                values.append(
                    loss(forward(with_inputs(problem, arrays | {name: moved}), "states")[0], d)
                )
            numeric[at] = (8 * (values[0] - values[1]) - values[2] + values[3]) / (12 * step)
        assert_close(analytic[name], numeric, 1e-7, name)


@pytest.mark.parametrize("name", LARGE)
def test_gradients_along_a_direction(backend, cell, name):
    problem = make(LARGE[name], cell)
    assert directional_error(problem, step=1e-6 if cell == "relu" else 1e-4) <= 1e-7


PATTERNS = {
    "lengths": ("uneven", "zeros", "all_zero"),
    "mask": ("random", "row", "none"),
    "resets": ("random", "all"),
}


@st.composite
def random_cases(draw):
    """Any sizes with any options together."""
    sizes = [draw(st.integers(1, most)) for most in (6, 19, 21, 37)]
    flags = [draw(st.booleans()) for _ in range(4)]
    patterns = {name: draw(st.sampled_from((None, *p))) for name, p in PATTERNS.items()}
    rates = [draw(st.sampled_from((None, 0.0, 0.3, 0.9))) for _ in range(2)]
    return Case(*sizes, *flags, **patterns, recurrent_dropout=rates[0], zoneout=rates[1])


@given(case=random_cases(), seed=st.integers(0, 2**32))
def test_random_cases(backend, cell, case, seed):
    problem = make(case, cell, seed=seed)
    expected = oracle(problem)
    output, _ = forward(problem)
    assert_close(output.y, expected.y, 1e-12, "y")
    assert_close(states_of(output.final)[0], expected.final_h, 1e-12, "final")
    if cell != "relu":  # whose kinks a random case would meet
        assert directional_error(problem) <= 1e-7


def test_each_upstream_field_may_be_missing(backend, cell):
    problem = make(Case(lengths="zeros"), cell)
    output, saved = forward(problem)
    d = upstream(output)
    whole = rnn_backward(d, saved)
    parts = [RnnOutput(d.y), RnnOutput(None, d.final), RnnOutput(None, None, d.states)]
    if isinstance(d.final, tuple):
        parts[1:] = [
            RnnOutput(None, (d.final[0], None)),
            RnnOutput(None, (None, d.final[1])),
            RnnOutput(None, (None, None), (d.states[0], None)),
            RnnOutput(None, None, (None, d.states[1])),
        ]
    found = [gradients_of(problem, rnn_backward(part, saved)) for part in parts]
    for name, total in gradients_of(problem, whole).items():
        assert_close(sum(f[name] for f in found), total, 1e-13, name)
    nothing = gradients_of(problem, rnn_backward(RnnOutput(None), saved))
    assert all(not g.any() for g in nothing.values())


def test_forward_and_backward_on_different_backends(two_backends, cell, case, dtype):
    first, second = two_backends
    problem = make(case, cell, dtype)
    with use_backend(first):
        output, saved = forward(problem)
    d = upstream(output)
    bound = 1e-12 if dtype == np.float64 else 1e-5
    assert_same_gradients(
        rnn_backward(d, saved._replace(backend=second)), rnn_backward(d, saved), bound
    )


def test_backward_stays_with_the_saved_backend(backend):
    output, saved = forward(make(Case(), "lstm"))
    with use_backend("numpy"):
        assert saved.backend == backend
        rnn_backward(upstream(output), saved)


# --------------------------------------------------------------------------- memory


def layouts(problem: Problem):
    """The same problem in other memory."""

    def transposed(a):
        return np.ascontiguousarray(a.T).T

    def strided(a):
        wide = np.full([2 * n + 1 for n in a.shape], np.nan, a.dtype)
        view = wide[tuple(slice(1, 2 * n, 2) for n in a.shape)]
        view[...] = a
        return view

    def backwards(a):
        return np.ascontiguousarray(a[::-1])[::-1]

    for change in (transposed, strided, backwards):
        arrays = {name: change(a) for name, a in inputs_of(problem).items()}
        yield change.__name__, with_inputs(problem, arrays)


def test_any_memory_layout(backend, cell):
    problem = make(Case(T=4, B=5, I=6, H=9, recurrent_bias=True), cell)
    expected, saved = forward(problem)
    d = upstream(expected)
    expected_grads = rnn_backward(d, saved)
    for name, other in layouts(problem):
        for array in inputs_of(other).values():
            array.flags.writeable = False
        output, saved = forward(other)
        assert_close(output.y, expected.y, 1e-13, name)
        wide = np.repeat(d.y, 2, axis=2)[:, :, ::2]
        wide.flags.writeable = False
        assert_same_gradients(rnn_backward(d._replace(y=wide), saved), expected_grads, 1e-12)


def test_y_comes_back_in_the_memory_order_of_x(backend, cell):
    problem = make(Case(T=4, B=5, H=8), cell)
    batch_major = np.ascontiguousarray(problem.x.transpose(1, 0, 2)).transpose(1, 0, 2)
    for x, first in ((problem.x, 0), (batch_major, 1)):
        output, saved = forward(problem._replace(x=x))
        assert output.y.strides[first] == max(output.y.strides)
        dx = rnn_backward(upstream(output), saved).dx
        assert dx.strides[first] == max(dx.strides)


def test_inputs_are_unchanged_and_outputs_fresh(backend, cell):
    problem = make(SMALL["everything"], cell)
    arrays = inputs_of(problem) | {
        name: a for name, a in problem.options.items() if isinstance(a, np.ndarray)
    }
    before = {name: a.copy() for name, a in arrays.items()}
    output, saved = forward(problem)
    d = upstream(output)
    kept = [output.y, *states_of(output.final), *states_of(d.final), d.y]
    kept_before = [a.copy() for a in kept]
    grads = rnn_backward(d, saved)
    again = rnn_backward(d, saved)
    assert_same_gradients(again, grads, 0)
    for name, a in arrays.items():
        np.testing.assert_array_equal(a, before[name], name)
    for a, b in zip(kept, kept_before, strict=True):
        np.testing.assert_array_equal(a, b)
    for result in (output.y, *states_of(output.final), *gradients_of(problem, grads).values()):
        assert result.flags.writeable
        assert not any(np.shares_memory(result, a) for a in arrays.values())


@pytest.mark.parametrize("sizes", [{"T": 0}, {"B": 0}, {"T": 0, "B": 0}])
@pytest.mark.parametrize("keep", ["gates", "states", None])
def test_empty(backend, cell, sizes, keep):
    case = Case(recurrent_bias=True, **sizes)
    for options in ({}, {"reverse": True}, {"recurrent_dropout": 0.5, "zoneout": 0.5, "seed": 1}):
        problem = make(case, cell)
        flags = np.ones((case.T, case.B), bool)
        problem.options.update(options, lengths=[case.T] * case.B, mask=flags, resets=flags)
        output, saved = forward(problem, keep)
        assert output.y.shape == (case.T, case.B, case.H)
        finals = zip(states_of(output.final), states_of(problem.initial), strict=True)
        for final, initial in finals:
            np.testing.assert_array_equal(final, initial)
        if saved is None:
            continue
        d = upstream(output)
        grads = rnn_backward(d, saved)
        assert grads.dx.shape == problem.x.shape
        for g, w in zip(grads.weights, problem.weights, strict=True):
            assert g.shape == w.shape and not g.any()
        for g, df in zip(states_of(grads.initial), states_of(d.final), strict=True):
            np.testing.assert_array_equal(g, df)


@pytest.mark.parametrize("name", ["primes_options", "vectors", "one_row", "many_rows"])
def test_the_same_bits_for_any_number_of_threads(cell, dtype, name):
    need("cython")
    from fastnn.threads import use_num_threads

    problem = make(LARGE[name], cell, dtype)
    found = []
    for threads in (1, 2, 4):
        with use_backend("cython"), use_num_threads(threads):
            output, saved = forward(problem)
            grads = rnn_backward(upstream(output), saved)
        gradients = gradients_of(problem, grads).values()
        found.append([output.y, *states_of(output.final), *states_of(output.states), *gradients])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("name", ["primes", "primes_options", "vectors"])
def test_a_pair_is_two_calls(backend, cell, name, threads):
    from fastnn.threads import use_num_threads

    one = make(LARGE[name], cell, np.float32)
    other = make(LARGE[name]._replace(reverse=True, H=29), cell, np.float32, seed=2)
    calls = [
        {"x": p.x, "weights": p.weights, "initial": p.initial, **p.options} for p in (one, other)
    ]
    with use_num_threads(threads):
        alone = [rnn_forward(**call) for call in calls]
        paired = rnn_forward_pair(*calls)
        d = [upstream(output) for output, _ in alone]
        grads = [rnn_backward(d[i], alone[i][1], need_dx=name != "primes") for i in (0, 1)]
        paired_grads = rnn_backward_pair(
            *((d[i], paired[i][1]) for i in (0, 1)), need_dx=name != "primes"
        )
    for (a, _), (b, _), da, db in zip(alone, paired, grads, paired_grads, strict=True):
        arrays = zip(
            [a.y, *states_of(a.final), da.dx, *da.weights, *states_of(da.initial)],
            [b.y, *states_of(b.final), db.dx, *db.weights, *states_of(db.initial)],
            strict=True,
        )
        for x, y in arrays:
            assert (x is None) == (y is None)
            if x is not None:
                np.testing.assert_array_equal(x, y)


def test_a_pair_may_differ_in_dtype(backend):
    one, other = make(Case(), "lstm", np.float32), make(Case(), "tanh", np.float64)
    calls = [{"x": p.x, "weights": p.weights, **p.options} for p in (one, other)]
    (a, _), (b, saved) = rnn_forward_pair(*calls)
    assert a.y.dtype == np.float32 and b.y.dtype == np.float64
    np.testing.assert_array_equal(b.y, rnn_forward(**calls[1])[0].y)
    with pytest.raises(TypeError, match=r"\[rnn_backward\] d_output.y"):
        rnn_backward_pair((RnnOutput(a.y), saved), (RnnOutput(b.y), saved))


# --------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("kind", [list, tuple, *"bBhHiIlLqQ"])
def test_lengths_in_any_integer_form(backend, kind):
    problem = make(Case(lengths="zeros"), "lstm")
    expected, _ = forward(problem)
    given = problem.options["lengths"]
    given = kind(given.tolist()) if isinstance(kind, type) else given.astype(kind)
    problem.options["lengths"] = given
    output, saved = forward(problem)
    np.testing.assert_array_equal(output.y, expected.y)
    assert saved.spec.lengths.dtype == np.int64


def test_options_in_the_record_are_resolved(backend):
    problem = make(Case(), "gru_after")
    _, saved = forward(problem)
    assert saved.spec == ("gru", "tanh", True, False, None, None, None, 0.0, (0.0, 0.0), None)
    problem.options.update(zoneout=np.float32(0.5), seed=np.int64(3), lengths=[5, 5, 5])
    _, saved = forward(problem)
    assert saved.spec.zoneout == (0.5, 0.0)
    assert type(saved.spec.seed) is int
    assert saved.spec.lengths is None  # all rows have all steps


def test_initial_may_be_a_list(backend):
    problem = make(Case(), "lstm")
    expected, _ = forward(problem)
    output, saved = forward(problem._replace(initial=list(problem.initial)))
    np.testing.assert_array_equal(output.y, expected.y)
    assert type(saved.initial) is tuple


T, B, I, H = 5, 3, 2, 4


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def weights(gates=4, **changes):
    good = RnnWeights(ones(I, gates * H), ones(H, gates * H), ones(gates * H), ones(gates * H))
    return good._replace(**changes)


# (changes to a good LSTM call, the error, what it must say)
BAD = [
    ({"x": ones(B, I)}, ValueError, r"x is float32 \[3, 2\]; \[T, B, I\] is needed"),
    ({"x": ones(T, B, 0)}, ValueError, r"x is float32 \[5, 3, 0\]"),
    ({"x": ones(T, B, I, dtype=np.int64)}, TypeError, "x is int64.*float32 or float64"),
    ({"x": ones(T, B, I, dtype=np.float16)}, TypeError, "x is float16"),
    ({"x": ones(T, B, I, dtype=">f4")}, TypeError, "x is >f4"),
    ({"x": ones(T, B, I, dtype=np.float64)}, TypeError, "x is float64 and kernel is float32"),
    ({"x": [[[1.0, 2.0]]]}, TypeError, "x is a list"),
    ({"x": None}, TypeError, "x is None"),
    ({"x": ones(T, B, I + 1)}, ValueError, r"kernel is float32 \[2, 16\]; \[3, 16\] is needed"),
    ({"weights": (ones(I, 16), ones(H, 16))}, TypeError, "weights is a tuple; RnnWeights"),
    ({"weights": weights(kernel=None)}, TypeError, "kernel is None"),
    ({"weights": weights(recurrent_kernel=None)}, TypeError, "recurrent_kernel is None"),
    (
        {"weights": weights(kernel=ones(I, 12))},
        ValueError,
        r"kernel is float32 \[2, 12\]; \[2, 16\]",
    ),
    ({"weights": weights(kernel=ones(I * 16))}, ValueError, r"kernel is float32 \[32\]; \[2, 16\]"),
    (
        {"weights": weights(gates=3)},
        ValueError,
        r"recurrent_kernel is float32 \[4, 12\]; \[H, 4\*H\]",
    ),
    ({"weights": weights(recurrent_kernel=ones(16))}, ValueError, r"\[H, 4\*H\]"),
    ({"weights": weights(recurrent_kernel=ones(0, 0))}, ValueError, "H of at least 1"),
    (
        {"weights": weights(recurrent_kernel=ones(H, 16, dtype=np.float64))},
        TypeError,
        "x is float32 and recurrent_kernel is float64",
    ),
    ({"weights": weights(bias=ones(15))}, ValueError, r"bias is float32 \[15\].*\[16\]"),
    ({"weights": weights(bias=ones(1, 16))}, ValueError, r"bias is float32 \[1, 16\].*\[16\]"),
    ({"weights": weights(bias=ones(16, dtype=np.float64))}, TypeError, "bias is float64"),
    ({"weights": weights(recurrent_bias=ones(4))}, ValueError, r"recurrent_bias is float32 \[4\]"),
    ({"weights": weights(bias=[0.0] * 16)}, TypeError, "bias is a list"),
    ({"cell": "rnn"}, ValueError, "cell is 'rnn'; one of simple_rnn, lstm, gru"),
    ({"cell": None}, ValueError, "cell is None"),
    ({"cell": ["lstm"]}, ValueError, "cell is"),
    ({"activation": "relu"}, ValueError, "activation of lstm is 'relu'; one of tanh"),
    ({"activation": None}, ValueError, "activation of lstm is None"),
    ({"keep": "all"}, ValueError, "keep is 'all'; one of gates, states, None"),
    ({"keep": True}, ValueError, "keep is True"),
    (
        {"initial": ones(B, H)},
        TypeError,
        r"initial is an array float32 \[3, 4\]; the pair \(h, c\)",
    ),
    ({"initial": (ones(B, H),)}, TypeError, "initial is a tuple of 1; the pair"),
    ({"initial": (ones(B, H), None)}, TypeError, "initial c is a NoneType; an array"),
    ({"initial": (ones(B, H), ones(H))}, ValueError, r"initial c is float32 \[4\]"),
    ({"initial": (ones(1, H), ones(B, H))}, ValueError, r"initial h is float32 \[1, 4\]"),
    ({"initial": (ones(B, H), ones(B, H, dtype=np.float64))}, TypeError, "initial c is float64"),
    ({"lengths": [1, 2]}, ValueError, r"lengths is int64 \[2\].*\[3\]"),
    ({"lengths": 3}, TypeError, "lengths is a int; 3 integers"),
    ({"lengths": [1, 2, 6]}, ValueError, "lengths reach from 1 to 6; 0 to T = 5"),
    ({"lengths": [-1, 2, 3]}, ValueError, "lengths reach from -1 to 3"),
    ({"lengths": np.array([1, 2, 2**63], np.uint64)}, ValueError, "lengths reach from 1 to 9223"),
    ({"lengths": [2**70, 1, 1]}, TypeError, "lengths is object"),
    ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths is float64"),
    ({"lengths": [True, False, True]}, TypeError, "lengths is bool"),
    ({"lengths": [[1], [2, 3], 4]}, TypeError, "lengths is a list of 3; 3 integers"),
    ({"lengths": np.ones((B, 1), int)}, ValueError, r"lengths is int64 \[3, 1\]"),
    ({"mask": np.ones((B, T), bool)}, ValueError, r"mask is bool \[3, 5\].*\[5, 3\]"),
    ({"mask": ones(T, B)}, TypeError, "mask is float32.*bool is needed"),
    ({"mask": [[True] * B] * T}, TypeError, "mask is a list"),
    ({"resets": np.ones(T, bool)}, ValueError, r"resets is bool \[5\].*\[5, 3\]"),
    ({"resets": np.ones((T, B), np.int8)}, TypeError, "resets is int8"),
    ({"recurrent_dropout": 1.0, "seed": 1}, ValueError, "recurrent_dropout is 1.0; 0 <="),
    ({"recurrent_dropout": -0.1, "seed": 1}, ValueError, "recurrent_dropout is -0.1"),
    ({"recurrent_dropout": float("nan"), "seed": 1}, ValueError, "recurrent_dropout is nan"),
    ({"recurrent_dropout": float("inf"), "seed": 1}, ValueError, "recurrent_dropout is inf"),
    ({"recurrent_dropout": "x", "seed": 1}, TypeError, "recurrent_dropout is 'x'; a number"),
    ({"recurrent_dropout": 0.5}, ValueError, "recurrent_dropout is 0.5 and seed is None"),
    ({"recurrent_dropout": 0.5, "keep": None}, ValueError, "seed is None"),
    ({"zoneout": 0.5}, ValueError, r"zoneout is \(0.5, 0.5\) and seed is None"),
    ({"zoneout": 0.5, "keep": "states"}, ValueError, "or keep=None"),
    ({"zoneout": (0.5,), "seed": 1}, ValueError, "zoneout is .*a pair of rates"),
    ({"zoneout": (0.1, 1.5), "seed": 1}, ValueError, "zoneout of c is 1.5"),
    ({"zoneout": (-0.1, 0.5), "seed": 1}, ValueError, "zoneout of h is -0.1"),
    ({"zoneout": float("nan"), "seed": 1}, ValueError, "zoneout is nan"),
    ({"seed": -1}, ValueError, "seed is -1"),
    ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
    ({"seed": 1.5}, TypeError, "seed is 1.5; an integer"),
    ({"x": np.broadcast_to(np.float32(1), (2**40, 2**18, I))}, ValueError, r"2\*\*60 elements"),
]


@pytest.mark.parametrize("changes, error, message", BAD, ids=[bad[2] for bad in BAD])
def test_bad_input_is_told(backend, changes, error, message):
    arguments = {"x": ones(T, B, I), "weights": weights(), "cell": "lstm"} | changes
    with pytest.raises(error, match=rf"^\[rnn_forward\] .*{message}"):
        rnn_forward(**arguments)


def test_bad_input_of_other_cells_is_told(backend):
    x = ones(T, B, I)
    with pytest.raises(ValueError, match=r"zoneout of c is 0\.5; 0 is needed, gru has no c"):
        rnn_forward(x, weights(3), cell="gru", zoneout=(0.5, 0.5), seed=1)
    with pytest.raises(TypeError, match="initial is a tuple of 2; an array"):
        rnn_forward(x, weights(3), (ones(B, H), ones(B, H)), cell="gru")
    with pytest.raises(
        ValueError, match="activation of simple_rnn is 'sigmoid'; one of tanh, relu"
    ):
        rnn_forward(x, weights(1), cell="simple_rnn", activation="sigmoid")


BAD_GRADIENTS = [
    (ones(T, B, H), TypeError, "d_output is a ndarray; RnnOutput"),
    (RnnOutput(ones(T, B, H + 1)), ValueError, r"d_output.y is float32 \[5, 3, 5\]"),
    (RnnOutput(ones(T, B, H, dtype=np.float64)), TypeError, "d_output.y is float64"),
    (RnnOutput([1.0]), TypeError, "d_output.y is a list of 1"),
    (RnnOutput(None, ones(B, H)), TypeError, r"d_output.final is an array .*the pair \(h, c\)"),
    (RnnOutput(None, (ones(B, H), ones(H))), ValueError, "d_output.final c is float32"),
    (RnnOutput(None, None, (ones(B, H), None)), ValueError, "d_output.states h is float32"),
    (RnnOutput(None, None, (None,)), TypeError, "d_output.states is a tuple of 1"),
]


@pytest.mark.parametrize("d, error, message", BAD_GRADIENTS, ids=[b[2] for b in BAD_GRADIENTS])
def test_bad_gradients_are_told(backend, d, error, message):
    _, saved = rnn_forward(ones(T, B, I), weights(), cell="lstm")
    with pytest.raises(error, match=rf"^\[rnn_backward\] .*{message}"):
        rnn_backward(d, saved)


def test_backward_needs_what_forward_kept(backend):
    output, saved = rnn_forward(ones(T, B, I), weights(), cell="lstm", keep=None)
    with pytest.raises(TypeError, match=r"^\[rnn_backward\] saved is None"):
        rnn_backward(RnnOutput(output.y), saved)
    with pytest.raises(TypeError, match=r"^\[rnn_backward\] saved is a str"):
        rnn_backward(RnnOutput(output.y), "saved")
