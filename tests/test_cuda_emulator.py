"""The CUDA emulator of the tests: what it runs, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import emulator, fake_cupy

from fastnn.kernels.cuda import loader

REASON = emulator.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

SOURCE = """
#include "device.cuh"

extern "C" __global__ void __launch_bounds__(96) turn(const real *x, real *y)
{
    __shared__ float kept[96];
    const int t = threadIdx.x;
    kept[t] = widen(x[blockIdx.x * 96 + t]);
    __syncthreads();
    y[blockIdx.x * 96 + t] = narrow(kept[95 - t]);
}

extern "C" __global__ void sums(const real *x, real *y)
{
    __shared__ wide slots[FNN_WARP];
    wide v = load(x + thread_index());
    wide up = __shfl_up_sync(FNN_ALL_LANES, v, 1), down = __shfl_down_sync(FNN_ALL_LANES, v, 1);
    wide total = block_sum(v, slots);
    store(y + thread_index(), total + (up - v) * 1000 + (down - v) * 10);
}

extern "C" __global__ void chain(unsigned *flags, unsigned *out)
{
    /* Block b waits for block b + 1: all have to run side by side. */
    if (threadIdx.x == 0) {
        if (blockIdx.x + 1 < gridDim.x)
            while (!load_acquire(flags + blockIdx.x + 1))
                ;
        out[blockIdx.x] = blockIdx.x + 1 < gridDim.x ? out[blockIdx.x + 1] + 1 : 1;
        store_release(flags + blockIdx.x, 1);
    }
    __syncthreads();
}

extern "C" __global__ void __cluster_dims__(4, 1, 1) ring(unsigned *out)
{
    unsigned *own = dynamic_shared<unsigned>();
    own[threadIdx.x] = cluster_rank() * 100 + threadIdx.x;
    cluster_sync();
    unsigned next = (cluster_rank() + 1) % cluster_size();
    unsigned value = cluster_peer(own, next)[31 - threadIdx.x];
    cluster_sync();
    out[thread_index()] = value;
}

extern "C" __global__ void outside(real *x) { store(x + thread_index() + 1, 1); }
"""


@pytest.fixture(params=[0, 1, 2], ids=["first", "last", "mixed"])
def kernels(request, monkeypatch):
    monkeypatch.setattr(fake_cupy.settings, "order", request.param)
    return fake_cupy.RawModule(code=SOURCE, options=loader.options({"FNN_DTYPE": 32}))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_shared_memory_and_barriers(dtype):
    options = loader.options({"FNN_DTYPE": loader.DTYPE_CODES[dtype]})
    turn = fake_cupy.RawModule(code=SOURCE, options=options).get_function("turn")
    x = np.linspace(-3, 3, 5 * 96).astype(dtype)
    y = fake_cupy.empty(x.shape, dtype)
    turn((5,), (96,), (fake_cupy.asarray(x), y))
    expected = x.astype("float32").astype(dtype).reshape(5, 96)[:, ::-1].reshape(-1)
    np.testing.assert_array_equal(y.get(), expected)


def test_warps(kernels):
    x = np.arange(3 * 64, dtype="float32").reshape(3, 64)
    y = fake_cupy.empty(x.shape, "float32")
    kernels.get_function("sums")((3,), (64,), (fake_cupy.asarray(x), y))
    lane = np.arange(64) % 32
    expected = x.sum(axis=1, keepdims=True) - 1000.0 * (lane > 0) + 10.0 * (lane < 31)
    np.testing.assert_array_equal(y.get(), expected)


def test_blocks_that_wait_for_others(kernels):
    flags, out = fake_cupy.zeros(20, "uint32"), fake_cupy.zeros(20, "uint32")
    kernels.get_function("chain")((20,), (32,), (flags, out))
    np.testing.assert_array_equal(out.get(), np.arange(20, 0, -1))


def test_a_grid_that_does_not_fit_is_a_deadlock(kernels, monkeypatch):
    monkeypatch.setattr(fake_cupy.settings, "resident", 10)
    monkeypatch.setattr(fake_cupy.settings, "order", 0)
    flags, out = fake_cupy.zeros(20, "uint32"), fake_cupy.zeros(20, "uint32")
    with pytest.raises(RuntimeError, match="chain: a deadlock: blocks wait for blocks"):
        kernels.get_function("chain")((20,), (32,), (flags, out))


def test_clusters(kernels):
    out = fake_cupy.empty((2, 4, 32), "uint32")
    kernels.get_function("ring")((8,), (32,), (out,), shared_mem=128)
    expected = (np.arange(1, 5) % 4 * 100)[:, None] + np.arange(31, -1, -1)
    np.testing.assert_array_equal(out.get(), np.stack([expected, expected]))
    with pytest.raises(ValueError, match="in clusters of 4"):
        kernels.get_function("ring")((6,), (32,), (out,), shared_mem=128)


def test_what_is_refused(kernels):
    x, y = fake_cupy.zeros(96, "float32"), fake_cupy.zeros(96, "float32")
    turn = kernels.get_function("turn")
    with pytest.raises(TypeError, match=r"arguments of \(8, 8, 8\) bytes"):
        turn((1,), (96,), (x, y, 3))
    with pytest.raises(TypeError, match="Unsupported type"):
        turn((1,), (96,), (x, np.zeros(96, "float32")))
    with pytest.raises(ValueError, match="at most 1024 threads"):
        turn((1,), (1025,), (x, y))
    with pytest.raises(ValueError, match="max_dynamic_shared_size_bytes"):
        turn((1,), (96,), (x, y), shared_mem=60 << 10)
    with pytest.raises(RuntimeError, match="outside: a write outside an array"):
        kernels.get_function("outside")((1,), (96,), (x,))
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        kernels.get_function("nothing")


def test_numpy_and_device_arrays_do_not_mix():
    x = fake_cupy.asarray(np.arange(4.0))
    for mixed in (
        lambda: np.asarray(x),
        lambda: x + np.ones(4),
        lambda: np.add(np.ones(4), x),
        lambda: x.__setitem__(slice(None), np.ones(4)),
        lambda: fake_cupy.where(x > 1, x, np.ones(4)),
    ):
        with pytest.raises(TypeError):
            mixed()
    np.testing.assert_array_equal(np.where(x > 1, x, 0.0).get(), [0, 0, 2, 3])
