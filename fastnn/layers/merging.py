"""Layers of several inputs, for the graphs of `fastnn.Model`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from fastnn import shapes
from fastnn.layers.base import Array, Layer, Shape


class _Merging(Layer):
    """A layer that is called on a list of arrays; `backward` gives a list of gradients."""

    supports_masking = True
    uses_mask = False

    def _cast(self, x: Any) -> Any:
        if not isinstance(x, (tuple, list)) or not x:
            raise TypeError(f"[{self.name}] x is {shapes.words(x)}; a list of arrays is needed")
        xs = [super(_Merging, self)._cast(one) for one in x]
        given: Any = [one.shape for one in xs]
        self.compute_output_shape(given)  # refuses what does not fit
        return xs

    def compute_mask(self, x: Any, mask: Any) -> Array | None:
        """A step counts where it counts in every input."""
        known = [one for one in mask or () if one is not None]
        return reduce(np.logical_and, known) if known else None


class _Elementwise(_Merging):
    """Inputs of one shape."""

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The common shape."""
        first = tuple(input_shape[0])
        if any(tuple(shape) != first for shape in input_shape):
            given = ", ".join(str(tuple(shape)) for shape in input_shape)
            raise ValueError(f"[{self.name}] inputs of shapes {given}; one shape is needed")
        return first


class Add(_Elementwise):
    """The sum of the inputs, such as a residual connection needs."""

    def forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        """``x[0] + x[1] + ...``"""
        return sum(x[1:], x[0].copy()), len(x)

    def vjp(self, dy: Array, saved: Any) -> list[Array]:
        """The same for every input."""
        return [dy] * saved


class Average(_Elementwise):
    """The mean of the inputs."""

    def forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        """``(x[0] + x[1] + ...) / n``"""
        return sum(x[1:], x[0].copy()) / len(x), len(x)

    def vjp(self, dy: Array, saved: Any) -> list[Array]:
        """Its share for every input."""
        return [dy / saved] * saved


class Multiply(_Elementwise):
    """The product of the inputs."""

    def forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        """``x[0] * x[1] * ...``"""
        return self._product(x), list(x)

    def vjp(self, dy: Array, saved: Any) -> list[Array]:
        """For each input the product of the others."""
        return [
            self._product([dy, *(x for j, x in enumerate(saved) if j != i)])
            for i in range(len(saved))
        ]

    @staticmethod
    def _product(factors: Sequence[Array]) -> Array:
        y = factors[0].copy()
        for factor in factors[1:]:
            y *= factor
        return y


class Concatenate(_Merging):
    """The inputs side by side.

    Parameters
    ----------
    axis : int
        Along which; the others are of one size. Not the batch's, 0.
    """

    config_fields = ("axis",)

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = shapes.integer(self.name, "axis", axis, -32)
        if self.axis == 0:
            raise ValueError(f"[{self.name}] axis=0, the batch; another axis is needed")

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The sizes along the axis added up."""
        given = [tuple(shape) for shape in input_shape]
        first = given[0]
        axis = self.axis % len(first) if -len(first) < self.axis < len(first) else None
        if axis is None or any(
            len(shape) != len(first)
            or shape[:axis] + shape[axis + 1 :] != self._others(first, axis)
            for shape in given
        ):
            raise ValueError(
                f"[{self.name}] inputs of shapes {', '.join(map(str, given))}, axis {self.axis}; "
                "shapes that differ along this axis alone are needed"
            )
        sizes = [shape[axis] for shape in given]
        total = None if None in sizes else sum(sizes)  # type: ignore[arg-type]
        return (*first[:axis], total, *first[axis + 1 :])

    @staticmethod
    def _others(shape: Shape, axis: int) -> Shape:
        return shape[:axis] + shape[axis + 1 :]

    def forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        """``concatenate(x, axis)``"""
        return np.concatenate(x, self.axis), [one.shape[self.axis] for one in x]

    def vjp(self, dy: Array, saved: Any) -> list[Array]:
        """The pieces."""
        ends = np.cumsum(saved)[:-1]
        return np.split(dy, ends, self.axis)

    def compute_mask(self, x: Any, mask: Any) -> Array | None:
        """Along time the masks side by side, else a step counts where it counts in every input."""
        if self.axis % x[0].ndim != 1 or all(one is None for one in mask or (None,)):
            return super().compute_mask(x, mask)
        pieces = [
            np.ones_like(one, bool, shape=one.shape[:2]) if kept is None else kept
            for one, kept in zip(x, mask, strict=True)
        ]
        return np.concatenate(pieces, axis=1)


__all__ = ["Add", "Average", "Concatenate", "Multiply"]
