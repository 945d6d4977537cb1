"""Steps of optimizers in place, where the backend has a kernel for them."""

from __future__ import annotations

from typing import Any

from fastnn import dispatch
from fastnn.types import Array

__all__ = ["adam_update"]


def adam_update(
    weight: Array,
    gradient: Array,
    momentum: Array,
    velocity: Array,
    largest: Array | None,
    *,
    share_m: float,
    share_v: float,
    alpha: float,
    epsilon: float,
) -> bool:
    """One step of Adam: ``weight``, ``momentum``, ``velocity`` and ``largest`` are changed.

    ``m += (g - m) share_m``, ``v += (g^2 - v) share_v``, ``w -= alpha m / (sqrt(v) + epsilon)``;
    with ``largest`` (amsgrad) the largest v so far takes v's place.

    Parameters
    ----------
    weight, gradient, momentum, velocity : ndarray, of one shape
    largest : ndarray or None
    share_m, share_v : float
        ``1 - beta_1``, ``1 - beta_2``.
    alpha, epsilon : float

    Returns
    -------
    bool
        False where the backend has no kernel, or not one for such arrays; then nothing is changed.
    """
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
    kernel(weight, gradient, momentum, velocity, largest, share_m, share_v, alpha, epsilon)
    return True
