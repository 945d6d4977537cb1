"""The CuPy backend: registered, so that its name is known and its absence has a reason."""

from __future__ import annotations

import sys
from typing import Any

from fastnn.backends import cuda_probe


def unavailable() -> str | None:
    """Why this backend cannot be used."""
    reasons = ["this version of fastnn has no CuPy kernels yet", *cuda_probe.missing("cupy")]
    return "; ".join(reasons)


def owns(x: Any) -> bool:
    """Whether ``x`` is a CuPy array."""
    cupy = sys.modules.get("cupy")  # an array of a package that nobody imported cannot exist
    return cupy is not None and isinstance(x, cupy.ndarray)


def describe() -> dict[str, str]:
    """Nothing to say beyond ``unavailable()``."""
    return {}
