"""Optimizers with Keras 3's names, defaults and formulas, in place and without allocation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import dispatch
from fastnn.arrays import assign, to_numpy
from fastnn.deferred import on_device
from fastnn.ops.update import adam_update
from fastnn.registry import Config, Configurable, Table, callable_name
from fastnn.types import AdamStep

Array = Any

__all__ = ["SGD", "Adam", "Optimizer", "RMSprop", "get"]

# Long arrays go through the formulas piece by piece, so that the ten or so passes over weight,
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


class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's correction.

    ``v = momentum * v - rate * g``; ``w += v`` or, with nesterov, ``w += momentum * v - rate * g``.

    Parameters
    ----------
    learning_rate : float or callable
    momentum : float
        In [0, 1).
    nesterov : bool
    **clips
        See `Optimizer`.
    """

    config_fields = (*Optimizer.config_fields, "momentum", "nesterov")
    slot_names = ("momentum",)

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **clips: Any,
    ) -> None:
        super().__init__(learning_rate, **clips)
        self.momentum = self._check("momentum", momentum, 0.0, 1.0)
        self.nesterov = bool(nesterov)

    def used_slots(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return self.slot_names if self.momentum else ()

    def update(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        """One step of the formula above."""
        np.multiply(gradient, rate, out=scratch)
        if not slots:
            np.subtract(weight, scratch, out=weight)
            return
        (velocity,) = slots
        np.multiply(velocity, self.momentum, out=velocity)
        np.subtract(velocity, scratch, out=velocity)
        if self.nesterov:
            np.subtract(weight, scratch, out=weight)
            np.multiply(velocity, self.momentum, out=scratch)
            np.add(weight, scratch, out=weight)
        else:
            np.add(weight, velocity, out=weight)


class RMSprop(Optimizer):
    """Division by a running root mean square (Tieleman and Hinton 2012).

    ``v = rho v + (1 - rho) g^2``; with ``centered`` also ``a = rho a + (1 - rho) g``, and v - a^2
    takes v's place; ``w -= rate g / sqrt(v + epsilon)``, through a momentum if there is one.

    Parameters
    ----------
    learning_rate : float or callable
    rho, momentum, epsilon : float
    centered : bool
    **clips
        See `Optimizer`.
    """

    config_fields = (*Optimizer.config_fields, "rho", "momentum", "epsilon", "centered")
    slot_names = ("velocity", "momentum", "average_gradient")

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **clips: Any,
    ) -> None:
        super().__init__(learning_rate, **clips)
        self.rho = self._check("rho", rho, 0.0, 1.0)
        self.momentum = self._check("momentum", momentum, 0.0, 1.0)
        self.epsilon = self._check("epsilon", epsilon, 0.0)
        self.centered = bool(centered)

    def used_slots(self) -> tuple[str, ...]:
        """Those that the options need."""
        wanted = (True, bool(self.momentum), self.centered)
        return tuple(n for n, use in zip(self.slot_names, wanted, strict=True) if use)

    def update(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        """One step of the formula above."""
        velocity, rho = slots[0], self.rho
        np.square(gradient, out=scratch)
        _running_mean(velocity, scratch, 1.0 - rho, scratch)
        if self.centered:
            average = slots[-1]
            _running_mean(average, gradient, 1.0 - rho, scratch)
            np.square(average, out=scratch)
            np.subtract(velocity, scratch, out=scratch)
            np.add(scratch, self.epsilon, out=scratch)
        else:
            np.add(velocity, self.epsilon, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.divide(gradient, scratch, out=scratch)
        np.multiply(scratch, rate, out=scratch)
        if self.momentum:
            momentum = slots[1]
            np.multiply(momentum, self.momentum, out=momentum)
            np.add(momentum, scratch, out=momentum)
            scratch = momentum
        np.subtract(weight, scratch, out=weight)


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba 2015), in Keras's form of the bias correction.

    ``m += (g - m)(1 - beta_1)``, ``v += (g^2 - v)(1 - beta_2)``, ``w -= alpha m / (sqrt(v) +
    epsilon)`` with ``alpha = rate sqrt(1 - beta_2^t) / (1 - beta_1^t)``.

    Parameters
    ----------
    learning_rate : float or callable
    beta_1, beta_2, epsilon : float
    amsgrad : bool
        Divide by the largest v so far (Reddi et al. 2018).
    **clips
        See `Optimizer`.
    """

    config_fields = (*Optimizer.config_fields, "beta_1", "beta_2", "epsilon", "amsgrad")
    slot_names = ("momentum", "velocity", "velocity_hat")

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **clips: Any,
    ) -> None:
        super().__init__(learning_rate, **clips)
        self.beta_1 = self._check("beta_1", beta_1, 0.0, 1.0)
        self.beta_2 = self._check("beta_2", beta_2, 0.0, 1.0)
        self.epsilon = self._check("epsilon", epsilon, 0.0)
        self.amsgrad = bool(amsgrad)

    def used_slots(self) -> tuple[str, ...]:
        """m, v and, with amsgrad, the largest v."""
        return self.slot_names if self.amsgrad else self.slot_names[:2]

    def _factors(self, rate: float) -> tuple[float, float, float]:
        """alpha, 1 - beta_1 and 1 - beta_2 of the next step."""
        t = self.iterations + 1
        alpha = rate * (1.0 - self.beta_2**t) ** 0.5 / (1.0 - self.beta_1**t)
        return alpha, 1.0 - self.beta_1, 1.0 - self.beta_2

    def update(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        """One step of the formula above."""
        alpha, share_m, share_v = self._factors(rate)
        m, v = slots[:2]
        _running_mean(m, gradient, share_m, scratch)
        np.square(gradient, out=scratch)
        _running_mean(v, scratch, share_v, scratch)
        if self.amsgrad:
            np.maximum(slots[2], v, out=slots[2])
            v = slots[2]
        np.sqrt(v, out=scratch)
        np.add(scratch, self.epsilon, out=scratch)
        np.divide(m, scratch, out=scratch)
        np.multiply(scratch, alpha, out=scratch)
        np.subtract(weight, scratch, out=weight)

    def _update_array(
        self, weight: Array, gradient: Array, slots: tuple[Array, ...], scratch: Array, rate: float
    ) -> None:
        known = type(self).update is Adam.update  # a subclass may have a formula of its own
        alpha, share_m, share_v = self._factors(rate)
        largest = slots[2] if self.amsgrad else None
        arrays = weight, gradient, slots[0], slots[1], largest
        step = AdamStep(*arrays, share_m, share_v, alpha, self.epsilon)
        if not known or not adam_update(step):
            super()._update_array(weight, gradient, slots, scratch, rate)


def _running_mean(mean: Array, value: Array, share: float, scratch: Array) -> None:
    """``mean += (value - mean) * share``; ``value`` may be ``scratch``, which is spoiled."""
    np.subtract(value, mean, out=scratch)
    np.multiply(scratch, share, out=scratch)
    np.add(mean, scratch, out=mean)


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


TABLE = Table("optimizer", (Adam, RMSprop, SGD), {"rmsprop": "RMSprop", "sgd": "SGD"})


def get(identifier: Any, custom_objects: Any = None) -> Any:
    """An optimizer from a name, a configuration, a class, or an `Optimizer`."""
    optimizer = TABLE.get(identifier, custom_objects)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"[optimizer] {identifier!r}; a name or an Optimizer is needed")
    return optimizer
