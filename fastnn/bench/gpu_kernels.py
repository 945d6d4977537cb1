"""Every CUDA kernel once or a few times, on small sizes, its results compared with the CPU's.

    python -m fastnn.bench.gpu_kernels [k0 k1 k2 k3]

For compute-sanitizer, under which a kernel takes a hundred times as long: the operations of
``python -m fastnn selftest`` in float32 and float16, each method of the convolution, and each
recurrent kernel, of sizes that take several warps and, where the kernel has them, several blocks. A
name runs the recurrent kernel alone; then k3 must also have run in its CUDA graph.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn import dispatch
from fastnn.cli.selftest_cases import Case, cases
from fastnn.gradient_check import one_call
from fastnn.kernels.cuda.rnn_choice import KERNELS
from fastnn.types import RnnWeights

TOLERANCE = {"float32": 5e-5, "float16": 2e-2}
_RNN, _CONV = "FASTNN_CUDA_RNN", "FASTNN_CUDA_CONV"


@contextmanager
def _setting(name: str, value: str | None) -> Iterator[None]:
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _more(rng: np.random.Generator) -> Iterator[Case]:
    """What the self-test has not: kernels for noise, many channels, one channel a group."""
    x, image = rng.random((2, 5, 4, 16)), rng.standard_normal((2, 6, 5, 24))
    window = {"pool_size": 2, "strides": 2}
    yield Case("stochastic_pool2d", "drawn", (x,), {"training": True, "seed": 3, **window})
    for kind in ("max_pool2d", "avg_pool2d"):
        yield Case(kind, "several channels a thread", (x,), window)
    kernel = rng.standard_normal((3, 3, 1, 24))
    yield Case("conv2d", "depthwise", (image, kernel), {"groups": 24, "padding": "same"})
    few, bias = rng.standard_normal((3, 2, 24, 40)), rng.standard_normal(40)
    yield Case("conv2d", "many channels", (image, few, bias), {"strides": 2})
    logits = rng.standard_normal((5, 7))
    options = {"loss": "categorical_crossentropy"}
    yield Case("loss", "of probabilities", (np.eye(7)[:5], np.abs(logits)), options)


def _recurrent(rng: np.random.Generator) -> Iterator[Case]:
    """Sizes that fill more than a warp, a tile and a block; every option at once."""
    T, B, inputs, units = 4, 18, 5, 72
    noisy = {
        "lengths": np.arange(B) % (T + 1),
        "mask": rng.random((T, B)) < 0.8,
        "resets": rng.random((T, B)) < 0.2,
        "recurrent_dropout": 0.3,
        "zoneout": 0.2,
        "seed": 1,
    }
    for cell, gates, options in (
        ("lstm", 4, {}),
        ("gru", 3, noisy),
        ("gru", 3, {"reset_after": False, "keep": "states", **noisy}),
        ("simple_rnn", 1, {"reverse": True}),
    ):
        weights = RnnWeights(
            rng.standard_normal((inputs, gates * units)),
            rng.standard_normal((units, gates * units)) / 8,
            rng.standard_normal(gates * units),
        )
        x = rng.standard_normal((T, B, inputs))
        detail = ", ".join([cell, *(key for key in options if key != "seed")])
        yield Case("rnn", detail, (x, weights), {"cell": cell, **options})


def _check(case: Case, dtype: str) -> float:
    """Run a case; how far it is from the CPU's float64."""
    found = one_call(case.op, *case.inputs, dtype=dtype, **case.options)
    with dispatch.use_backend("numpy"):
        expected = one_call(case.op, *case.inputs, **case.options)
    pairs = zip(found, expected, strict=True)
    return max(_error(a.astype(np.float64), np.asarray(b, np.float64)) for a, b in pairs)


def _error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30))


def _runs(kernels: Sequence[str]) -> Iterator[tuple[str, str | None, str, Case]]:
    """(variable, value, dtype, case)."""
    for dtype in TOLERANCE:
        for kernel in kernels or KERNELS:
            for case in _recurrent(np.random.default_rng(1)):
                yield _RNN, kernel, dtype, case
        if kernels:
            continue
        rng = np.random.default_rng(0)
        for case in (*cases(rng), *_more(rng)):
            methods = ("implicit", "columns") if case.op == "conv2d" else (None,)
            for method in methods:
                yield _CONV, method, dtype, case


def _columns() -> None:
    """The two operations that have no backward, and noise."""
    import fastnn

    x = fastnn.asarray(np.arange(96, dtype=np.float32).reshape(2, 3, 4, 4))
    columns = fastnn.im2col(x, 2, 2)
    fastnn.col2im(columns, x.shape, 2, 2)
    fastnn.random_uniform((33,), seed=1)


def main(kernels: Sequence[str] = ()) -> int:
    """A line for each run; 1 if a result is wrong, or k3 was named and runs without its graph."""
    from fastnn.kernels.cuda import rnn_graph

    failed = 0
    with dispatch.use_backend("cupy"):
        if not kernels:
            _columns()
        for variable, value, dtype, case in _runs(kernels):
            with _setting(variable, value):
                error = _check(case, dtype)
            good = error <= TOLERANCE[dtype]
            failed += not good
            words: tuple[Any, ...] = (value or "", dtype, case.op, case.detail)
            print(*words, f"{error:.1e}", "ok" if good else "FAIL", flush=True)
    reason = rnn_graph.why_not(0)
    if reason is not None:
        print(f"k3 one by one: {reason}")
        failed += "k3" in kernels
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    import cupy

    from fastnn.kernels.cuda import rnn_graph

    rnn_graph.CHUNK = 2  # so that graphs run in few steps
    # Each array an allocation of its own: inside CuPy's pool memcheck sees no overrun.
    cupy.cuda.set_allocator(None)
    sys.exit(main(sys.argv[1:]))
