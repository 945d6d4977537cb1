"""Where the kernels meet Numba: decorators, launches, and the mathematics that device code calls.

The simulator runs each thread of a block as a Python thread, so there blocks are small: two threads
where any number will do, which is enough to see a missing barrier or a wrong stride. Everything
else is the same text on both.

A literal is an int64 or a float64 to Numba, and what is computed with it becomes float64. Device
functions therefore write ``type(x)(1)`` where float32 has to stay float32.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import cuda

from fastnn.kernels.numba import simulator

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
if SIMULATED:
    simulator.make_safe()

THREADS = 2 if SIMULATED else 256  # of a block whose threads work each for itself
_BLOCKS = 2 if SIMULATED else 132 * 16  # at most; a thread takes several elements beyond that

_REGISTERS = 65536  # of a multiprocessor, on every card since 2014

# Python's functions raise where a GPU gives infinity or NaN; NumPy's do as the GPU, and keep the
# dtype of a scalar.
functions: Any = np if SIMULATED else math
exp, expm1, log, log1p = functions.exp, functions.expm1, functions.log, functions.log1p
tanh, sqrt, isnan = functions.tanh, functions.sqrt, functions.isnan
erfc = math.erfc


def kernel(function, threads=256):
    """A function that `launch` and `spread` run on the device, with up to ``threads`` in a block.

    A launch fails if its threads need more registers than a multiprocessor has, so the compiler is
    told how many there are for each.
    """
    if SIMULATED:
        return cuda.jit(function)
    return cuda.jit(max_registers=min(_REGISTERS // threads, 255))(function)


def device(function):
    """A function that kernels call.

    In the simulator one that asks for nothing of ``cuda`` is called as it is, which is ten times
    faster than through the simulator.
    """
    if SIMULATED and "cuda" not in function.__code__.co_names:
        return function
    return cuda.jit(device=True)(function)


@lru_cache(maxsize=4096)
def _configured(function, grid, block, shared):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few blocks leave most of the GPU idle
        return function[grid, block, 0, shared]


def launch(function, grid, block, *args, shared=0):
    """Run a kernel over a grid of blocks on the default stream; nothing waits for it."""
    if SIMULATED:
        with simulator.running():
            function[grid, block, 0, shared](*args)
    else:
        _configured(function, grid, block, shared)(*args)


def spread(function, count, *args):
    """Run a kernel whose threads stride over ``count`` elements, its first argument."""
    if count:
        blocks = min(-(-count // THREADS), _BLOCKS)
        launch(function, blocks, THREADS, count, *args)


@device
def maximum(a, b):
    """The larger one; NaN if one is."""
    return a if a > b or isnan(a) else b


@device
def minimum(a, b):
    """The smaller one; NaN if one is."""
    return a if a < b or isnan(a) else b


@device
def magnitude(x):
    """Absolute value, in x's type."""
    return -x if x < 0 else x


@device
def sigmoid(x):
    """``1 / (1 + exp(-x))`` with an exponential that cannot overflow."""
    one = type(x)(1)
    e = exp(-magnitude(x))
    return (one if x >= 0 else e) / (one + e)


@device
def item_or_zero(a, i, there):
    """``a[i]``, or 0 in its type; nothing is read at ``i`` if it is not there."""
    value = a[i if there else 0]
    return value if there else type(value)(0)
