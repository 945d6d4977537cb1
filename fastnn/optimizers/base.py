"""The base of all optimizers: rates, slots, clipping, and state that files can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import dispatch
from fastnn.arrays import assign, to_numpy
from fastnn.deferred import on_device
from fastnn.ops.update import OptimizerStep, make_step
from fastnn.registry import Config, Configurable, callable_name

Array = Any

# Long arrays go through NumPy's formulas piece by piece, so that the ten or so passes over weight,
# gradient, slots and scratch find them in the cache.
_PIECE = 1 << 15


class Optimizer(Configurable):
    """Base class: learning rate, clipping, and slots beside the weights.

    Parameters
    ----------
    learning_rate : float or callable
        A function of the number of steps made so far gives a schedule.
    clipnorm : float, optional
        Each gradient is scaled down to this Euclidean norm.
    clipvalue : float, optional
        Each element is cut to +- this value.
    global_clipnorm : float, optional
        All gradients together are scaled down to this Euclidean norm.

    Attributes
    ----------
    iterations : int
        Steps made so far.

    Raises
    ------
    ValueError
        If a number is out of its range, or more than one clip is given.
    """

    config_fields: tuple[str, ...] = ("learning_rate", "clipnorm", "clipvalue", "global_clipnorm")
    slot_names: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate: float | Callable[[int], float],
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        if not callable(learning_rate):
            self._check("learning_rate", learning_rate, 0.0)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {name: value for name, value in clips.items() if value is not None}
        for name, value in given.items():
            self._check(name, value, 0.0)
        if len(given) > 1:
            raise ValueError(
                f"[{type(self).__name__}] {' and '.join(given)} given; at most one of them is "
                "needed"
            )
        self.learning_rate = learning_rate
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.iterations = 0
        self._slots: list[tuple[Array, ...]] = []
        self._scratch: list[Array] = []

    def _check(self, name: str, value: Any, low: float, high: float = float("inf")) -> float:
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not low <= value < high:
            raise ValueError(
                f"[{type(self).__name__}] {name}={value!r}; a number in [{low}, {high}) is needed"
            )
        return float(value)

    # ------------------------------------------------------------------ for subclasses

    def update(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        """Change ``weight`` and ``slots`` in place; ``gradient`` is only read."""
        raise NotImplementedError(f"[{type(self).__name__}] has no update")

    def fused_step(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], rate: float
    ) -> OptimizerStep | None:
        """What `update` does as a record, for backends that make it in one pass.

        None where there is no such record. It counts only if the class that defines `update`
        defines this too: a subclass with an `update` of its own has another formula.
        """
        return None

    def used_slots(self) -> tuple[str, ...]:
        """Names of the arrays kept beside each weight."""
        return self.slot_names

    # ------------------------------------------------------------------ stepping

    def apply(self, gradients: Sequence[Array], weights: Sequence[Array]) -> None:
        """One step: update the weights in place.

        Parameters
        ----------
        gradients, weights : sequences of array
            In the same order at every call; gradients are not changed.

        Raises
        ------
        ValueError
            If shapes differ, or a gradient is missing.
        """
        _check_match(type(self).__name__, gradients, weights)
        if self.clips:
            gradients = [gradient.copy() for gradient in gradients]
            self.clip(gradients)
        self.step(gradients, weights)

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped."""
        return not (self.clipnorm is self.clipvalue is self.global_clipnorm is None)

    def clip(self, gradients: Sequence[Array]) -> None:
        """Clip gradients in place: ``clipnorm`` one by one, ``global_clipnorm`` together."""
        if self.clipvalue is not None:
            for gradient in gradients:
                np.clip(gradient, -self.clipvalue, self.clipvalue, out=gradient)
        elif self.clipnorm is not None:
            for gradient in gradients:
                _scale_to([gradient], self.clipnorm)
        elif self.global_clipnorm is not None:
            _scale_to(gradients, self.global_clipnorm)

    def current_rate(self) -> float:
        """The learning rate of the next step."""
        rate = self.learning_rate
        return float(rate(self.iterations)) if callable(rate) else float(rate)

    def step(self, gradients: Sequence[Array], weights: Sequence[Array]) -> None:
        """One step without clipping and checks, for callers that hold flat buffers."""
        if not self._matches(weights):
            self.build(weights)
        rate = self.current_rate()
        for i, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
            self._update_array(weight, gradient, self._slots[i], self._scratch[i], rate)
        dispatch.weights_changed()
        self.iterations += 1

    def build(self, weights: Sequence[Array]) -> None:
        """Make the slots, all zero, for these weights."""
        names = self.used_slots()
        self._slots = [tuple(np.zeros_like(weight) for _ in names) for weight in weights]
        self._scratch = [np.empty_like(weight) for weight in weights]

    def _matches(self, weights: Sequence[Array]) -> bool:
        own = self._scratch
        return len(own) == len(weights) and all(
            s.shape == w.shape and s.dtype == w.dtype for s, w in zip(own, weights, strict=True)
        )

    def _update_array(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        if _same_formula(type(self)):
            step = self.fused_step(weight, gradient, slots, rate)
            if step is not None and make_step(step):
                return
        if weight.ndim != 1 or weight.size <= _PIECE or not isinstance(weight, np.ndarray):
            self.update(weight, gradient, slots, scratch, rate)
            return
        for start in range(0, weight.size, _PIECE):
            piece = slice(start, start + _PIECE)
            self.update(
                weight[piece],
                gradient[piece],
                tuple(slot[piece] for slot in slots),
                scratch[piece],
                rate,
            )

    # ------------------------------------------------------------------ saving

    def get_state(self) -> dict[str, np.ndarray]:
        """Slots and step count, as NumPy arrays by name."""
        state = {"iterations": np.array(self.iterations, np.int64)}
        for i, slots in enumerate(self._slots):
            for name, slot in zip(self.used_slots(), slots, strict=True):
                state[f"{i}.{name}"] = np.array(to_numpy(slot))
        return state

    def set_state(self, state: dict[str, np.ndarray], weights: Sequence[Array]) -> None:
        """Continue from `get_state`, for the same weights.

        Raises
        ------
        ValueError
            If the state is not one of this optimizer and these weights; nothing is changed then.
        """
        names = self.used_slots()
        shape_of = {f"{i}.{n}": w.shape for i, w in enumerate(weights) for n in names}
        found = {key: value.shape for key, value in state.items() if key != "iterations"}
        if found and found != shape_of:
            raise ValueError(f"[{type(self).__name__}] a state with {found}; {shape_of} is needed")
        steps = np.asarray(state.get("iterations", np.nan))
        if steps.shape or steps.dtype.kind not in "iu" or steps < 0:
            raise ValueError(
                f"[{type(self).__name__}] a state without a number of iterations; an integer of at "
                "least 0 is needed"
            )
        for key, value in state.items():
            if value.dtype.kind not in "fiu":
                raise ValueError(
                    f"[{type(self).__name__}] {key} is {value.dtype}; real numbers are needed"
                )
        self.iterations = int(steps)
        if found:
            self.build(weights)
            for i, slots in enumerate(self._slots):
                for name, slot in zip(names, slots, strict=True):
                    assign(slot, state[f"{i}.{name}"])

    def get_config(self) -> Config:
        """The constructor's arguments; a schedule by its name (see ``custom_objects``)."""
        config = super().get_config()
        if callable(self.learning_rate):
            config["learning_rate"] = {"function": callable_name(self.learning_rate)}
        return config

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        """The optimizer again; a schedule is looked up in ``custom_objects``."""
        arguments = dict(config)
        rate = arguments.get("learning_rate")
        if isinstance(rate, dict):
            name = rate["function"]
            if name not in (custom_objects or {}):
                raise ValueError(
                    f"[{cls.__name__}] the schedule {name!r} is not known; "
                    f"custom_objects={{{name!r}: function}} is needed"
                )
            arguments["learning_rate"] = custom_objects[name]
        return cls(**arguments)


def _same_formula(kind: type) -> bool:
    """Whether `update` and `fused_step` are of one class, and so one formula."""
    first = next(vars(c) for c in kind.__mro__ if "update" in vars(c) or "fused_step" in vars(c))
    return "update" in first and "fused_step" in first


def _scale_to(gradients: Sequence[Array], limit: float) -> None:
    if gradients and on_device(gradients[0]):  # the norm stays there: nothing waits for it
        total = sum(np.vdot(g, g) for g in gradients)
        scale = limit / np.maximum(np.sqrt(total), limit)
        for gradient in gradients:
            np.multiply(gradient, scale, out=gradient)
        return
    norm = float(sum(float(np.vdot(g, g)) for g in gradients)) ** 0.5
    if not norm <= limit:  # also NaN, which then shows in every gradient, as in Keras
        for gradient in gradients:
            np.multiply(gradient, limit / norm, out=gradient)


def _check_match(owner: str, gradients: Sequence[Array], weights: Sequence[Array]) -> None:
    if len(gradients) != len(weights):
        raise ValueError(
            f"[{owner}] {len(gradients)} gradients; {len(weights)}, one a weight, are needed"
        )
    for i, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
        if gradient is None or gradient.shape != weight.shape:
            given = "None" if gradient is None else f"shape {gradient.shape}"
            raise ValueError(f"[{owner}] gradient {i} is {given}; shape {weight.shape} is needed")
