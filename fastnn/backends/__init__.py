"""The backends by name. A new one is a module with the contract's functions, and a line here.

The order is the one in which ``auto`` asks: the first that is available and owns every array.
"""

from __future__ import annotations

MODULES: dict[str, str] = {
    "cython": "fastnn.backends.cython_cpu",
    "numpy": "fastnn.backends.numpy_ref",
    "cupy": "fastnn.backends.cupy_gpu",
    "numba": "fastnn.backends.numba_gpu",
}
DEVICES = ("cupy", "numba")  # where layers and models keep their arrays on the device
