"""Convolution on the tile unit: every geometry forced there, its rounding, what does not split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from conv_rounding import FLAT, check_forward, check_gradients
from helpers import relative_error
from test_isa_conv import SHAPES, Shape, arrays_of, run

import fastnn
from fastnn import use_backend
from fastnn.kernels.cpu import _conv, _runtime
from fastnn.types import Window

pytestmark = pytest.mark.skipif("amx" not in _runtime.isas(), reason="no tile unit here")

# Beside those of the other engines: chunks of channels, blocks of rows and images, odd positions.
MORE = {
    "chunks": Shape((2, 9, 9, 130), (3, 3, 130, 140), padding=((1, 1), (1, 1))),
    "blocks of rows": Shape((2, 40, 33, 40), (3, 3, 40, 33), padding=((1, 1), (1, 1))),
    "uneven zeros": Shape((2, 9, 12, 32), (3, 5, 32, 32), padding=((2, 0), (3, 1))),
    "zeros at one side": Shape((2, 9, 12, 35), (3, 3, 35, 70), padding=((0, 2), (0, 2))),
    "a line": Shape((3, 1, 300, 64), (1, 5, 64, 40)),
    "wide line": Shape((1, 1, 2500, 33), (1, 3, 33, 32), padding=((0, 0), (1, 1))),
    "strides": Shape((3, 15, 14, 64), (3, 3, 64, 96), (2, 3), ((1, 1), (1, 1))),
    # Few channels: kernel rows bundled by 3, by all, by one, lines with a column to spare.
    "stem": Shape((2, 37, 41, 3), (7, 7, 3, 64), (2, 2), ((3, 3), (3, 3))),
    "gray": Shape((5, 12, 12, 1), (5, 5, 1, 70)),
    "six channels": Shape((3, 20, 70, 6), (4, 3, 6, 33), (3, 2), ((2, 1), (0, 2))),
    "twenty channels": Shape((2, 7, 40, 20), (5, 2, 20, 16), padding=((2, 2), (1, 0))),
    "taps apart": Shape((2, 20, 21, 3), (3, 4, 3, 40), (1, 2), ((2, 2), (3, 3)), (2, 3)),
    "three groups": Shape((2, 11, 30, 6), (3, 3, 2, 51), padding=((1, 1), (1, 1)), groups=3),
}
ALL = {**SHAPES, **MORE}
shape_of = pytest.mark.parametrize("shape", ALL.values(), ids=ALL.keys())
engine_of = pytest.mark.parametrize("engine", ["amx", "lines"])
format_of = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    isa, threads = _runtime.isa(), _runtime.get_num_threads()
    _runtime._set_isa("amx")
    _conv._set_engine("amx")
    yield
    _runtime._set_isa(isa)
    _runtime.set_num_threads(threads)
    _conv._set_engine("auto")


@shape_of
@format_of
@engine_of
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_against_float64(shape, data_format, engine, activation):
    _conv._set_engine(engine)
    arrays = arrays_of(shape, data_format, np.float32)
    actual = run(shape, data_format, arrays, activation)
    options = shape._asdict()
    del options["x"], options["kernel"]
    with use_backend("numpy"):
        exact = [a.astype(np.float64) for a in arrays]
        y, saved = fastnn.conv2d_forward(
            *exact, **options, data_format=data_format, activation=activation
        )
        seen = actual[0].astype(np.float64)
        grads = fastnn.conv2d_backward(seen, saved._replace(y=seen))
    for name, one, other in zip(("y", "dx", "dkernel", "dbias"), actual, (y, *grads), strict=True):
        assert relative_error(one, other) <= 2e-6, name


@shape_of
@engine_of
def test_the_same_bits_for_any_number_of_threads(shape, engine):
    _conv._set_engine(engine)
    arrays = arrays_of(shape, "channels_last", np.float32)
    results = []
    for threads in (1, 2, 4):
        _runtime.set_num_threads(threads)
        results.append(run(shape, "channels_last", arrays))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inputs", [16, 64, 256])
@pytest.mark.parametrize(("mean", "kernel_mean"), [(0, 0), (100, 0), (100, 1), (1e4, 0)])
def test_forward_rounds_less_than_a_plain_sum(stride, inputs, mean, kernel_mean):
    check_forward(10 if stride == 1 else 15, inputs, 32, stride, mean, kernel_mean)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inputs", [1, 3, 4, 7, 16])
@pytest.mark.parametrize(("mean", "kernel_mean"), [(0, 0), (100, 0), (100, 1), (1e4, 0)])
def test_lines_round_less_than_a_plain_sum(stride, inputs, mean, kernel_mean):
    _conv._set_engine("lines")
    check_forward(30, inputs, 32, stride, mean, kernel_mean)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("mean", "dy_mean"), [(0, 0), (100, 0), (100, 1), (1e4, 0)])
def test_gradients_round_less_than_a_plain_sum(stride, mean, dy_mean):
    check_gradients(32, stride, mean, dy_mean)


# Several chunks of output channels, blocks, panels that are not whole, tiles past the edge.
@pytest.mark.parametrize("size", [(2, 14, 15, 256, 230), (3, 41, 40, 70, 150), (1, 9, 9, 33, 17)])
@pytest.mark.parametrize("dilation", [1, 2])
@format_of
def test_winograd_against_float64_and_by_threads(size, dilation, data_format):
    b, h, w, inputs, outputs = size
    pad = (dilation, dilation)
    shape = Shape(
        (b, h, w, inputs), (3, 3, inputs, outputs), padding=(pad, pad), dilation=(dilation,) * 2
    )
    arrays = arrays_of(shape, data_format, np.float32)
    results = []
    _conv._set_engine("winograd")
    for threads in (1, 2, 4):
        _runtime.set_num_threads(threads)
        results.append(run(shape, data_format, arrays, "relu"))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    _runtime._set_isa("avx512")
    _conv._set_engine("auto")
    exact = run(shape, data_format, [a.astype(np.float64) for a in arrays], "relu")
    # relu has a corner, so the gradients are compared at one y
    x, kernel, _ = (a.astype(np.float64) for a in arrays)
    y = results[0][0].astype(np.float64)
    exact[1:] = _conv.backward(y, x, kernel, y, shape.window(), 1, data_format, "relu", True, True)
    for one, other in zip(results[0], exact, strict=True):
        assert relative_error(one, other) <= 2e-6


def test_the_gradients_are_the_adjoint():
    """<conv(x, k), dy> = <x, dx> = <k, dk>."""
    rng = np.random.default_rng(3)
    x, k, dy = (
        rng.standard_normal(s).astype(np.float32)
        for s in ((3, 1, 200, 48), (1, 5, 48, 64), (3, 1, 196, 64))
    )
    window = Window((1, 5), (1, 1), FLAT, (1, 1))
    y = _conv.forward(x, k, None, window, 1, "channels_last", None)
    dx, dk, _ = _conv.backward(dy, x, k, dy, window, 1, "channels_last", None, False, True)
    products = [np.vdot(a.astype(np.float64), b) for a, b in ((y, dy), (x, dx), (k, dk))]
    np.testing.assert_allclose(products, products[0], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
@pytest.mark.parametrize("where", ["x", "kernel", "dy"])
@engine_of
def test_what_does_not_split_goes_to_fma(value, where, engine):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 9, 9, 20)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 20, 40)).astype(np.float32) * np.float32(1e-3)
    dy = rng.standard_normal((2, 7, 7, 40)).astype(np.float32)
    {"x": x, "kernel": kernel, "dy": dy}[where][1, 2, 2, 2] = value
    found = []
    for isa in ("amx", "avx512"):
        _runtime._set_isa(isa)
        _conv._set_engine(engine if isa == "amx" else "channels")
        with np.errstate(all="ignore"):
            y, saved = fastnn.conv2d_forward(x, kernel, activation="relu")
            grads = fastnn.conv2d_backward(dy, saved)
            found.append((y, grads.dx, grads.dkernel))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        np.testing.assert_array_equal(np.isinf(one), np.isinf(other))
        finite = np.isfinite(other)
        np.testing.assert_allclose(one[finite], other[finite], rtol=1e-4, atol=1e-4)


def forward(x: np.ndarray, kernel: np.ndarray, engine: str) -> np.ndarray:
    _conv._set_engine(engine)
    window = Window(kernel.shape[:2], (1, 1), FLAT, (1, 1))
    return _conv.forward(x, kernel, None, window, 1, "channels_last", None)


def test_it_is_chosen_where_it_is_ahead(rng):
    x = rng.standard_normal((8, 1, 256, 64)).astype(np.float32)
    kernel = rng.standard_normal((1, 5, 64, 128)).astype(np.float32)
    assert np.array_equal(forward(x, kernel, "auto"), forward(x, kernel, "amx"))
    assert not np.array_equal(forward(x, kernel, "auto"), forward(x, kernel, "channels"))
    few, narrow = x[..., :15].copy(), kernel[:, :, :15].copy()  # too few for its error bound
    assert not np.array_equal(forward(few, narrow, "auto"), forward(few, narrow, "amx"))
    photo = rng.standard_normal((1, 40, 40, 3)).astype(np.float32)
    wide = rng.standard_normal((7, 7, 3, 64)).astype(np.float32)
    assert np.array_equal(forward(photo, wide, "auto"), forward(photo, wide, "lines"))
    _runtime._set_isa("avx512")
    assert np.array_equal(forward(x, kernel, "auto"), forward(x, kernel, "channels"))
    assert np.array_equal(forward(photo, wide, "auto"), forward(photo, wide, "channels"))


def test_winograd_is_chosen_where_it_is_ahead(rng):
    x = rng.standard_normal((8, 16, 16, 64)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 64, 64)).astype(np.float32)
    chosen = forward(x, kernel, "auto")
    assert np.array_equal(chosen, forward(x, kernel, "winograd"))
    assert not np.array_equal(chosen, forward(x, kernel, "amx"))
    _runtime._set_isa("avx512")
    assert not np.array_equal(chosen, forward(x, kernel, "winograd"))
