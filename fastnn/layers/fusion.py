"""What two neighbouring layers of a model do in one pass over their data."""

from __future__ import annotations

from fastnn.layers.activated import ActivatedLayer
from fastnn.layers.base import Layer
from fastnn.layers.core import Activation
from fastnn.layers.pooling import takes_relu


def relu_joins_pooling(layer: Layer, reader: Layer) -> bool:
    """Whether the ReLU in which ``layer`` ends can be left to ``reader``, which alone reads it.

    ``max(relu(x)) == relu(max(x))``. So the model calls the layer with ``logits=True`` and the
    pooling with ``activation="relu"``, whose gradient, made in one pass, is the one before the
    ReLU.
    """
    return (
        isinstance(layer, ActivatedLayer)
        and layer.activation == "relu"
        and type(layer).forward in (ActivatedLayer.forward, Activation.forward)
        and takes_relu(reader)
    )
