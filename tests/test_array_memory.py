"""The memory of arrays that kernels return: used again when they are gone, never before."""

from __future__ import annotations

import gc
import pickle
import threading

import numpy as np
import pytest

import fastnn

_runtime = pytest.importorskip("fastnn.kernels.cpu._runtime")

LARGE = 300_000  # bytes: well above what is not kept
ALIGNMENT = 64


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (7, 11), (1000, 301)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool", "int64"])
def test_arrays_are_ordinary(shape, dtype):
    for a in (_runtime.empty(shape, dtype), _runtime.zeros(shape, dtype)):
        assert type(a) is np.ndarray and a.shape == shape and a.dtype == dtype
        assert a.flags.c_contiguous and a.flags.owndata and a.flags.writeable
        assert address(a) % ALIGNMENT == 0
    assert not _runtime.zeros(shape, dtype).any()
    transposed = np.ones((4, 3)).T
    like = _runtime.empty_like(transposed)
    assert like.shape == (3, 4) and like.strides == transposed.strides


def test_other_arrays_come_from_numpys_own_allocator():
    _runtime.empty(10, "float32")
    with pytest.raises(TypeError):
        _runtime.empty(10, "no such type")
    handler = np._core.multiarray.get_handler_name
    assert handler(np.empty(10)) != "fastnn"
    assert handler(_runtime.empty(10, "float32")) == "fastnn"


def test_memory_is_used_again_and_zeros_are_zero():
    _runtime.empty_cache()
    a = _runtime.empty(LARGE, "uint8")
    a[:] = 255
    first = address(a)
    del a
    b = _runtime.zeros(LARGE - 1000, "uint8")
    assert address(b) == first
    assert not b.any()
    c = _runtime.empty(LARGE, "uint8")
    assert address(c) != first, "b is alive"
    view = b[5:9]
    del b
    assert address(_runtime.empty(LARGE, "uint8")) != first, "a view of b is alive"
    del view
    assert address(_runtime.empty(LARGE, "uint8")) == first


def test_a_small_array_does_not_hold_a_large_block():
    _runtime.empty_cache()
    a = _runtime.empty(100 * LARGE, "uint8")
    first = address(a)
    del a
    assert address(_runtime.empty(LARGE, "uint8")) != first


def test_empty_cache_forgets():
    a = _runtime.empty(LARGE, "uint8")
    del a
    fastnn.empty_cache()
    # What is forgotten went back to the C library, so nothing is left to be freed twice.
    fastnn.empty_cache()
    b = _runtime.empty(LARGE, "uint8")
    b[:] = 1
    assert b.sum() == LARGE


def test_arrays_can_be_resized_pickled_and_copied():
    a = _runtime.empty(1000, "float64")
    a[:] = np.arange(1000)
    copy = pickle.loads(pickle.dumps(a))
    assert np.array_equal(copy, np.arange(1000))
    a.resize(100_000, refcheck=False)
    assert np.array_equal(a[:1000], np.arange(1000))
    assert not a[1000:].any()
    a.resize(10, refcheck=False)
    assert np.array_equal(a, np.arange(10))


def test_too_large_is_a_memory_error():
    with pytest.raises((MemoryError, ValueError)):
        _runtime.empty(2**62, "uint8")


def test_no_two_threads_get_the_same_memory():
    sizes = np.random.default_rng(0).integers(20_000, 3_000_000, (4, 150))
    wrong: list[str] = []

    def work(number: int) -> None:
        alive: list[np.ndarray] = []
        for i, size in enumerate(sizes[number]):
            a = _runtime.empty(int(size), "uint8")
            a[:] = number
            alive.append(a)
            if len(alive) > 5:
                old = alive.pop(i % len(alive))
                if not (old == number).all():
                    wrong.append(f"thread {number}, array {i}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    gc.collect()
    fastnn.empty_cache()
