"""Every Numba kernel compiles to PTX for the cards that we name: no GPU and no driver is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# Where a kernel without a float64 argument computes in float64: gelu on purpose, and the slow path
# of CUDA's own sin and cos with one instruction.
DOUBLE = {"activation": 100, "ufuncs": 1}


def missing() -> str | None:
    """What a compilation to PTX lacks here."""
    if find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'fastnn[numba]'"
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        for library in ("nvvm", "nvrtc"):
            load_nvidia_dynamic_lib(library)
    except Exception as error:  # its own kinds, which came and went with its versions
        return f"{str(error).splitlines()[0]}; pip install 'fastnn[numba]'"
    return None


CASES = (("8.0", "float64"), ("9.0", "float32"))


@pytest.mark.parametrize("cc, dtype", CASES)
def test_every_kernel_becomes_ptx(cc, dtype):
    if reason := missing():
        pytest.skip(reason)
    process = subprocess.run(
        [sys.executable, str(HERE / "numba_compile.py"), cc, dtype],
        env={k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert process.returncode == 0, process.stderr[-5000:]
    kernels = json.loads(process.stdout)
    assert len(kernels) > 200
    families = {name.removeprefix("fastnn.kernels.numba.").split(".")[0] for name in kernels}
    assert {
        "activation", "columns", "embedding", "functions", "gemm", "loss", "moves", "noise", "pool",
        "reductions", "rnn_backward", "rnn_forward", "rnn_rows", "softmax", "ufuncs", "update",
    } <= families  # fmt: skip
    for name, facts in kernels.items():
        assert facts["target"] == f"sm_{cc.replace('.', '')}" and facts["entries"] == 1, name
        assert facts["threads"] * facts["registers"] <= 65536, name
        assert facts["atomics"] == facts["shuffles"] == 0, name
        if dtype == "float32" and not facts["wide"]:  # sums are made in float64, and say so
            allowed = DOUBLE.get(name.removeprefix("fastnn.kernels.numba.").split(".")[0], 0)
            assert facts["double"] <= allowed, f"{name} goes on in float64"
        if "rnn_forward" in name or "rnn_backward._backward" in name:
            assert facts["fma"] > 0 and facts["barriers"] > 0 and not facts["local"], name
