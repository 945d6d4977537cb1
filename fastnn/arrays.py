"""Small helpers for arrays of whichever library the caller uses."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_numpy(x: Any) -> np.ndarray:
    """``x`` on the host: device arrays come back, anything else goes through ``np.asarray``."""
    get = getattr(x, "get", None)
    return np.asarray(get() if callable(get) and hasattr(x, "dtype") else x)


def assign(target: Any, value: np.ndarray) -> None:
    """Copy host values into an array of any library, in place and in its dtype."""
    value = value.astype(target.dtype, copy=False)
    if hasattr(target, "set"):  # a device array
        target.set(np.ascontiguousarray(value))
    else:
        target[...] = value
