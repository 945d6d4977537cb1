"""Steps of optimizers in place, where the backend has a kernel for them."""

from __future__ import annotations

from typing import Any

from fastnn import dispatch
from fastnn.types import AdamStep

__all__ = ["adam_update"]


def adam_update(step: AdamStep) -> bool:
    """Make the step, where the weight's backend has a kernel for such arrays.

    Parameters
    ----------
    step : AdamStep

    Returns
    -------
    bool
        False where the backend has no kernel, or not one for such arrays; then nothing is changed.
    """
    weight, gradient, momentum, velocity, largest, *_ = step
    changed = (
        [weight, momentum, velocity] if largest is None else [weight, momentum, velocity, largest]
    )
    first: Any = weight.dtype
    for x in (gradient, *changed):
        flags = x.flags
        if x.dtype != first or not (flags.c_contiguous and getattr(flags, "aligned", True)):
            return False
    if first.kind != "f" or first.itemsize not in (4, 8) or not first.isnative:
        return False
    if not all(getattr(x.flags, "writeable", True) for x in changed):
        return False
    module = dispatch.owner_of("adam_update", weight)
    kernel = getattr(module, "adam_update", None)
    if module is None or kernel is None or not all(map(module.owns, (gradient, *changed))):
        return False
    kernel(step)
    return True
