"""Activation functions, with Keras 3's names and constants."""

from __future__ import annotations

from fastnn import dispatch, shapes
from fastnn.types import ActivationSaved, Array

__all__ = ["ACTIVATIONS", "activation_backward", "activation_forward"]

# What the derivative is written with: y where that is as accurate, so that x can be freed.
_KEPT = {
    "linear": "y",
    "relu": "y",
    "leaky_relu": "y",
    "elu": "y",
    "selu": "y",
    "tanh": "y",
    "sigmoid": "y",
    "hard_sigmoid": "y",
    "softplus": "y",
    "softsign": "x",
    "exponential": "y",
    "silu": "x",
    "gelu": "x",
    "softmax": "y",
    "log_softmax": "y",
}

ACTIVATIONS: tuple[str, ...] = tuple(_KEPT)


def activation_forward(x: Array, activation: str) -> tuple[Array, ActivationSaved]:
    """An activation function; softmax and log_softmax go over the last axis.

    Parameters
    ----------
    x : ndarray [...], float32 or float64
    activation : str
        linear, relu, leaky_relu (slope 0.2), elu (alpha 1), selu, tanh, sigmoid,
        hard_sigmoid (``relu6(x + 3) / 6``), softplus, softsign, exponential, silu, gelu (the exact
        one, by the error function), softmax or log_softmax.

    Returns
    -------
    y : ndarray [...]
    saved : ActivationSaved

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, a scalar, an unknown name, or a softmax over no classes.
    """
    op = "activation_forward"
    name, backend = dispatch.choose(op, ("x",), (x,))
    shapes.check_floating(op, "x", x)
    kept = _KEPT.get(activation) if isinstance(activation, str) else None
    if kept is None:
        shapes.check_choice(op, "activation", activation, ACTIVATIONS)
    if activation in ("softmax", "log_softmax"):
        shapes.check_nonempty(op, "x", x, x.ndim - 1)
    y = backend.activation_forward(x, activation)
    return y, ActivationSaved(
        name, activation, x if kept == "x" else None, y if kept == "y" else None
    )


def activation_backward(dy: Array, saved: ActivationSaved) -> Array:
    """Gradient of `activation_forward`.

    Parameters
    ----------
    dy : ndarray [...]
        Gradient of y, in its shape and dtype.
    saved : ActivationSaved

    Returns
    -------
    ndarray [...]
        Gradient of x.

    Raises
    ------
    TypeError, ValueError
        If ``saved`` is not of `activation_forward`, or ``dy`` does not match its output.
    """
    op = "activation_backward"
    shapes.check_saved(op, saved, ActivationSaved)
    backend = dispatch.owner(op, saved.backend, dy)
    kept: Array = saved.y if saved.x is None else saved.x
    shapes.check_gradient(op, dy, kept.shape, kept.dtype)
    return backend.activation_backward(dy, saved)
