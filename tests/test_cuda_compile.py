"""Every .cu file becomes machine code for the cards we name, and keeps to its registers."""

from __future__ import annotations

import nvrtc
import pytest

from fastnn.kernels.cuda import loader

REASON = nvrtc.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_90a", "sm_100")
DTYPES = ("float32", "float16", "bfloat16", "float64")
# What a file needs besides FNN_DTYPE; the recurrent files have tests of their own.
DEFINES = {"conv_implicit": {"FNN_TILE": 64}}
FILES = sorted(p.stem for p in loader.FOLDER.glob("*.cu") if not p.stem.startswith("rnn"))

# Every file for every architecture; the dtypes take turns, so that each file meets all of them.
CASES = [
    (name, architecture, DTYPES[(i + k) % len(DTYPES)])
    for i, name in enumerate(FILES)
    for k, architecture in enumerate(ARCHITECTURES)
]


@pytest.mark.parametrize(("name", "architecture", "dtype"), CASES)
def test_compiles_and_does_not_spill(name, architecture, dtype):
    defines = {"FNN_DTYPE": loader.DTYPE_CODES[dtype]} | DEFINES.get(name, {})
    options = [f"--gpu-architecture={architecture}", "-ftz=true", *loader.options(defines)]
    cubin = nvrtc.compile_cubin(loader.source(name), f"{name}.cu", [*options, *nvrtc.includes()])
    kernels = nvrtc.usage(cubin)
    assert kernels
    spilled = {kernel: use for kernel, use in kernels.items() if use.local_bytes}
    assert not spilled


def test_spills_are_seen():
    source = """
    extern "C" __global__ void __launch_bounds__(1024, 2) many(const float *x, float *y) {
        float kept[64];
        for (int i = 0; i < 64; i++) kept[i] = x[i * 7 + threadIdx.x];
        for (int i = 0; i < 64; i++) y[threadIdx.x * 64 + (int)kept[(i * 5) % 64] % 64] = kept[i];
    }
    extern "C" __global__ void few(const float *x, float *y) { y[threadIdx.x] = x[threadIdx.x]; }
    """
    found = nvrtc.usage(nvrtc.compile_cubin(source, "t.cu", ["--gpu-architecture=sm_80"]))
    assert found["many"].local_bytes and not found["few"].local_bytes
    assert 0 < found["few"].registers < found["many"].registers <= 32


def test_errors_are_the_compilers():
    with pytest.raises(RuntimeError, match="nothing"):
        nvrtc.compile_cubin("int nothing = ;", "nothing.cu", ["--gpu-architecture=sm_80"])
