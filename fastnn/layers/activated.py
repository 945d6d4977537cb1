"""Layers that end in an activation: inside the kernel where it can be, after it otherwise."""

from __future__ import annotations

from typing import Any

from fastnn import ops, shapes
from fastnn.layers.base import Array, Layer

FUSED = ("relu", "tanh", "sigmoid")


def check_activation(owner: str, activation: str | None) -> str | None:
    """The activation's name, None for linear; a ValueError that lists the names otherwise."""
    if activation is None:
        return None
    shapes.check_choice(owner, "activation", activation, ops.ACTIVATIONS)
    return None if activation == "linear" else activation


class ActivatedLayer(Layer):
    """A layer that is linear up to an activation.

    Subclasses implement `forward_linear` and `vjp_linear`; the former gets the activation when the
    kernel fuses it, else None.
    """

    activation: str | None

    def forward_linear(self, x: Array, activation: str | None) -> tuple[Array, Any]:
        """Output (with the activation, if one is given), and what `vjp_linear` needs."""
        raise NotImplementedError

    def vjp_linear(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input; sets those of the weights."""
        raise NotImplementedError

    def forward(self, x: Array, training: bool, logits: bool = False) -> tuple[Array, Any]:
        """As every layer's; ``logits=True`` leaves the activation out (for fused losses)."""
        activation = None if logits else self.activation
        if activation is None or activation in FUSED:
            y, inner = self.forward_linear(x, activation)
            return y, (inner, None)
        y, inner = self.forward_linear(x, None)
        y, outer = ops.activation_forward(y, activation)
        return y, (inner, outer)

    def vjp(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input."""
        inner, outer = saved
        if outer is not None:
            dy = ops.activation_backward(dy, outer)
        return self.vjp_linear(dy, inner)

    def set_gradients_of(self, grads: Any) -> Array:
        """Set the gradients of kernel and bias from a record with dx, dkernel, dbias; gives dx."""
        self.set_gradient("kernel", grads.dkernel)
        if grads.dbias is not None:
            self.set_gradient("bias", grads.dbias)
        return grads.dx
