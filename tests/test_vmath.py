"""The vector functions of kernels/cpu/vmath.h against wider arithmetic, in ULP."""

from __future__ import annotations

import math

import numpy as np
import pytest

_runtime = pytest.importorskip("fastnn.kernels.cpu._runtime")
_pointwise = pytest.importorskip("fastnn.kernels.cpu._pointwise")

BOUND = {np.dtype(np.float32): 6.0, np.dtype(np.float64): 4.0}

REFERENCE = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "log1p_unit": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}

# Where the function is tested; the limits outside are tested by name below.
DOMAIN = {
    "exp": {4: (-87.33, 88.72), 8: (-708.39, 709.78)},
    "expm1": {4: (-1e30, 88.3), 8: (-1e300, 709.4)},
    "log": {4: (0, 3.4e38), 8: (0, 1.7e308)},
    "log1p": {4: (-1, 3.4e38), 8: (-1, 1.7e308)},
    "log1p_unit": {4: (0, 1), 8: (0, 1)},
    "tanh": {4: (-1e30, 1e30), 8: (-1e300, 1e300)},
    "sigmoid": {4: (-87.33, 1e30), 8: (-708.39, 1e300)},
}


@pytest.fixture(params=_runtime.isas())
def isa(request):
    before = _runtime.isa()
    _runtime._set_isa(request.param)
    yield request.param
    _runtime._set_isa(before)


def samples(name: str, dtype: np.dtype) -> np.ndarray:
    """Every exponent with dense mantissas, and uniform numbers where it is interesting."""
    rng = np.random.default_rng(11)
    if dtype == np.float32:
        x = np.arange(0, 2**32, 64 * 61, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        x = rng.integers(0, 2**64, 400_000, dtype=np.uint64).view(np.float64)
    low, high = DOMAIN[name][dtype.itemsize]
    # Beyond these all results are saturated, or the exponents above are dense enough.
    few, many = max(low, -800), min(high, 800)
    with np.errstate(invalid="ignore"):
        x = x.astype(np.float64)  # a signalling NaN among the bits
    x = np.concatenate(
        [x, rng.uniform(few, many, 300_000), rng.uniform(max(low, -1.5), min(high, 2), 300_000)]
    ).astype(dtype)
    tiny = np.finfo(dtype).tiny
    x = x[(x >= dtype.type(low)) & (x <= dtype.type(high))]
    return x[(np.abs(x) >= tiny) | (x == 0)]  # kernels flush denormals


@pytest.mark.parametrize("name", list(REFERENCE))
def test_error(name, dtype, isa):
    x = samples(name, dtype)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant < np.finfo(dtype).nmant + 8:
        pytest.skip("longdouble is no wider than float64 here")
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](x.astype(wide))
        rounded = exact.astype(dtype)
    tiny = np.finfo(dtype).tiny
    counted = np.isfinite(rounded) & (np.abs(rounded) > 2 * tiny)
    y = _pointwise._vmath(name, x)
    ulp = np.spacing(np.abs(rounded[counted])).astype(wide)
    error = np.abs(y[counted].astype(wide) - exact[counted]) / ulp
    worst = int(error.argmax())
    print(f"{name} {dtype} {isa}: {float(error[worst]):.2f} ULP at {x[counted][worst]!r}")
    assert error[worst] <= BOUND[dtype]
    # Zero, infinity, and what is denormal or nearly: right to within the smallest normal number.
    rest = ~counted
    with np.errstate(invalid="ignore"):
        off = np.abs(y[rest] - rounded[rest])
    assert np.all((y[rest] == rounded[rest]) | (off <= 2 * tiny))


@pytest.mark.parametrize(
    "name, at_inf, at_minus_inf",
    [
        ("exp", math.inf, 0.0),
        ("expm1", math.inf, -1.0),
        ("log", math.inf, math.nan),
        ("log1p", math.inf, math.nan),
        ("tanh", 1.0, -1.0),
        ("sigmoid", 1.0, 0.0),
        ("normal", 1.0, 0.0),
    ],
)
def test_limits(name, at_inf, at_minus_inf, dtype, isa):
    # NaN with and without a payload: an integer step on its bits must not turn it into a number.
    payload = np.array([0x7FC00123, 0xFFC7FFFF], np.uint32).view(np.float32).astype(dtype)
    x = np.concatenate([payload, [math.nan, math.inf, -math.inf]]).astype(dtype)
    y = _pointwise._vmath(name, x)
    assert np.isnan(y[:3]).all()
    np.testing.assert_array_equal(y[3:], np.array([at_inf, at_minus_inf], dtype))


def test_special_points(dtype, isa):
    zero, one = np.zeros(3, dtype), np.ones(3, dtype)
    for name in ("tanh", "expm1", "log1p", "log1p_unit"):
        assert (_pointwise._vmath(name, zero) == 0).all()
    assert np.signbit(_pointwise._vmath("tanh", -zero)).all()
    assert (_pointwise._vmath("exp", zero) == 1).all()
    assert (_pointwise._vmath("log", one) == 0).all()
    assert (_pointwise._vmath("log", zero) == -np.inf).all()
    assert (_pointwise._vmath("log1p", -one) == -np.inf).all()
    assert (_pointwise._vmath("sigmoid", zero) == 0.5).all()
    assert np.isnan(_pointwise._vmath("log", -one)).all()
    assert (_pointwise._vmath("exp", 800 * one) == np.inf).all()
    assert (_pointwise._vmath("exp", -800 * one) == 0).all()


def test_normal_distribution(dtype, isa):
    """Phi, to its absolute accuracy and, in the tail, to the rounding of x^2 in it."""
    x = np.linspace(-6, 6, 4001).astype(dtype)
    exact = np.array([0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in x])
    error = np.abs(_pointwise._vmath("normal", x) - exact) / np.finfo(dtype).eps
    assert error.max() <= 2
    assert (error / exact).max() <= 60


def test_a_result_does_not_depend_on_its_place(dtype, isa):
    """Tails are loaded under a mask: a value gives the same bits in every lane and length."""
    x = np.random.default_rng(3).standard_normal(67).astype(dtype)
    for name in (*REFERENCE, "normal"):
        whole = _pointwise._vmath(name, np.abs(x) / 8)
        for length in (1, 2, 3, 7, 15, 16, 17, 33, 66):
            part = _pointwise._vmath(name, np.abs(x[67 - length :]) / 8)
            np.testing.assert_array_equal(part, whole[67 - length :])
