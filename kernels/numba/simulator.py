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


def make_safe():
    """Let the threads of a block agree on their static shared arrays.

    The simulator knows an array by the line that asks for it, and two threads that ask at the same
    time get one each. Here they wait for each other.
    """
    from numba.cuda.simulator import kernelapi

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
