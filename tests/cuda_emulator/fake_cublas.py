"""A stand-in for libcublas: C functions with its signatures, over the emulator's memory.

They are made by ctypes, so arguments are converted as on the way into the library; sizes, leading
dimensions and types are looked at as cuBLAS does, and a product on a stream that is captured is
kept for the graph. Without a workspace a product is refused: under capture cuBLAS would have to
allocate.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .fake_cuda import submit

_INVALID, _NOT_SUPPORTED = 7, 15
_HANDLE = 4711


def _types() -> dict[int, Any]:
    found: dict[int, Any] = {0: np.float32, 1: np.float64, 2: np.float16}
    try:
        import ml_dtypes
    except ImportError:
        return found
    return found | {14: ml_dtypes.bfloat16}


class Library:
    """What ``ctypes.CDLL`` would give.

    Attributes
    ----------
    products : int
        Calls of cublasGemmEx.
    """

    def __init__(self, refuse: bool = False) -> None:
        self.products, self._refuse, self._workspace = 0, refuse, 0
        integer, address = ctypes.c_int, ctypes.c_void_p

        def offer(name: str, function: Any, *kinds: Any) -> None:
            setattr(self, name, ctypes.CFUNCTYPE(integer, *kinds)(function))

        offer("cublasCreate_v2", self._create, address)
        offer("cublasSetStream_v2", self._set_stream, address, address)
        offer("cublasSetWorkspace_v2", self._set_workspace, address, address, ctypes.c_size_t)
        matrix = (address, integer, integer)
        sizes = (integer,) * 5
        kinds = (address, *sizes, address, *matrix, *matrix, address, *matrix, integer, integer)
        offer("cublasGemmEx", self._gemm, *kinds)

    def _create(self, place: int) -> int:
        ctypes.c_void_p.from_address(place).value = _HANDLE
        return 0

    def _set_stream(self, handle: int, stream: int | None) -> int:
        self._workspace = 0
        return 0 if handle == _HANDLE else _INVALID

    def _set_workspace(self, handle: int, place: int, size: int) -> int:
        self._workspace = size
        return 0 if handle == _HANDLE and place % 128 == 0 else _INVALID

    def _gemm(self, handle: int, *arguments: Any) -> int:
        turn_a, turn_b, m, n, k, alpha, *rest = arguments
        a, a_type, a_lead, b, b_type, b_lead, beta, c, c_type, c_lead, compute, _ = rest
        if handle != _HANDLE or min(m, n, k) < 1 or (turn_a, turn_b) != (0, 0):
            return _INVALID
        if a_lead < m or b_lead < k or c_lead < m:
            return _INVALID
        if self._refuse or not self._workspace or not a_type == b_type == c_type:
            return _NOT_SUPPORTED
        wide, scalar = (
            (np.float64, ctypes.c_double) if a_type == 1 else (np.float32, ctypes.c_float)
        )
        if compute not in ((70,) if a_type == 1 else (68, 77)):
            return _NOT_SUPPORTED
        if (scalar.from_address(alpha).value, scalar.from_address(beta).value) != (1.0, 0.0):
            return _NOT_SUPPORTED
        self.products += 1
        dtype = np.dtype(_types()[a_type])

        def matrix(place: int, rows: int, columns: int, lead: int) -> np.ndarray:
            size = ((columns - 1) * lead + rows) * dtype.itemsize
            memory = np.frombuffer((ctypes.c_char * size).from_address(place), dtype)
            strides = (dtype.itemsize, lead * dtype.itemsize)  # columns lie one after the other
            return np.lib.stride_tricks.as_strided(memory, (rows, columns), strides)

        left, right = matrix(a, m, k, a_lead), matrix(b, k, n, b_lead)
        result = matrix(c, m, n, c_lead)
        submit(
            lambda: np.copyto(result, left.astype(wide) @ right.astype(wide), casting="same_kind")
        )
        return 0
