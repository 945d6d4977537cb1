"""What Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``) needs around a launch; no part of a real run.

A thread of a block is a Python thread there, so a barrier costs a change of threads for each of
them. Python changes every 5 ms unless it is asked to do so more often; asked, blocks run a hundred
times faster.
"""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import contextmanager

import numpy as np

_one_at_a_time = threading.RLock()  # the simulator runs a single kernel
_allocating = threading.Lock()
_swapped: list = []  # the files where `cuda` is the simulated module, and its names there


@contextmanager
def running():
    """Around a launch: quick changes of threads; NaN and infinity without a word, as on a GPU."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            yield
        finally:
            sys.setswitchinterval(interval)


@contextmanager
def _swapped_cuda_module(fn, fake):
    """Lets ``cuda`` mean the simulated module in the file of a kernel or device function.

    The simulator does so around each call of a device function, and so takes the name back while
    other threads still run it. Here the name stays until the kernel, the outermost call, has ended.
    """
    from numba import cuda

    names = fn.__globals__
    with _allocating:
        outermost = not _swapped
        found = [name for name, value in list(names.items()) if value is cuda]
        if found or outermost:
            _swapped.append((names, found))
        names.update(dict.fromkeys(found, fake))
    try:
        yield
    finally:
        if outermost:
            for names, found in _swapped:
                names.update(dict.fromkeys(found, cuda))
            _swapped.clear()


def make_safe():
    """Let the threads of a block agree on their static shared arrays, and on what ``cuda`` is.

    The simulator knows an array by the line that asks for it, and two threads that ask at the same
    time get one each. Here they wait for each other.
    """
    from numba.cuda.simulator import kernel, kernelapi

    kernel.swapped_cuda_module = _swapped_cuda_module

    original = kernelapi.FakeCUDAShared.array

    def array(self, shape, dtype, alignment=None):
        if shape == 0 or alignment is not None or not isinstance(dtype, np.dtype):
            return original(self, shape, dtype, *(() if alignment is None else (alignment,)))
        caller = sys._getframe(1)
        line = caller.f_code.co_filename, caller.f_lineno
        with _allocating:
            if line not in self._allocations:
                self._allocations[line] = np.empty(shape, dtype)
            return self._allocations[line]

    kernelapi.FakeCUDAShared.array = array
