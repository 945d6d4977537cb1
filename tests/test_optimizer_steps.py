"""Steps of optimizers in one pass, where the backend has them: as NumPy's functions make them."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import optimizers
from fastnn.optimizers import base

CASES = [
    (optimizers.SGD, {}),
    (optimizers.SGD, {"momentum": 0.9}),
    (optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    (optimizers.RMSprop, {}),
    (optimizers.RMSprop, {"momentum": 0.5}),
    (optimizers.RMSprop, {"centered": True}),
    (optimizers.RMSprop, {"momentum": 0.5, "centered": True}),
    (optimizers.Adam, {}),
    (optimizers.Adam, {"amsgrad": True}),
]
NAMES = [" ".join([kind.__name__, *options]) for kind, options in CASES]
SIZES = (0, 1, 15, 17, 4097, 70_001)
FUSED = {
    "cython": (optimizers.SGD, optimizers.RMSprop, optimizers.Adam),
    "numba": (optimizers.SGD, optimizers.Adam),
}
BOUND = {"float32": 4e-6, "float64": 1e-14}

every_step = pytest.mark.parametrize(("kind", "options"), CASES, ids=NAMES)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
quiet = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of infinities


def by_functions(kind):
    """The class with an update of its own, here that of its base: NumPy's functions."""

    def update(self, *arguments):
        kind.update(self, *arguments)

    return type(kind.__name__, (kind,), {"update": update})


@pytest.fixture
def fused(monkeypatch):
    """What `make_step` answered, in order."""
    answers: list[bool] = []
    original = base.make_step

    def spy(step):
        answers.append(original(step))
        return answers[-1]

    monkeypatch.setattr(base, "make_step", spy)
    return answers


def guarded(values):
    """A copy of the values, and the longer array that it is the head of."""
    whole = np.full(values.size + 40, 7, values.dtype)
    whole[: values.size] = values
    return whole[: values.size], whole


@quiet
@every_step
@both_dtypes
def test_one_pass_is_the_same(backend, rng, fused, kind, options, dtype):
    for size in SIZES:
        pair = kind(0.1, **options), by_functions(kind)(0.1, **options)
        start = rng.normal(size=size).astype(dtype)
        weights, wholes = zip(guarded(start), guarded(start), strict=True)
        fused.clear()
        for step in range(4):
            gradient = rng.normal(size=size).astype(dtype)
            gradient[step :: size // 2 + 1] = 0
            if size >= 15 and step == 2:
                gradient[[3, 7, -1]] = np.nan, np.inf, -np.inf
            before = gradient.copy()
            for optimizer, weight in zip(pair, weights, strict=True):
                optimizer.apply([gradient], [weight])
            np.testing.assert_array_equal(gradient, before)
        assert fused == [kind in FUSED.get(backend.partition("-")[0], ())] * 4
        np.testing.assert_allclose(*weights, rtol=0, atol=BOUND[dtype])
        assert np.isfinite(weights[0]).sum() == size - 3 * (size >= 15)
        assert (wholes[0][size:] == 7).all()
        one, other = (optimizer.get_state() for optimizer in pair)
        assert one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_allclose(value, other[key], rtol=0, atol=BOUND[dtype], err_msg=key)


@every_step
def test_steps_do_not_depend_on_threads(rng, kind, options):
    gradients, start = rng.normal(size=(2, 70_001)).astype("float32"), rng.normal(size=70_001)
    found = []
    for threads in (1, 2, 3):
        optimizer, w = kind(**options), start.astype("float32")
        with fastnn.use_num_threads(threads):
            for gradient in gradients:
                optimizer.apply([gradient], [w])
        found.append(w)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


LAYOUTS = {
    "strided": lambda: np.ones(100)[::2],
    "unaligned": lambda: np.frombuffer(bytearray(401), "f8", 50, offset=1),
    "Fortran's": lambda: np.ones((5, 10), order="F"),
    "another dtype": lambda: np.ones(50, "f4"),
    "not native": lambda: np.ones(50, np.dtype("f8").newbyteorder()),
}


@every_step
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_that_the_kernel_does_not_take(rng, fused, layout, kind, options):
    w = LAYOUTS[layout]()
    w[...] = 1
    gradient, expected = rng.normal(size=w.shape), np.ones(w.shape)
    kind(**options).apply([gradient], [w])
    by_functions(kind)(**options).apply([gradient], [expected])
    assert fused == [False]
    np.testing.assert_allclose(w, expected, rtol=1e-6 if w.dtype == "f4" else 1e-12)


@every_step
def test_read_only_weights_are_refused(kind, options):
    w = np.ones(50)
    w.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        kind(**options).apply([np.ones(50)], [w])
    assert (w == 1).all()


class Mixin:
    """An update of its own, before the optimizer in the order of classes."""

    def update(self, weight, gradient, slots, scratch, rate):
        weight += 1


class Mixed(Mixin, optimizers.SGD):
    pass


class Renamed(optimizers.SGD):
    """The formula of its base."""


class Reversed(optimizers.SGD):
    """Both of its own."""

    def fused_step(self, weight, gradient, slots, rate):
        return super().fused_step(weight, gradient, slots, -rate)

    def update(self, weight, gradient, slots, scratch, rate):
        super().update(weight, gradient, slots, scratch, -rate)


class OnlyTheRecord(optimizers.SGD):
    """A record beside an update that does not know of it."""

    def fused_step(self, weight, gradient, slots, rate):
        return super().fused_step(weight, gradient, slots, -rate)


@pytest.mark.parametrize(
    ("kind", "asked", "expected"),
    [(Mixed, [], 1), (Renamed, [True], -0.5), (Reversed, [True], 0.5), (OnlyTheRecord, [], -0.5)],
)
def test_an_update_of_ones_own_goes_before_the_kernel(fused, kind, asked, expected):
    pytest.importorskip("fastnn.kernels.cpu._pointwise")
    w = np.zeros(3)
    with fastnn.use_backend("cython"):
        kind(0.5).apply([np.ones(3)], [w])
    assert fused == asked
    np.testing.assert_array_equal(w, expected)
