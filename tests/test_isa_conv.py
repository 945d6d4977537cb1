"""The paths of the CPU's convolution and dense kernels, each forced: engines, ISAs, threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import relative_error

import fastnn
from fastnn import use_backend
from fastnn.kernels.cpu import _conv, _dense, _runtime
from fastnn.kernels.reference import dense as dense_reference
from fastnn.types import Window


class Shape(NamedTuple):
    x: tuple[int, int, int, int]  # B h w C
    kernel: tuple[int, int, int, int]  # kh kw C/groups O
    strides: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def window(self) -> Window:
        return Window(self.kernel[:2], self.strides, self.padding, self.dilation)


# Chosen to meet the kernels' cuts: several blocks of a sum, an image, a batch, part panels, images
# in place and padded, phases of strides that no tap meets, rows of one pixel.
SHAPES = {
    "in place, several sums": Shape((2, 9, 10, 70), (3, 3, 70, 67)),
    "padded, odd channels": Shape((3, 12, 13, 17), (3, 5, 17, 33), padding=((2, 1), (0, 3))),
    "wide image": Shape((2, 3, 1100, 3), (2, 3, 3, 5), padding=((1, 0), (1, 1))),
    "small images": Shape((40, 3, 3, 20), (3, 3, 20, 18), padding=((1, 1), (1, 1))),
    "stride and dilation": Shape((2, 21, 22, 5), (3, 3, 5, 9), (2, 3), ((2, 2), (1, 4)), (2, 2)),
    "stride over window": Shape((2, 17, 19, 6), (1, 2, 6, 7), (3, 4)),
    "one by one": Shape((5, 8, 9, 150), (1, 1, 150, 20)),
    "groups": Shape((2, 10, 11, 24), (3, 3, 8, 33), (1, 2), ((1, 1), (1, 1)), (1, 1), 3),
    "depthwise": Shape((2, 12, 14, 37), (3, 4, 1, 37), (1, 1), ((1, 1), (1, 2)), (1, 1), 37),
    "depthwise in place": Shape((2, 12, 14, 32), (5, 5, 1, 32), (2, 1), groups=32),
    "depthwise twice": Shape((2, 6, 7, 20), (3, 3, 1, 40), padding=((1, 1), (1, 1)), groups=20),
    "one output": Shape((3, 11, 12, 9), (3, 3, 9, 1), padding=((1, 1), (1, 1))),
    "gray, same size": Shape((3, 21, 19, 1), (5, 3, 1, 20), padding=((2, 2), (0, 3))),
    "two inputs, dilated": Shape((2, 15, 16, 2), (3, 3, 2, 200), dilation=(2, 3)),
    "one input": Shape((3, 28, 28, 1), (5, 5, 1, 30)),
    "tiles past the edge": Shape((3, 13, 15, 70), (3, 3, 70, 90), padding=((1, 1), (1, 1))),
    "tiles of stride 2": Shape((3, 13, 14, 17), (3, 3, 17, 40), (2, 2), ((1, 1), (0, 1))),
    "tiles of phases": Shape((2, 5, 4, 20), (3, 3, 20, 18), (1, 1), ((3, 3), (2, 2)), (3, 2)),
    "tiles of a line": Shape((3, 1, 19, 33), (1, 3, 33, 20), padding=((0, 0), (1, 1))),
    "tiles of groups": Shape((2, 7, 8, 64), (3, 3, 32, 34), padding=((1, 1), (1, 1)), groups=2),
    "one pixel": Shape((1, 1, 1, 200), (1, 1, 200, 64)),
    "few pixels": Shape((2, 2, 3, 37), (3, 3, 37, 96), padding=((1, 1), (1, 1)), groups=1),
    "depthwise, wide": Shape((1, 3, 20, 21), (3, 8, 1, 21), padding=((1, 1), (4, 3)), groups=21),
}
shape_of = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
format_of = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    isa, threads = _runtime.isa(), _runtime.get_num_threads()
    yield
    _runtime._set_isa(isa)
    _runtime.set_num_threads(threads)
    _conv._set_engine("auto")


def arrays_of(shape: Shape, data_format: str, dtype: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    fan = np.sqrt(np.prod(shape.kernel[:3]))
    x, kernel = rng.standard_normal(shape.x), rng.standard_normal(shape.kernel) / fan
    if data_format == "channels_first":
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return [a.astype(dtype) for a in (x, kernel, rng.standard_normal(shape.kernel[3]))]


def run(shape: Shape, data_format: str, arrays: list[np.ndarray], activation: Any = "tanh") -> Any:
    """y, dx, dkernel, dbias for dy = y."""
    x, kernel, bias = arrays
    common = (shape.window(), shape.groups, data_format, activation)
    y = _conv.forward(x, kernel, bias, *common)
    return [y, *_conv.backward(y, x, kernel, y, *common, True, True)]


@shape_of
@format_of
@pytest.mark.parametrize("engine", ["auto", "channels", "pixels", "taps", "winograd"])
@pytest.mark.parametrize("isa", _runtime.isas())
def test_every_path_agrees_with_the_reference(shape, data_format, engine, isa, dtype):
    arrays = arrays_of(shape, data_format, dtype)
    _runtime._set_isa(isa)
    _conv._set_engine(engine)
    actual = run(shape, data_format, arrays)
    options = shape._asdict()
    del options["x"], options["kernel"]
    with use_backend("numpy"):
        exact = [a.astype(np.float64) for a in arrays]
        y, saved = fastnn.conv2d_forward(
            *exact, **options, data_format=data_format, activation="tanh"
        )
        seen = actual[0].astype(np.float64)  # the gradient is judged at the y that was computed
        grads = fastnn.conv2d_backward(seen, saved._replace(y=seen))
    for name, one, other in zip(("y", "dx", "dkernel", "dbias"), actual, (y, *grads), strict=True):
        assert one.dtype == dtype
        assert relative_error(one, other) <= (2e-6 if dtype == np.float32 else 1e-14), name


@shape_of
@format_of
@pytest.mark.parametrize("engine", ["auto", "channels", "pixels", "taps", "winograd"])
def test_the_same_bits_for_any_number_of_threads(shape, data_format, engine, dtype):
    arrays = arrays_of(shape, data_format, dtype)
    _conv._set_engine(engine)
    results = []
    for threads in (1, 2, 4):
        _runtime.set_num_threads(threads)
        results.append(run(shape, data_format, arrays))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_columns_are_the_same_bits_for_any_number_of_threads(dtype):
    x = np.random.default_rng(4).standard_normal((3, 5, 70, 61)).astype(dtype)
    window = Window((3, 3), (2, 1), ((1, 1), (0, 2)), (1, 2))
    results = []
    for threads in (1, 2, 4):
        _runtime.set_num_threads(threads)
        columns = _conv.im2col(x, window)
        results.append((columns, _conv.col2im(columns, x.shape, window)))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("engine", ["channels", "pixels"])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_rounding_is_at_most_that_of_a_plain_sum(engine, mean):
    """float32 against float64, beside the sum of K products made one after the other."""
    rng = np.random.default_rng(1)
    inputs, outputs = 256, 16
    x = (rng.standard_normal((1, 8, 8, inputs)) + mean).astype(np.float32)
    kernel = rng.standard_normal((3, 3, inputs, outputs)).astype(np.float32)
    _conv._set_engine(engine)
    window = Window((3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))
    y = _conv.forward(x, kernel, None, window, 1, "channels_last", None)
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(36, -1)
    flat = kernel.reshape(-1, outputs)
    exact = patches.astype(np.float64) @ flat.astype(np.float64)
    plain = np.zeros((36, outputs), np.float32)
    for k in range(patches.shape[1]):
        plain += patches[:, k, None] * flat[k]
    error = np.abs(y.reshape(36, outputs) - exact)
    assert np.sqrt((error**2).mean()) <= np.sqrt(((plain - exact) ** 2).mean())
    assert error.max() <= np.abs(plain - exact).max()


def test_infinity_in_the_image_reaches_no_other_tap():
    """The last column is seen by the last tap alone, so the other gradients stay finite."""
    x = np.ones((1, 1, 4, 20), np.float32)
    x[0, 0, -1, 0] = np.inf
    window = Window((1, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
    kernel = np.ones((1, 2, 20, 3), np.float32)
    dy = np.ones((1, 1, 3, 3), np.float32)
    for engine in ("channels", "pixels"):
        _conv._set_engine(engine)
        for data_format in ("channels_last", "channels_first"):
            images = [x, dy, dy]
            if data_format == "channels_first":
                images = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in images]
            _, dk, _ = _conv.backward(
                images[1], images[0], kernel, images[2], window, 1, data_format, None, False, True
            )
            assert np.isfinite(dk[0, 0]).all() and np.isinf(dk[0, 1, 0]).all()
            assert np.isfinite(dk[0, 1, 1:]).all()


@pytest.mark.parametrize("isa", _runtime.isas())
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("rows", "inputs", "units"),
    [
        (1, 1, 1),
        (1, 300, 67),
        (2, 35, 1100),
        (12, 33, 65),
        (13, 33, 65),
        (300, 130, 10),
        (70, 600, 100),
    ],
)
def test_dense_agrees_with_the_reference(rows, inputs, units, order, activation, isa, dtype):
    rng = np.random.default_rng(2)
    shapes = ((rows, inputs), (inputs, units), (units,), (rows, units))
    x, kernel, bias, dy = (rng.standard_normal(s).astype(dtype, order=order) for s in shapes)
    kernel /= kernel.dtype.type(np.sqrt(inputs))
    _runtime._set_isa(isa)
    results = []
    for threads in (1, 2, 4):
        _runtime.set_num_threads(threads)
        y = _dense.forward(x, kernel, bias, activation)
        results.append([y, *_dense.backward(dy, x, kernel, y, activation, True, True)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    exact = [a.astype(np.float64) for a in (x, kernel, bias, dy, results[0][0])]
    x, kernel, bias, dy, y = exact
    expected = [
        dense_reference.forward(x, kernel, bias, activation),
        *dense_reference.backward(dy, x, kernel, y, activation, True, True),
    ]
    for one, two in zip(results[0], expected, strict=True):
        assert one.dtype == dtype
        assert relative_error(one, two) <= (2e-6 if dtype == np.float32 else 1e-14)
