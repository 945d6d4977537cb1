"""Layers that only change shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import shapes
from fastnn.layers.base import Array, Layer, Shape
from fastnn.layers.windows import check_data_format


class Flatten(Layer):
    """[B, ...] -> [B, product of the rest].

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        With channels_first the channels are moved last before flattening, so that weights trained
        in either format fit.
    """

    config_fields = ("data_format",)

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self.name, data_format)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The input in another shape."""
        if self.data_format == "channels_first" and x.ndim > 2:
            x = np.moveaxis(x, 1, -1)
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), x.shape

    def vjp(self, dy: Array, saved: Any) -> Array:
        """The gradient in the input's shape."""
        dx = dy.reshape(saved)
        if self.data_format == "channels_first" and dx.ndim > 2:
            dx = np.moveaxis(dx, -1, 1)
        return dx

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """[B, product of the rest]."""
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))  # type: ignore[arg-type]


class Reshape(Layer):
    """[B, ...] -> [B, *target_shape].

    Parameters
    ----------
    target_shape : tuple of int
        One entry may be -1: whatever is left.
    """

    config_fields = ("target_shape",)

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = shapes.sizes(self.name, "target_shape", target_shape, -1)
        if self.target_shape.count(-1) > 1 or any(n < 1 and n != -1 for n in self.target_shape):
            raise ValueError(
                f"[{self.name}] target_shape={target_shape!r}; positive sizes, at most one of them "
                "-1, are needed"
            )

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The input in another shape."""
        target = self.compute_output_shape(x.shape)
        return x.reshape(target), x.shape

    def vjp(self, dy: Array, saved: Any) -> Array:
        """The gradient in the input's shape."""
        return dy.reshape(saved)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """[B, *target_shape], with -1 resolved."""
        target = self.target_shape
        if None in input_shape[1:]:
            return (input_shape[0], *(None if n == -1 else n for n in target))
        size = math.prod(input_shape[1:])  # type: ignore[arg-type]
        known = math.prod(n for n in target if n != -1)
        rest, remainder = divmod(size, known)
        if remainder or (rest != 1 and -1 not in target):
            raise ValueError(
                f"[{self.name}] input of shape {tuple(input_shape)}; {self.target_shape}, as many "
                "elements, is needed"
            )
        return (input_shape[0], *(rest if n == -1 else n for n in target))


class Permute(Layer):
    """[B, ...] with its axes in another order.

    Parameters
    ----------
    dims : tuple of int
        Of the axes without the batch, counted from 1, as in Keras.
    """

    config_fields = ("dims",)

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = shapes.sizes(self.name, "dims", dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"[{self.name}] dims={tuple(dims)}; each of 1 .. {len(self.dims)} once is needed"
            )

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """A view."""
        self.compute_output_shape(x.shape)
        return x.transpose(0, *self.dims), None

    def vjp(self, dy: Array, saved: Any) -> Array:
        """The gradient in the input's order."""
        return dy.transpose(0, *(1 + int(i) for i in np.argsort(self.dims)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The sizes in their new order."""
        if len(input_shape) != 1 + len(self.dims):
            raise ValueError(
                f"[{self.name}] input of shape {tuple(input_shape)}; {1 + len(self.dims)} "
                "dimensions are needed"
            )
        return (input_shape[0], *(input_shape[i] for i in self.dims))


class RepeatVector(Layer):
    """[B, F] -> [B, n, F]: the same vector at every step, such as a decoder's input.

    Parameters
    ----------
    n : int
    """

    config_fields = ("n",)

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = shapes.integer(self.name, "n", n, 1)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The input n times."""
        self.compute_output_shape(x.shape)
        return np.repeat(x[:, None], self.n, axis=1), None

    def vjp(self, dy: Array, saved: Any) -> Array:
        """The sum over the steps."""
        return dy.sum(axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """[B, n, F]."""
        if len(input_shape) != 2:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(input_shape)}; [batch, features] is needed"
            )
        return (input_shape[0], self.n, input_shape[1])


__all__ = ["Flatten", "Permute", "RepeatVector", "Reshape"]
