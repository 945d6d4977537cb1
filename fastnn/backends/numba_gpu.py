"""The Numba-CUDA backend: registered, so that its name is known and its absence has a reason."""

from __future__ import annotations

import sys
from typing import Any

from fastnn.backends import cuda_probe


def unavailable() -> str | None:
    """Why this backend cannot be used."""
    reasons = ["this version of fastnn has no Numba kernels yet", *cuda_probe.missing("numba")]
    return "; ".join(reasons)


def owns(x: Any) -> bool:
    """Whether ``x`` is an array on the device made by Numba."""
    cuda = sys.modules.get("numba.cuda")  # an array of a package that nobody imported cannot exist
    return (
        cuda is not None and bool(cuda.is_cuda_array(x)) and type(x).__module__.startswith("numba")
    )


def describe() -> dict[str, str]:
    """Nothing to say beyond ``unavailable()``."""
    return {}
