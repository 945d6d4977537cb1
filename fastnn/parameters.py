"""The weights of a model as views into one buffer, so that an optimizer makes a few long passes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.layers.base import Layer

Array = Any


class FlatParameters:
    """Weights and gradients of layers, moved into one buffer a dtype.

    Afterwards the layers' weights and gradients are views: optimizers write the buffers, layers
    see it, and the other way round.

    Parameters
    ----------
    layers : iterable of Layer
        Only weights of their own count, not those of sublayers (see `Layer.trainable_leaves`).

    Attributes
    ----------
    values, gradients : list of array
        The buffers, one a dtype.
    gradient_views : list of array
        One a weight.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._entries = [(layer, name) for layer in layers for name in layer._weights]
        self.values: list[Array] = []
        self.gradients: list[Array] = []
        self.gradient_views: list[Array] = []
        for dtype in dict.fromkeys(layer._dtype for layer, _ in self._entries):
            group = [(layer, name) for layer, name in self._entries if layer._dtype == dtype]
            self._pack(group)

    def _pack(self, group: list[tuple[Layer, str]]) -> None:
        first = group[0][0]._weights[group[0][1]]
        size = sum(int(layer._weights[name].size) for layer, name in group)
        # Like the first weight: where that lives on a device, the buffers do.
        values, gradients = (np.zeros_like(first, shape=(size,), order="C") for _ in range(2))
        start = 0
        for layer, name in group:
            shape = layer._weights[name].shape
            part = slice(start, start + int(layer._weights[name].size))
            gradient = gradients[part].reshape(shape)
            layer.bind(name, values[part].reshape(shape), gradient)
            self.gradient_views.append(gradient)
            start = part.stop
        self.values.append(values)
        self.gradients.append(gradients)

    def holds(self, layers: Iterable[Layer]) -> bool:
        """Whether these buffers are still those of exactly these layers' weights."""
        entries = [(layer, name) for layer in layers for name in layer._weights]
        return len(entries) == len(self._entries) and all(
            layer is own and name == own_name and self._inside(layer._weights[name])
            for (layer, name), (own, own_name) in zip(entries, self._entries, strict=True)
        )

    def _inside(self, weight: Array) -> bool:
        return any(weight.base is values for values in self.values)
