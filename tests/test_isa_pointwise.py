"""The pooling and pointwise kernels on every instruction set of the machine, 1 to 3 threads."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.types import Window

_runtime = pytest.importorskip("fastnn.kernels.cpu._runtime")
_pointwise = pytest.importorskip("fastnn.kernels.cpu._pointwise")
_pool = pytest.importorskip("fastnn.kernels.cpu._pool")

from fastnn.kernels.reference import activation as ref_activation  # noqa: E402
from fastnn.kernels.reference import embedding as ref_embedding  # noqa: E402
from fastnn.kernels.reference import loss as ref_loss  # noqa: E402
from fastnn.kernels.reference import noise as ref_noise  # noqa: E402
from fastnn.kernels.reference import pool as ref_pool  # noqa: E402

TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}
KEEPS_X = ("softsign", "silu", "gelu")
ACTIVATIONS = tuple(ref_activation._FORWARD)
LOSSES = tuple(ref_loss._SAMPLES)


@pytest.fixture(params=_runtime.isas())
def isa(request):
    before = _runtime.isa()
    _runtime._set_isa(request.param)
    yield request.param
    _runtime._set_isa(before)


def close(actual, expected, dtype, factor=1.0, floor=1e-30):
    """Relative to the largest magnitude (at least ``floor``); infinities and NaN in place."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    scale = max(floor, np.abs(expected[finite]).max(initial=0))
    assert (
        np.abs(actual[finite] - expected[finite]).max(initial=0)
        <= factor * TOLERANCE[dtype] * scale
    )


@pytest.mark.parametrize("shape", [(1,), (5, 10), (2, 3, 17), (7, 129), (0, 4)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, shape, dtype, isa, rng):
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    y = ref_activation.forward(x.astype(np.float64), name)
    close(_pointwise.activation_forward(x, name), y, dtype)
    kept = x if name in KEEPS_X else y.astype(dtype)
    expected = ref_activation.backward(dy.astype(np.float64), kept.astype(np.float64), name)
    close(_pointwise.activation_backward(dy, kept, name), expected, dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_activations_of_special_values(name, dtype, isa):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30], dtype)
    if "softmax" in name:
        x = np.diag(x) + 0 * x[3:4]
    y = ref_activation.forward(x, name)
    tolerance = {"rtol": 1e-6, "atol": 1e-7 if "softmax" in name else 0}
    np.testing.assert_allclose(_pointwise.activation_forward(x, name), y, **tolerance)
    kept = x if name in KEEPS_X else y
    dx = ref_activation.backward(np.ones_like(x), kept, name)
    actual = _pointwise.activation_backward(np.ones_like(x), kept, name)
    np.testing.assert_allclose(actual, dx, **tolerance)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softmax"])
def test_memory_orders(name, dtype, isa, rng):
    base = rng.standard_normal((6, 5, 8)).astype(dtype)
    for x in (
        base,
        base.transpose(1, 0, 2),
        base[::2, ::-1],
        np.broadcast_to(base[:1], (4, 5, 8)),
        base[..., ::3],
    ):
        expected = _pointwise.activation_forward(np.ascontiguousarray(x), name)
        np.testing.assert_array_equal(_pointwise.activation_forward(x, name), expected)
        kept = x if name in KEEPS_X else expected
        dense = _pointwise.activation_backward(
            np.ascontiguousarray(x), np.ascontiguousarray(kept), name
        )
        np.testing.assert_array_equal(_pointwise.activation_backward(x, kept, name), dense)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("shape", [(4, 1), (5, 10), (3, 4, 37), (2, 5000)])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, shape, from_logits, weighted, dtype, isa, rng):
    if from_logits and "crossentropy" not in name:
        return
    numbers = from_logits or "crossentropy" not in name
    p = (rng.standard_normal(shape) if numbers else rng.random(shape)).astype(dtype)
    t = rng.random(shape).astype(dtype)
    if name.startswith("sparse"):
        t = rng.integers(0, shape[-1], shape[:-1])
    w = rng.random(shape[:-1]).astype(dtype) if weighted else None
    wide = [a if a is None or a.dtype.kind == "i" else a.astype(np.float64) for a in (t, p, w)]
    value, grad = ref_loss.forward(wide[0], wide[1], name, from_logits, 0.7, wide[2], True)
    actual, actual_grad = _pointwise.loss_forward(t, p, name, from_logits, 0.7, w, True)
    # Alone in its sum, a probability has the loss and gradient 0, from terms of size 1.
    close(actual, value, dtype, floor=1.0 if shape[-1] == 1 else 1e-30)
    close(actual_grad, grad, dtype, floor=1.0 if shape[-1] == 1 else 1e-30)
    assert _pointwise.loss_forward(t, p, name, from_logits, 0.7, w, False) == (actual, None)


