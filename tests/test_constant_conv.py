"""Kernels of convolutions and dense layers under `constant_weights`: the same bits as without."""

from __future__ import annotations

import contextvars
import threading

import numpy as np
import pytest

import fastnn
from fastnn import layers, ops
from fastnn.backends import constant

ENGINES = ("auto", "channels", "pixels", "taps", "winograd", "amx", "lines")

# channels of x, outputs, groups, kernel, stride, dilation
CONVOLUTIONS = {
    "gray": (1, 12, 1, 3, 1, 1),
    "few": (3, 5, 1, (3, 5), 2, 1),
    "pointwise": (40, 70, 1, 1, 1, 1),
    "winograd": (32, 37, 1, 3, 1, 1),
    "stride": (32, 48, 1, 3, 2, 1),
    "dilated": (33, 34, 1, 3, 1, 2),
    "row": (64, 72, 1, (1, 5), 1, 1),
    "groups": (64, 96, 2, 3, 1, 1),
    "depthwise": (24, 24, 24, 3, 1, 1),
}


@pytest.fixture
def set_engine(backend):
    """Forces an engine of convolutions; other backends have none, and "auto" alone is tested."""
    from fastnn.kernels.cpu import _conv

    def choose(engine: str) -> None:
        if backend == "cython":
            _conv._set_engine(engine)
        elif engine != "auto":
            pytest.skip("engines are the Cython backend's")

    yield choose
    _conv._set_engine("auto")


