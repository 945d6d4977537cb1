"""Counter-based noise: published vectors, one noise for all backends, dropout."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_close, check_gradients, same_on_every_layout

import fastnn
from fastnn import use_backend
from fastnn.kernels.reference import noise

# kat_vectors of Random123, philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def numbers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter, key, result):
    np.testing.assert_array_equal(
        noise.philox4x32(numbers(counter), numbers(key)), np.array(numbers(result), np.uint32)
    )


def test_the_first_words_of_seed_zero(backend):
    # Element 0..3 of stream 0: the first known answer.
    words = np.array(numbers(KNOWN[0][2]), np.uint64)
    u = fastnn.random_uniform(4, seed=0, dtype="float64")
    np.testing.assert_array_equal(u, (words >> np.uint64(8)) * 2.0**-24)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("stream", [0, 5, 2**32 - 1])
def test_uniform_is_philox_of_seed_stream_and_index(backend, dtype, seed, stream):
    u = fastnn.random_uniform((3, 7), seed=seed, stream=stream, dtype=dtype.name)
    assert u.shape == (3, 7) and u.dtype == dtype
    key = seed & 0xFFFFFFFF, seed >> 32
    for element, value in enumerate(u.ravel()):
        word = noise.philox4x32([element // 4, 0, stream, 0], key)[element % 4]
        assert float(value) == (int(word) >> 8) * 2.0**-24


def test_uniform_is_one_noise_everywhere(two_backends):
    results = []
    for name in two_backends:
        with use_backend(name):
            results += [
                fastnn.random_uniform((101, 33), seed=7, stream=3, dtype=kind).astype(np.float64)
                for kind in ("float32", "float64")
            ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_uniform_is_uniform(backend):
    n = 200_000
    u = fastnn.random_uniform(n, seed=99)
    assert u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, bins=50, range=(0, 1))[0]
    chi2 = ((counts - n / 50) ** 2 / (n / 50)).sum()
    assert chi2 < 49 + 5 * np.sqrt(2 * 49)  # mean and deviation of chi-squared with 49 degrees
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 5 / np.sqrt(n)
    other = fastnn.random_uniform(n, seed=99, stream=1)
    assert abs(np.corrcoef(u, other)[0, 1]) < 5 / np.sqrt(n)


def test_words_may_start_anywhere():
    everything = noise.words((40,), 5, 2)
    for start in range(12):
        np.testing.assert_array_equal(
            noise.words((3, 7), 5, 2, start).ravel(), everything[start:][:21]
        )


def test_words_beyond_32_bits_of_the_index_carry_into_the_counter():
    start = 4 * (2**32 - 1)
    words = noise.words((8,), 5, 2, start)
    np.testing.assert_array_equal(words[:4], noise.philox4x32([2**32 - 1, 0, 2, 0], (5, 0)))
    np.testing.assert_array_equal(words[4:], noise.philox4x32([0, 1, 2, 0], (5, 0)))


@pytest.mark.parametrize("shape", [(), 0, (3, 0)])
def test_uniform_of_unusual_shapes(backend, shape):
    u = fastnn.random_uniform(shape, seed=1)
    assert u.shape == (shape if isinstance(shape, tuple) else (shape,))


# --------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.999])
@pytest.mark.parametrize("noise_shape", [None, (4, 1, 6), (1, None, 1)])
def test_dropout_is_the_definition(backend, dtype, rate, noise_shape, rng):
    x = rng.standard_normal((4, 5, 6)).astype(dtype)
    y, saved = fastnn.dropout_forward(x, rate=rate, seed=17, noise_shape=noise_shape)
    shape = [
        m if m is not None else n for m, n in zip(noise_shape or x.shape, x.shape, strict=True)
    ]
    words = noise.words(shape, 17, 1).astype(np.float64)
    expected = np.where(words < np.floor(rate * 2.0**32), 0, x.astype(np.float64) / (1 - rate))
    assert_close(y, expected, dtype)
    assert (y == 0).all() == bool((expected == 0).all())
    assert saved.backend == backend


def test_dropout_keeps_the_mean(backend):
    y, _ = fastnn.dropout_forward(np.ones((400, 500), np.float32), rate=0.3, seed=1)
    assert abs((y == 0).mean() - 0.3) < 5 * np.sqrt(0.21 / y.size)
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / y.size)


def test_dropout_drops_nan_and_infinity(backend, dtype):
    y, _ = fastnn.dropout_forward(np.full(64, np.nan, dtype), rate=0.5, seed=1)
    dropped = y == 0
    assert 10 < dropped.sum() < 54 and np.isnan(y[~dropped]).all()


@pytest.mark.parametrize("noise_shape", [None, (1, 4)])
def test_dropout_gradient(backend, noise_shape, rng):
    def run(x):
        y, saved = fastnn.dropout_forward(x, rate=0.4, seed=3, noise_shape=noise_shape)
        return y, lambda dy: [fastnn.dropout_backward(dy, saved)]

    check_gradients(run, [rng.standard_normal((3, 4))], full=True)


def test_dropout_memory_layouts(backend, dtype, rng):
    def run(x, dy):
        y, saved = fastnn.dropout_forward(x, rate=0.4, seed=3)
        return y, fastnn.dropout_backward(dy, saved)

    same_on_every_layout(run, [rng.standard_normal((3, 4, 5)).astype(dtype) for _ in range(2)])


def test_dropout_is_one_noise_everywhere(two_backends, rng):
    x = rng.standard_normal((33, 65)).astype(np.float32)
    results = []
    for name in two_backends:
        with use_backend(name):
            y, saved = fastnn.dropout_forward(x, rate=0.37, seed=2**40 + 3)
            wide, _ = fastnn.dropout_forward(x.astype(np.float64), rate=0.37, seed=2**40 + 3)
            results += [y == 0, wide == 0, fastnn.dropout_backward(x, saved) == 0]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_dropout_of_nothing(backend, dtype):
    x = np.zeros((0, 3), dtype)
    y, saved = fastnn.dropout_forward(x, rate=0.5, seed=1)
    assert y.shape == x.shape and fastnn.dropout_backward(y, saved).shape == x.shape


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rate": 1.0}, ValueError, "rate is 1.0; 0 <= rate < 1"),
        ({"rate": -0.1}, ValueError, "rate is -0.1"),
        ({"rate": float("nan")}, ValueError, "rate is nan"),
        ({"rate": "half"}, TypeError, "a number is needed"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": 2**64}, ValueError, "0 <= seed <= 18446744073709551615"),
        ({"seed": None}, TypeError, "seed is None; an integer"),
        ({"seed": 1.5}, TypeError, "seed is 1.5; an integer"),
        ({"noise_shape": (2,)}, ValueError, r"noise_shape is \(2,\) for x \[2, 3\]"),
        ({"noise_shape": (2, 2)}, ValueError, "its size or None is needed"),
    ],
)
def test_dropout_refuses(backend, options, error, message):
    with pytest.raises(error, match=r"^\[dropout_forward\] .*" + message):
        fastnn.dropout_forward(np.ones((2, 3)), **{"rate": 0.5, "seed": 1, **options})


def test_dropout_backward_refuses(backend):
    _, saved = fastnn.dropout_forward(np.ones((2, 3)), rate=0.5, seed=1)
    with pytest.raises(ValueError, match=r"^\[dropout_backward\] dy is float64 \[3, 2\]"):
        fastnn.dropout_backward(np.ones((3, 2)), saved)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shape": -1}, ValueError, "shape is -1"),
        ({"shape": 2.5}, TypeError, "shape is 2.5"),
        ({"shape": (2**40, 2**40)}, ValueError, r"fewer than 2\*\*60 elements"),
        ({"stream": 2**32}, ValueError, "stream is 4294967296"),
        ({"dtype": "float16"}, ValueError, "one of float32, float64"),
        ({"seed": True}, TypeError, "seed is True"),
    ],
)
def test_uniform_refuses(backend, options, error, message):
    with pytest.raises(error, match=r"^\[random_uniform\] .*" + message):
        fastnn.random_uniform(**{"shape": 3, "seed": 1, **options})