@pytest.mark.parametrize("shape", [(1,), (31,), (1025,), (3, 5, 7), (17000,), (0, 3)])
@pytest.mark.parametrize("seed", [0, 2**63 + 12345])
def test_noise_has_the_bits_of_the_reference(seed, shape, dtype, isa, rng):
    x = rng.standard_normal(shape).astype(dtype)
    for stream in (0, 5, 2**32 - 1):
        actual = _pointwise.random_uniform(shape, seed, stream, dtype.name)
        np.testing.assert_array_equal(actual, ref_noise.uniform(shape, seed, stream, dtype))
    for noise_shape in (shape, tuple(1 if axis % 2 else n for axis, n in enumerate(shape))):
        actual = _pointwise.dropout(x, 0.3, seed, noise_shape)
        np.testing.assert_array_equal(actual, ref_noise.dropout(x, 0.3, seed, noise_shape))


@pytest.mark.parametrize(
    "rows, width, shape", [(5, 3, (7,)), (100, 64, (20, 30)), (3, 130, (40,)), (50, 8, (0,))]
)
def test_embedding(rows, width, shape, dtype, isa, rng):
    table = rng.standard_normal((rows, width)).astype(dtype)
    indices = rng.integers(0, rows, shape)
    dy = rng.standard_normal((*shape, width)).astype(dtype)
    np.testing.assert_array_equal(_pointwise.embedding_forward(indices, table), table[indices])
    expected = ref_embedding.backward(dy.astype(np.float64), indices, table.shape)
    close(_pointwise.embedding_backward(dy, indices, table.shape), expected, dtype)


