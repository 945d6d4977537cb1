"""Compiles every Numba kernel to PTX, without a GPU and without a driver.

    python tests/numba_compile.py 9.0 float32

No list of kernels and signatures is kept. The operations are called as a user calls them, with the
two places exchanged at which they touch a device: memory is a stand-in that has a dtype and a size,
and a launch compiles its kernel for the types of its arguments. What comes out is one JSON object,
kernel -> facts about its PTX.
"""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


class Memory:
    """Flat device memory that is not there: zeros, if somebody asks."""

    def __init__(self, count, dtype):
        self.size, self.dtype = int(count), np.dtype(dtype)
        self.shape = (self.size,)

    def __getitem__(self, index):
        return Memory(len(range(self.size)[index]), self.dtype)

    def view(self, dtype):
        return Memory(self.size, dtype)

    def copy_to_host(self):
        return np.zeros(self.size, self.dtype)

    def copy_to_device(self, other):
        assert other.size == self.size


def compiler(cc):
    """A `launch` that compiles, and the facts that it collects."""
    from numba import cuda, typeof
    from numba import types as nb
    from numba.cuda import dispatcher
    from numba.np.numpy_support import from_dtype

    # Device functions are compiled for the current device; this is all that is asked of it.
    dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=cc)
    seen: dict[tuple, str] = {}
    facts: dict[str, dict] = {}

    def type_of(value):
        if isinstance(value, Memory):
            return nb.Array(from_dtype(value.dtype), 1, "C")
        return typeof(value)

    def launch(kernel, grid, block, *args, shared=0):
        signature = tuple(type_of(a) for a in args)
        if (kernel, signature) in seen:
            return
        ptx, _ = cuda.compile_ptx(kernel.py_func, signature, cc=cc)
        target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
        name = f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}#{len(seen)}"
        seen[kernel, signature] = name
        facts[name] = {
            "target": target and target[1],
            "entries": ptx.count(".entry"),
            "lines": ptx.count("\n"),
            "local": "__local_depot" in ptx,
            "wide": any("float64" in str(t) for t in signature),
            "double": len(re.findall(r"\b(?:add|mul|fma|div|sub)\.(?:rn\.)?f64", ptx)),
            "fma": ptx.count("fma.rn.f"),
            "barriers": ptx.count("bar.sync"),
            "atomics": len(re.findall(r"\b(?:atom|red)\.", ptx)),
            "shuffles": ptx.count("shfl"),
            "threads": int(np.prod(block)),
            "registers": kernel.targetoptions["max_registers"],  # of a thread, at most
        }

    return launch, facts


def call_everything(dtype):
    """Every operation, with every option that changes a kernel."""
    import rnn_cases

    import fastnn
    from fastnn.kernels.numba import rnn_product
    from fastnn.types import RnnOutput

    def a(*shape):
        return np.ones(shape, dtype)

    for padding, data_format in (("valid", "channels_last"), ("same", "channels_first")):
        shape = (2, 6, 6, 4) if data_format == "channels_last" else (2, 4, 6, 6)
        options = {"data_format": data_format, "padding": padding}
        _, saved = fastnn.conv2d_forward(
            a(*shape), a(3, 3, 4, 5), a(5), activation="relu", **options
        )
        fastnn.conv2d_backward(a(*saved.y.shape), saved)
        for pool in ("max", "avg", "stochastic"):
            forward = getattr(fastnn, f"{pool}_pool2d_forward")
            backward = getattr(fastnn, f"{pool}_pool2d_backward")
            trainings = [{"training": True, "seed": 3}, {}] if pool == "stochastic" else [{}]
            for training in trainings:
                y, saved = forward(a(*shape), pool_size=2, **training, **options)
                backward(y, saved)
                if pool != "avg":
                    forward(a(*shape), pool_size=2, keep=False, **training, **options)
    cols = fastnn.im2col(a(2, 3, 6, 6), 3, 3)
    fastnn.col2im(cols, (2, 3, 6, 6), 3, 3)
    _, saved = fastnn.dense_forward(a(300, 7), a(7, 5), a(5), activation="tanh")
    fastnn.dense_backward(a(300, 5), saved)
    for name in fastnn.ops.ACTIVATIONS:
        y, saved = fastnn.activation_forward(a(3, 5), name)
        fastnn.activation_backward(y, saved)
    y, saved = fastnn.embedding_forward(np.zeros((3, 4), np.int64), a(5, 2))
    fastnn.embedding_backward(y, saved)
    for noise_shape in (None, (1, 5)):
        y, saved = fastnn.dropout_forward(a(3, 5), rate=0.5, seed=1, noise_shape=noise_shape)
        fastnn.dropout_backward(y, saved)
    fastnn.random_uniform((3, 4), seed=1, dtype=np.dtype(dtype).name)
    for loss in fastnn.ops.LOSSES:
        target = np.zeros(3, np.int64) if loss.startswith("sparse") else a(3, 5)
        for from_logits in (False, True) if "crossentropy" in loss else (False,):
            fastnn.loss_forward(
                target, a(3, 5), loss=loss, from_logits=from_logits, sample_weight=a(3)
            )
    for cell in rnn_cases.CELL_OPTIONS:
        for B, shared in ((5, 48 * 1024), (300, 0)):  # R of 1 and of 4, without shared memory
            case = rnn_cases.SMALL["everything"]._replace(B=B, T=2)
            problem = rnn_cases.make(case, cell, dtype)
            rnn_product._SHARED = shared
            for keep in ("gates", "states"):
                out, saved = fastnn.rnn_forward(
                    problem.x, problem.weights, problem.initial, keep=keep, **problem.options
                )
                fastnn.rnn_backward(RnnOutput(*out), saved)


