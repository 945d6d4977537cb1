"""The running mean that RMSprop and Adam keep of gradients and their squares."""

from __future__ import annotations

import numpy as np

from fastnn.optimizers.base import Array


def running_mean(mean: Array, value: Array, share: float, scratch: Array) -> None:
    """``mean += (value - mean) * share``; ``value`` may be ``scratch``, which is spoiled."""
    np.subtract(value, mean, out=scratch)
    np.multiply(scratch, share, out=scratch)
    np.add(mean, scratch, out=mean)