# h, w, pool, strides, padding: pairs, phases, bands, gaps between windows, wide windows, tall ones
POOLS = [
    (4, 6, (2, 2), (2, 2), ((0, 0), (0, 0))),
    (7, 41, (2, 2), (2, 2), ((0, 0), (0, 0))),
    (7, 9, (2, 2), (2, 2), ((0, 1), (0, 1))),
    (13, 70, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (9, 200, (3, 3), (1, 1), ((1, 1), (1, 1))),
    (10, 40, (2, 3), (3, 5), ((0, 0), (0, 0))),
    (9, 11, (5, 4), (1, 2), ((2, 2), (3, 1))),
    (20, 20, (20, 20), (20, 20), ((0, 0), (0, 0))),
    (12, 30, (12, 20), (1, 3), ((4, 4), (7, 7))),
    (6, 6, (1, 1), (2, 3), ((0, 0), (0, 0))),
    (60, 20, (36, 1), (1, 1), ((3, 20), (0, 0))),
    (7, 90, (1, 36), (1, 1), ((0, 0), (20, 35))),
    (41, 23, (12, 3), (1, 2), ((11, 1), (2, 2))),
    (1, 5, (1, 2), (1, 2), ((0, 0), (0, 0))),
]


@pytest.mark.parametrize("channels", [1, 3, 37])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("h, w, size, strides, padding", POOLS)
def test_pooling(h, w, size, strides, padding, data_format, channels, dtype, isa, rng):
    window = Window(size, strides, padding)
    shape = (2, h, w, channels) if data_format == "channels_last" else (2, channels, h, w)
    x = np.round(2 * rng.standard_normal(shape)).astype(dtype) / 2  # with ties
    dy = rng.standard_normal(ref_pool.average_forward(x, window, data_format, True).shape)
    dy, wide, wide_dy = dy.astype(dtype), x.astype(np.float64), dy.astype(dtype).astype(np.float64)
    for relu in (None, "relu"):
        y, offsets = _pool.max_forward(x, window, data_format, relu, True)
        expected, expected_offsets = ref_pool.max_forward(x, window, data_format, relu, True)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(offsets, expected_offsets)
        assert offsets.dtype == expected_offsets.dtype
        y, _ = _pool.max_forward(x, window, data_format, relu, False)
        np.testing.assert_array_equal(y, expected)
        dx = ref_pool.scatter(wide_dy, offsets, shape, window, data_format)
        close(_pool.take_backward(dy, offsets, shape, window, data_format), dx, dtype)
    for whole in (False, True):
        mean = ref_pool.average_forward(wide, window, data_format, whole)
        close(_pool.average_forward(x, window, data_format, whole), mean, dtype)
        dx = ref_pool.average_backward(wide_dy, shape, window, data_format, whole)
        close(_pool.average_backward(dy, shape, window, data_format, whole), dx, dtype)

    a = np.maximum(x, 0)
    y, offsets = _pool.stochastic_forward(a, window, data_format, 7, True)
    expected, expected_offsets = ref_pool.stochastic_forward(a, window, data_format, 7, True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(offsets, expected_offsets)
    mean, _ = ref_pool.stochastic_forward(a.astype(np.float64), window, data_format, None, True)
    close(_pool.stochastic_forward(a, window, data_format, None, True)[0], mean, dtype)
    dx = ref_pool.stochastic_backward(wide_dy, a.astype(np.float64), window, data_format)
    close(_pool.stochastic_backward(dy, a, window, data_format), dx, dtype, 3)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("h, w, size, strides, padding", POOLS)
def test_pooling_of_special_values(h, w, size, strides, padding, data_format, dtype, isa, rng):
    window = Window(size, strides, padding)
    shape = (2, h, w, 5) if data_format == "channels_last" else (2, 5, h, w)
    x = rng.standard_normal(shape).astype(dtype)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.4] = -np.inf
    for image in (x, np.full_like(x, -np.inf)):
        for relu in (None, "relu"):
            for actual, expected in zip(
                _pool.max_forward(image, window, data_format, relu, True),
                ref_pool.max_forward(image, window, data_format, relu, True),
                strict=True,
            ):
                np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_do_not_change_a_bit(threads, dtype, isa, rng):
    x = rng.standard_normal((3, 6, 90, 70)).astype(dtype)
    window = Window((3, 3), (2, 2), ((1, 1), (1, 1)))
    indices = rng.integers(0, 40, 3000)
    rows = rng.standard_normal((3000, 33)).astype(dtype)

    def everything():
        for data_format in ("channels_last", "channels_first"):
            y, offsets = _pool.max_forward(x, window, data_format, None, True)
            yield from (y, offsets, _pool.take_backward(y, offsets, x.shape, window, data_format))
            y = _pool.average_forward(x, window, data_format, False)
            yield from (y, _pool.average_backward(y, x.shape, window, data_format, False))
            yield from _pool.stochastic_forward(np.abs(x), window, data_format, 3, True)
            y, _ = _pool.stochastic_forward(np.abs(x), window, data_format, None, False)
            yield from (y, _pool.stochastic_backward(y, np.abs(x), window, data_format))
        yield _pointwise.dropout(x, 0.5, 9, x.shape)
        yield _pointwise.dropout(x, 0.5, 9, (3, 1, 90, 1))
        yield _pointwise.random_uniform((100_003,), 9, 2, str(dtype))
        for name in ACTIVATIONS:
            y = _pointwise.activation_forward(x, name)
            yield from (y, _pointwise.activation_backward(x, y, name))
        yield _pointwise.embedding_forward(indices, rows)
        yield _pointwise.embedding_backward(rows, indices, (40, 33))
        for name in LOSSES:
            labels = (
                np.abs(x[..., 0]).astype(np.int64)
                if name.startswith("sparse")
                else np.abs(np.sin(x))
            )
            yield from _pointwise.loss_forward(
                labels, np.abs(np.cos(x)), name, False, 1.0, None, True
            )

    before = _runtime.get_num_threads()
    try:
        _runtime.set_num_threads(1)
        expected = list(everything())
        _runtime.set_num_threads(threads)
        for actual, one in zip(everything(), expected, strict=True):
            np.testing.assert_array_equal(actual, one)
    finally:
        _runtime.set_num_threads(before)