def call_arrays(dtype):
    """What is done with arrays on the device by NumPy's names."""
    from fastnn.kernels.numba import update
    from fastnn.kernels.numba.array import to_device
    from fastnn.kernels.numba.ufuncs import _FUNCTIONS

    x, y = (to_device(np.ones((40, 30), dtype)) for _ in range(2))
    whole, flags = to_device(np.ones((4, 3), np.int64)), to_device(np.ones((40, 30), bool))
    element = to_device(np.ones((), dtype))
    for function in _FUNCTIONS:
        bits = function in (np.bitwise_and, np.bitwise_or)
        a, b = (flags, flags) if bits else (x, y)
        function(*(a, b)[: function.nin])
        if function.nin == 2 and not bits:
            function(a, 2)
            function(2, a)
            function(a, element, out=a) if function(a, b).dtype == dtype else function(a, element)
    _ = whole + whole, whole - 1, whole * 2, whole / 2, whole == 1, -whole, abs(whole), ~flags
    for array in (x, whole, flags):
        _ = (
            array.sum(),
            array.mean(axis=0),
            array.min(),
            array.max(axis=-1),
            array.any(),
            array.all(),
        )
        _ = (
            array.argmax(axis=-1),
            array.astype("float32"),
            array.astype(bool),
            array.astype("int32"),
        )
        array[...] = 1
        array[:, ::2] = array[:, ::2][::-1]
        array[:, 1] = 0
    _ = np.cumsum(x), x @ y.T, np.bincount(whole.ravel(), weights=x[0, :12], minlength=5)
    _ = (
        np.arange(3, like=x),
        x[to_device(np.zeros(3, np.int64))],
        np.where(flags, x, 0),
        np.concatenate([x, y], 1),
    )
    _ = np.stack([x, y]), np.repeat(x, 2, axis=1), np.clip(x, -1, 1, out=y), np.vdot(x, y)
    for velocity, nesterov in ((None, False), (y, False), (y, True)):
        update.sgd(x, y, velocity, 0.1, 0.2, nesterov)
    for largest in (None, y):
        update.adam(x, y, x, x, largest, 0.1, 0.2, 0.3, 0.4)


def main(cc: str, dtype: str) -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    launch, facts = compiler(tuple(int(part) for part in cc.split(".")))
    import fastnn
    from fastnn.backends import numba_gpu
    from fastnn.kernels.numba import array, device

    numba_gpu.unavailable = lambda: None
    device.launch, array.allocate = launch, Memory
    array.upload = lambda vector: Memory(vector.size, vector.dtype)
    with fastnn.use_backend("numba"):
        call_everything(dtype)
        call_arrays(dtype)
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
