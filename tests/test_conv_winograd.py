"""Winograd's convolutions: when they are chosen, how exact they are, what infinity does to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from conv_rounding import check_forward, check_gradients
from helpers import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn
from fastnn import use_backend
from fastnn.kernels.cpu import _conv, _runtime
from fastnn.types import Window

isa_of = pytest.mark.parametrize("isa", _runtime.isas())


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    isa = _runtime.isa()
    yield
    _runtime._set_isa(isa)
    _conv._set_engine("auto")
    _conv._set_winograd(os.environ.get("FASTNN_WINOGRAD", "1") != "0")


@isa_of
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inputs", [16, 64, 256])
@pytest.mark.parametrize(("mean", "kernel_mean"), [(0, 0), (100, 0), (100, 1), (1e4, 0)])
def test_forward_rounds_less_than_a_plain_sum(isa, stride, inputs, mean, kernel_mean):
    _runtime._set_isa(isa)
    _conv._set_engine("winograd")
    check_forward(8 if stride == 1 else 13, inputs, 16, stride, mean, kernel_mean)


@isa_of
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("mean", "dy_mean"), [(0, 0), (100, 0), (100, 1)])
def test_gradients_round_less_than_a_plain_sum(isa, stride, mean, dy_mean):
    _runtime._set_isa(isa)
    _conv._set_engine("winograd")
    check_gradients(16 * stride, stride, mean, dy_mean)  # the least that it is chosen for


@given(data=st.data())
@settings(max_examples=40)
def test_any_geometry(data):
    """Forward and all gradients in float64 against the reference, whatever part of it suits."""

    def size(low, high):
        return data.draw(st.integers(low, high))

    kernel_size, strides = (size(1, 3), size(1, 3)), (size(1, 2), size(1, 2))
    dilation = (size(1, 3), size(1, 2))
    padding = ((size(0, 2), size(0, 2)), (size(0, 2), size(0, 2)))
    image = [
        size(max(1, (k - 1) * d + 1 - sum(p)), 11)
        for k, d, p in zip(kernel_size, dilation, padding, strict=True)
    ]
    groups, inner, each = size(1, 2), size(1, 20), size(1, 20)
    rng = np.random.default_rng(size(0, 99))
    x = rng.standard_normal((size(1, 3), *image, groups * inner))
    kernel = rng.standard_normal((*kernel_size, inner, groups * each))
    bias = rng.standard_normal(groups * each)
    options = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    options["activation"] = data.draw(st.sampled_from([None, "relu", "tanh"]))
    if data.draw(st.booleans()):
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        options["data_format"] = "channels_first"
    results = []
    _conv._set_engine("winograd")
    for backend in ("cython", "numpy"):
        with use_backend(backend):
            y, saved = fastnn.conv2d_forward(x, kernel, bias, **options)
            # both are judged at the same y, for relu has a corner
            saved = saved._replace(y=results[0][0] if results else y)
            results.append([y, *fastnn.conv2d_backward(np.cos(saved.y), saved)])
    for one, other in zip(*results, strict=True):
        assert relative_error(one, other) <= 1e-13


WIDE = (8, 14, 14, 64)
# The tile unit competes with both Winograd and direct summation (test_isa_amx_conv.py).
WITHOUT_TILES = [isa for isa in _runtime.isas() if isa != "amx"][-1]


def forward(x: np.ndarray, kernel: np.ndarray, engine: str = "auto") -> np.ndarray:
    _conv._set_engine(engine)
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    return _conv.forward(x, kernel, None, window, 1, "channels_last", None)


def random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def test_many_channels_choose_it_and_few_do_not(rng):
    _runtime._set_isa(WITHOUT_TILES)
    x, kernel = random(rng, *WIDE), random(rng, 3, 3, 64, 64)
    assert np.array_equal(forward(x, kernel), forward(x, kernel, "winograd"))
    assert not np.array_equal(forward(x, kernel), forward(x, kernel, "channels"))
    x, kernel = x[..., :15].copy(), kernel[:, :, :15].copy()  # too few for its error bound
    assert not np.array_equal(forward(x, kernel), forward(x, kernel, "winograd"))


def test_it_can_be_turned_off(rng):
    _runtime._set_isa(WITHOUT_TILES)
    x, kernel = random(rng, *WIDE), random(rng, 3, 3, 64, 64)
    on = forward(x, kernel)
    _conv._set_winograd(False)
    assert not np.array_equal(on, forward(x, kernel))
    assert np.array_equal(forward(x, kernel, "winograd"), forward(x, kernel, "channels"))


@pytest.mark.parametrize(("value", "expected"), [("0", "True"), ("1", "False"), ("", "False")])
def test_the_variable(value, expected):
    done = import_with(value)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected


def test_the_variable_has_two_values():
    done = import_with("maybe")
    assert "FASTNN_WINOGRAD='maybe'" in done.stderr and "0 or 1 is needed" in done.stderr


def import_with(value: str) -> subprocess.CompletedProcess[str]:
    """Whether direct summation gives the bits of what is chosen for a wide convolution."""
    code = (
        "import numpy as np\n"
        "from fastnn.kernels.cpu import _conv\n"
        "from fastnn.types import Window\n"
        f"rng = np.random.default_rng(0); x = rng.standard_normal({WIDE}).astype('f')\n"
        "k = rng.standard_normal((3, 3, 64, 64)).astype('f')\n"
        "w = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))\n"
        "run = lambda: _conv.forward(x, k, None, w, 1, 'channels_last', None)\n"
        "y = run(); _conv._set_engine('channels'); print(np.array_equal(y, run()))"
    )
    environment = {
        **os.environ,
        "FASTNN_WINOGRAD": value,
        "FASTNN_ISA": WITHOUT_TILES,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )


@isa_of
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_what_is_not_finite_reaches_no_pixel_that_does_not_see_it(isa, value, activation, rng):
    """Tiles share sums of pixels, so one that is infinite would spoil its neighbours."""
    _runtime._set_isa(isa)
    _conv._set_engine("winograd")
    x, kernel = random(rng, 2, 9, 9, 20), random(rng, 3, 3, 20, 24)
    x[0, 4, 5, 3] = value
    kernel[..., 3, :] = np.abs(kernel[..., 3, :]) * 1e-3
    dy = random(rng, 2, 7, 7, 24)
    y, saved = fastnn.conv2d_forward(x, kernel, activation=activation)
    grads = fastnn.conv2d_backward(dy, saved)
    with use_backend("numpy"), np.errstate(all="ignore"):
        expected, saved = fastnn.conv2d_forward(x, kernel, activation=activation)
        wanted = fastnn.conv2d_backward(dy, saved)
    for one, other in ((y, expected), (grads.dx, wanted.dx), (grads.dkernel, wanted.dkernel)):
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(other))
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
