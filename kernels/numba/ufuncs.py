"""Elementwise arithmetic and the reductions min, max and any of a `DeviceArray`.

A function of NumPy that stands in the table below becomes a kernel when it is first used. The
result has the shape and dtype that NumPy gives it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba.array import DeviceArray, contiguous, empty, flat, to_device, wrap

_FUNCTIONS: dict[np.ufunc, Any] = {
    np.add: lambda a, b: a + b,
    np.subtract: lambda a, b: a - b,
    np.multiply: lambda a, b: a * b,
    np.divide: lambda a, b: a / b,
    np.maximum: lambda a, b: a if a > b or a != a else b,
    np.minimum: lambda a, b: a if a < b or a != a else b,
    np.less: lambda a, b: a < b,
    np.less_equal: lambda a, b: a <= b,
    np.greater: lambda a, b: a > b,
    np.greater_equal: lambda a, b: a >= b,
    np.equal: lambda a, b: a == b,
    np.not_equal: lambda a, b: a != b,
    np.bitwise_and: lambda a, b: a & b,
    np.bitwise_or: lambda a, b: a | b,
    np.negative: lambda a: -a,
    np.sqrt: _d.sqrt,
}

_THREADS = _d.THREADS
_PARTS = 4 if _d.SIMULATED else 128  # blocks of a reduction; the host joins their results


def known(ufunc):
    """Whether there is a kernel for this function."""
    return ufunc in _FUNCTIONS


def apply(ufunc, inputs):
    """``ufunc(*inputs)`` of device arrays, NumPy arrays and numbers, as a DeviceArray."""
    arrays = [_operand(x) for x in inputs]
    shape = np.broadcast_shapes(*(getattr(a, "shape", ()) for a in arrays))
    stand_ins = [np.ones(1, a.dtype) if isinstance(a, DeviceArray) else a for a in arrays]
    with np.errstate(all="ignore"):
        dtype = ufunc(*stand_ins).dtype
    common = np.result_type(*stand_ins)
    result = empty(shape, dtype)
    operands = [_ready(a, shape, common) for a in arrays]
    numbers = tuple(not isinstance(a, DeviceArray) for a in arrays)
    _d.spread(_elementwise(ufunc, numbers), result.size, *operands, flat(result))
    return result


def convert(x, dtype):
    """A copy in another dtype."""
    result = empty(x.shape, dtype)
    _d.spread(_copy, x.size, flat(contiguous(x)), flat(result))
    return result


def any_true(x):
    """Whether any element is true; waits for the device."""
    return bool(x.size) and bool(extreme(x.view(np.uint8), least=False))


def extreme(x, least):
    """The smallest or the largest element as a NumPy scalar; waits for the device."""
    if x.size == 0:
        raise ValueError("[DeviceArray] the extreme of an array without elements")
    parts = empty((_PARTS,), x.dtype)
    operands = x.size, flat(contiguous(x)), flat(parts)
    shared = _THREADS * x.dtype.itemsize
    _d.launch(_reduction(least), _PARTS, _THREADS, *operands, shared=shared)
    return parts.get().min() if least else parts.get().max()


def _operand(x):
    if isinstance(x, (int, float, np.generic)):
        return x
    return to_device(x) if isinstance(x, np.ndarray) else wrap(x)


def _ready(a, shape, dtype):
    """An operand as the kernel takes it: a number, or flat in C order."""
    if not isinstance(a, DeviceArray):
        return dtype.type(a)
    if a.dtype != dtype:
        a = convert(a, dtype)
    return flat(contiguous(np.broadcast_to(a, shape)))


@cache
def _elementwise(ufunc, numbers):
    """The kernel of a function; ``numbers`` says which operands are no arrays."""
    function = _FUNCTIONS[ufunc] if ufunc is np.sqrt else _d.device(_FUNCTIONS[ufunc])

    def of_one(n, a, out):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = function(a[i])

    def of_two(n, a, b, out):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = function(a[i], b[i])

    def with_number(n, a, b, out):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = function(a[i], b)

    def of_number(n, a, b, out):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = function(a, b[i])

    kinds = {
        (False,): of_one,
        (False, False): of_two,
        (False, True): with_number,
        (True, False): of_number,
    }
    return _d.kernel(kinds[numbers])


@_d.kernel
def _copy(n, a, out):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = a[i]


@cache
def _reduction(least):
    def reduce(n, a, parts):
        part = cuda.shared.array(0, a.dtype)
        best = a[0]
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            if (a[i] < best) == least and a[i] != best:
                best = a[i]
        part[cuda.threadIdx.x] = best
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            for k in range(1, _THREADS):
                if (part[k] < best) == least and part[k] != best:
                    best = part[k]
            parts[cuda.blockIdx.x] = best

    return _d.kernel(reduce)
