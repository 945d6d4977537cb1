"""What a CUDA backend misses on this machine, found without importing a GPU package."""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec

INSTALL = "pip install 'fastnn[cuda12]' (or 'fastnn[cuda13]')"


def missing(package: str, install: str = INSTALL) -> list[str]:
    """Why ``package`` could not reach a GPU here, in words; empty if nothing is missing."""
    reasons = []
    if find_spec(package) is None:
        reasons.append(f"the package {package} is not installed: {install}")
    if not _has_driver():
        reasons.append("no NVIDIA driver was found (libcuda)")
    return reasons


def _has_driver() -> bool:
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
