"""Products by cuBLAS on a handle of our own, which may be called while a stream is captured.

CuPy refuses cuBLAS under capture (cupy#6290) because cuBLAS may then have to allocate. With a
workspace that the caller gives (cublasSetWorkspace) it has not to, and cuBLAS's documentation
allows the capture; PyTorch captures it so. The library that CuPy has loaded is called here by
ctypes, for the one product that `rnn_steps` captures. It has not run on a card yet.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import cupy
import numpy as np

_WORKSPACE = 32 << 20  # bytes; what cuBLAS asks for on compute capability 9.0
_AS_IS = 0  # CUBLAS_OP_N
_DEFAULT = -1  # CUBLAS_GEMM_DEFAULT
# cudaDataType_t and cublasComputeType_t
_TYPES = {"float32": (0, 68), "float64": (1, 70), "float16": (2, 68), "bfloat16": (14, 68)}
_FAST_TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32
_PROTOTYPES = {
    "cublasCreate_v2": [ctypes.c_void_p],
    "cublasSetStream_v2": [ctypes.c_void_p] * 2,
    "cublasSetWorkspace_v2": [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t],
    "cublasGemmEx": [
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int),  # handle, transa, transb
        *(ctypes.c_int, ctypes.c_int, ctypes.c_int),  # m, n, k
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int),  # alpha, A, type, lda
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int),  # B, type, ldb
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int),  # beta, C, type, ldc
        *(ctypes.c_int, ctypes.c_int),  # compute type, algorithm
    ],
}
_own = threading.local()


def _library() -> Any:
    """The cuBLAS that CuPy uses."""
    cupy.cuda.device.get_cublas_handle()  # which loads it
    return ctypes.CDLL(f"libcublas.so.{cupy.cuda.runtime.runtimeGetVersion() // 1000}")


class Blas:
    """A handle, for one thread and one device."""

    def __init__(self) -> None:
        library = _library()
        for name, types in _PROTOTYPES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, ctypes.c_int
        self._library = library
        self._handle = ctypes.c_void_p()
        self._check("cublasCreate_v2", ctypes.byref(self._handle))
        self._workspaces: dict[int, Any] = {}  # of each stream: its products follow each other
        self._scalars = {
            size: (scalar(1.0), scalar(0.0))
            for size, scalar in ((4, ctypes.c_float), (8, ctypes.c_double))
        }

    def _check(self, name: str, *args: Any) -> None:
        status = getattr(self._library, name)(*args)
        if status:
            raise RuntimeError(f"{name} gave the status {status}")

    def use(self, stream: Any, owner: Any) -> None:
        """Make the next products on a stream, with the workspace of the stream ``owner``."""
        if owner.ptr not in self._workspaces:
            self._workspaces[owner.ptr] = cupy.empty(_WORKSPACE, np.uint8)
        workspace = self._workspaces[owner.ptr]
        self._check("cublasSetStream_v2", self._handle, stream.ptr)  # forgets the workspace
        pointer = workspace.data.ptr
        self._check("cublasSetWorkspace_v2", self._handle, pointer, workspace.nbytes)

    def product(self, a: Any, b: Any, out: Any) -> None:
        """``out = a b`` of matrices in C order and of one dtype, halves added up in float32."""
        (rows, inner), columns = a.shape, b.shape[1]
        kind, compute = _TYPES[a.dtype.name]
        if a.dtype == np.float32 and os.environ.get("CUPY_TF32") == "1":
            compute = _FAST_TF32
        one, zero = self._scalars[8 if a.dtype == np.float64 else 4]
        # In the columns' order of cuBLAS a matrix in C order is its transpose: out^T = b^T a^T.
        self._check(
            "cublasGemmEx",
            *(self._handle, _AS_IS, _AS_IS, columns, rows, inner),
            *(ctypes.byref(one), b.data.ptr, kind, columns),
            *(a.data.ptr, kind, inner),
            *(ctypes.byref(zero), out.data.ptr, kind, columns),
            *(compute, _DEFAULT),
        )


def here() -> Blas:
    """The handle of this thread on the current device."""
    handles = _own.__dict__
    device = cupy.cuda.runtime.getDevice()
    if device not in handles:
        handles[device] = Blas()
    return handles[device]
