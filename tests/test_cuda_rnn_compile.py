"""The recurrent .cu files become machine code for the cards we name, and do not spill.

The shapes are those that the choice makes for these cards, so what is compiled is what runs. Blocks
of 1,024 threads have 64 registers a thread and may spill: they are chosen on demand only.
"""

from __future__ import annotations

import nvrtc
import pytest
from test_cuda_rnn_choice import CARDS, GATES

from fastnn.kernels.cuda import loader
from fastnn.kernels.cuda.rnn_choice import choose
from fastnn.kernels.cuda.rnn_shapes import Work, defines_of

REASON = nvrtc.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

H100, A100, RTX, B200 = (CARDS[name] for name in ("H100", "A100", "RTX2080", "B200"))

# Card, architecture, dtype, cell, H, B, backward, kernel, tensor cores.
TABLE = [
    (RTX, "sm_75", "float32", 1, 128, 64, False, "k0", False),
    (RTX, "sm_75", "float16", 2, 256, 16, True, "k2", False),
    (A100, "sm_80", "float32", 1, 512, 16, False, "k2", False),
    (A100, "sm_80", "float64", 3, 256, 16, True, "k2", False),
    (A100, "sm_80", "bfloat16", 1, 512, 64, True, "k2", True),
    (A100, "sm_80", "float16", 2, 100, 64, False, "k0", True),
    (H100, "sm_90", "float32", 1, 256, 16, False, "k1", False),
    (H100, "sm_90", "float32", 2, 256, 64, True, "k1", False),
    (H100, "sm_90", "float64", 1, 64, 256, True, "k0", False),
    (H100, "sm_90", "float16", 1, 768, 16, False, "k2", True),
    (H100, "sm_90a", "float16", 1, 512, 16, True, "k1", True),
    (H100, "sm_90a", "bfloat16", 3, 512, 64, False, "k1", True),
    (H100, "sm_90", "float32", 2, 1024, 16, False, "k2", True),
    (B200, "sm_100", "float32", 0, 1024, 1, False, "k2", False),
    (B200, "sm_100", "bfloat16", 2, 1024, 64, True, "k2", True),
]
STEPS = [
    ("sm_75", "float32", 0),
    ("sm_80", "bfloat16", 1),
    ("sm_90", "float64", 2),
    ("sm_100", "float16", 3),
]


def use_of(name, architecture, dtype, cell, defines):
    defines = {"FNN_DTYPE": loader.DTYPE_CODES[dtype], "FNN_CELL": cell, "FNN_RELU": 0, **defines}
    options = [f"--gpu-architecture={architecture}", "-ftz=true", *loader.options(defines)]
    cubin = nvrtc.compile_cubin(loader.source(name), f"{name}.cu", [*options, *nvrtc.includes()])
    return nvrtc.usage(cubin)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "-".join(str(part) for part in row[1:8]))
def test_persistent_kernels_compile_and_do_not_spill(row):
    card, architecture, dtype, cell, H, B, backward, kernel, tensor = row
    itemsize = {"float64": 8, "float32": 4}.get(dtype, 2)
    work = Work(cell, GATES[cell], H, B, itemsize, backward, tensor)
    plan = choose(card, work, kernel)
    assert plan.kernel == kernel and plan.threads <= 512
    name = "rnn_backward" if backward else "rnn_forward"
    found = use_of(name, architecture, dtype, cell, defines_of(work, plan))
    assert set(found) == {name}
    assert found[name].local_bytes == 0
    assert found[name].registers * plan.threads <= 1 << 16


@pytest.mark.parametrize(("architecture", "dtype", "cell"), STEPS)
def test_step_kernels_compile_and_do_not_spill(architecture, dtype, cell):
    found = use_of("rnn_steps", architecture, dtype, cell, {})
    assert {"rnn_step_forward", "rnn_step_backward", "rnn_previous"} <= set(found)
    assert not [kernel for kernel, use in found.items() if use.local_bytes]
