"""What the whole-network rows share, whoever runs them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastnn.bench.inputs import Arrays

RATE_SGD = 0.1
RATE_ADAM = 0.001
ADAM_EPSILON = 1e-7  # Keras's; PyTorch's own default is 1e-8
CHECK_BATCHES = 2  # compared after so many steps of Adam, in order


def stepped(loss: float, weights: Sequence[np.ndarray], arrays: Arrays) -> Arrays:
    """Results of one step of gradient descent: the loss, and the gradients that the step shows."""
    names = [f"{i}.{name}" for i in range(len(weights) // 2) for name in ("kernel", "bias")]
    moves = {
        f"d{name}": (arrays[name].astype(np.float64) - after) / RATE_SGD
        for name, after in zip(names, weights, strict=True)
    }
    return {"loss": np.asarray(loss), **moves}
