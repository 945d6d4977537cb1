"""Steps of optimizers in place, where the backend has a kernel for them."""

from __future__ import annotations

from typing import Any

from fastnn import dispatch
from fastnn.types import AdamStep, RmspropStep, SgdStep

__all__ = ["OptimizerStep", "make_step"]

OptimizerStep = SgdStep | RmspropStep | AdamStep

# The backend's function for a record, and how many of the record's first fields are arrays: weight,
# gradient, and slots, of which some may be None.
_KERNELS: dict[type, tuple[str, int]] = {
    SgdStep: ("sgd_update", 3),
    RmspropStep: ("rmsprop_update", 5),
    AdamStep: ("adam_update", 5),
}


def make_step(step: OptimizerStep) -> bool:
    """Make the step, where the weight's backend has a kernel for such arrays.

    Parameters
    ----------
    step : SgdStep, RmspropStep or AdamStep

    Returns
    -------
    bool
        False where the backend has no kernel, or not one for such arrays; then nothing is changed.
    """
    name, count = _KERNELS[type(step)]
    weight, gradient = step.weight, step.gradient
    changed = [weight, *(slot for slot in step[2:count] if slot is not None)]
    first: Any = weight.dtype
    for x in (gradient, *changed):
        flags = x.flags
        if x.dtype != first or not (flags.c_contiguous and getattr(flags, "aligned", True)):
            return False
    if first.kind != "f" or first.itemsize not in (4, 8) or not first.isnative:
        return False
    if not all(getattr(x.flags, "writeable", True) for x in changed):
        return False
    module = dispatch.owner_of(name, weight)
    kernel = getattr(module, name, None)
    if module is None or kernel is None or not all(map(module.owns, (gradient, *changed))):
        return False
    kernel(step)
    return True