def arrays_of(rng, shape, dtype, batch=2, size=(9, 11)):
    inputs, outputs, groups, kernel, stride, dilation = shape
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    options = {"groups": groups, "strides": stride, "dilation": dilation, "padding": "same"}
    kernel = draw(rows, columns, inputs // groups, outputs)
    return draw(batch, *size, inputs), kernel, draw(outputs), options


def convolve(x, kernel, bias, options, data_format="channels_last"):
    if data_format == "channels_first":
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return ops.conv2d_forward(x, kernel, bias, data_format=data_format, **options)[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_same_bits_convolution(set_engine, rng, dtype, shape, engine):
    set_engine(engine)
    x, kernel, bias, options = arrays_of(rng, shape, dtype)
    other = arrays_of(rng, shape, dtype, batch=3, size=(8, 8))[0]
    # Another size and data format may go another way, and the bias is not what is kept.
    calls = [
        (image, kernel, one, options, data_format)
        for image in (x, other)
        for data_format in ("channels_last", "channels_first")
        for one in (bias, None)
    ]
    expected = [convolve(*call) for call in calls]
    with fastnn.constant_weights():
        for call, y in zip(calls * 2, expected * 2, strict=True):
            np.testing.assert_array_equal(convolve(*call), y)


@pytest.mark.parametrize("engine", ["winograd", "amx", "channels"])
def test_same_bits_of_a_kernel_in_several_chunks(set_engine, rng, engine):
    set_engine(engine)
    x, kernel, bias, options = arrays_of(rng, (288, 352, 1, 3, 1, 1), np.float32, 1, (5, 6))
    expected = convolve(x, kernel, bias, options)
    with fastnn.constant_weights():
        for _ in range(3):
            np.testing.assert_array_equal(convolve(x, kernel, bias, options), expected)


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
@pytest.mark.parametrize("order", ["rows", "columns"])
def test_same_bits_dense(backend, rng, dtype, rows, order):
    kernel = rng.standard_normal((50, 75)).astype(dtype)
    kernel = np.asfortranarray(kernel) if order == "columns" else kernel
    biases = [rng.standard_normal(75).astype(dtype), None]
    batches = [rng.standard_normal((n, 50)).astype(dtype) for n in (rows, 2 * rows, 33)]
    calls = [(x, kernel, bias) for x in batches for bias in biases]
    expected = [ops.dense_forward(*call, activation="relu")[0] for call in calls]
    with fastnn.constant_weights():
        for call, y in zip(calls * 2, expected * 2, strict=True):
            np.testing.assert_array_equal(ops.dense_forward(*call, activation="relu")[0], y)


def test_what_tells_kernels_apart(backend, rng, dtype):
    """Not the address alone: the same memory as other shapes, strides, windows and groups."""
    memory = rng.standard_normal((3, 3, 8, 8)).astype(dtype)
    x = rng.standard_normal((1, 9, 9, 8)).astype(dtype)
    calls = [
        (x, memory, {}),
        (x, memory.transpose(1, 0, 2, 3), {}),
        (x, memory.transpose(0, 1, 3, 2), {}),
        (x, memory, {"dilation": 2}),
        (x, memory, {"strides": 2, "padding": "same"}),
        (np.concatenate([x, x], axis=3), memory, {"groups": 2}),
        (x[..., :4], memory[:, :, :4], {}),
    ]
    expected = [ops.conv2d_forward(x, k, None, **options)[0] for x, k, options in calls]
    with fastnn.constant_weights():
        for (image, kernel, options), y in zip(calls * 2, expected * 2, strict=True):
            found = ops.conv2d_forward(image, kernel, None, **options)[0]
            np.testing.assert_array_equal(found, y)
    square = rng.standard_normal((40, 40)).astype(dtype)
    rows = rng.standard_normal((30, 40)).astype(dtype)
    kernels = [square, square.T, square[:, :20], square[:, ::2]]
    expected = [ops.dense_forward(rows, kernel)[0] for kernel in kernels]
    with fastnn.constant_weights():
        for kernel, y in zip(kernels * 2, expected * 2, strict=True):
            np.testing.assert_array_equal(ops.dense_forward(rows, kernel)[0], y)


@pytest.mark.parametrize("engine", ["auto", "winograd", "amx", "lines"])
@pytest.mark.parametrize("where", ["image", "kernel"])
def test_what_is_not_finite_is_decided_at_every_call(set_engine, rng, engine, where):
    set_engine(engine)
    x, kernel, bias, options = arrays_of(rng, CONVOLUTIONS["winograd"], np.float32)
    spoilt = x.copy()
    if where == "image":
        spoilt[0, 4, 5, 6] = np.inf
    else:
        kernel[1, 2, 3, 4] = np.inf
    images = [spoilt, x, spoilt, x]
    with np.errstate(invalid="ignore"):
        expected = [convolve(image, kernel, bias, options) for image in images]
        with fastnn.constant_weights():
            for image, y in zip(images, expected, strict=True):
                np.testing.assert_array_equal(convolve(image, kernel, bias, options), y)


def test_changes_by_the_library_are_noticed(backend, rng):
    model = fastnn.Sequential([layers.Conv2D(20, 3), layers.Flatten(), layers.Dense(3)])
    model.compile("sgd", "mse")
    x = rng.standard_normal((40, 8, 8, 16)).astype(np.float32)
    y = rng.standard_normal((40, 3)).astype(np.float32)
    model.build(x.shape)
    with fastnn.constant_weights():
        before = model(x)
        model.train_on_batch(x, y)
        after = model(x)
        for layer in (model.layers[0], model.layers[2]):
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
        zeroed = model(x)
    assert not np.array_equal(before, after)
    assert not zeroed.any()
    model.layers[2].weights[1][...] = 1  # by hand: between two calls of predict nothing is kept
    model.predict(x)
    model.layers[0].weights[1][...] = 1
    model.layers[2].weights[0][...] = 1
    np.testing.assert_allclose(model.predict(x), model(x), rtol=1e-5)


def test_they_are_kept(rng):
    """What was changed by hand inside the block is not seen, so packing was not done again."""
    x, kernel, bias, options = arrays_of(rng, CONVOLUTIONS["winograd"], np.float32)
    rows, weights = (rng.standard_normal(s).astype(np.float32) for s in [(40, 30), (30, 50)])
    with fastnn.use_backend("cython"):
        with fastnn.constant_weights():
            before = convolve(x, kernel, bias, options), ops.dense_forward(rows, weights)[0]
            kernel *= 2
            weights *= 2
            kept = convolve(x, kernel, bias, options), ops.dense_forward(rows, weights)[0]
        after = convolve(x, kernel, bias, options), ops.dense_forward(rows, weights)[0]
    for one, two, three in zip(before, kept, after, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, three)


def test_many_weights_made_for_a_call(rng):
    rows = rng.standard_normal((30, 4)).astype(np.float32)
    with fastnn.constant_weights():
        for _ in range(300):
            weights = rng.standard_normal((4, 5)).astype(np.float32)
            first = ops.dense_forward(rows, weights)[0]
            np.testing.assert_array_equal(ops.dense_forward(rows, weights)[0], first)
        kept = constant.kept()
        assert kept is not None and len(kept) <= 256


def test_threads_that_share_a_promise(rng):
    x, kernel, bias, options = arrays_of(rng, CONVOLUTIONS["winograd"], np.float32)
    rows = rng.standard_normal((40, 30)).astype(np.float32)
    weights = rng.standard_normal((30, 50)).astype(np.float32)
    expected = convolve(x, kernel, bias, options), ops.dense_forward(rows, weights)[0]
    wrong = []

    def work() -> None:
        for _ in range(20):
            found = convolve(x, kernel, bias, options), ops.dense_forward(rows, weights)[0]
            if not all(np.array_equal(*pair) for pair in zip(found, expected, strict=True)):
                wrong.append(1)

    for _ in range(3):
        with fastnn.constant_weights():
            threads = [
                threading.Thread(target=contextvars.copy_context().run, args=(work,))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert not wrong
