"""The dense (fully connected) operation."""

from __future__ import annotations

from fastnn import dispatch, shapes
from fastnn.types import Array, DenseGrads, DenseSaved

__all__ = ["dense_backward", "dense_forward"]

_FUSED = (None, "linear", "relu", "tanh", "sigmoid")


def dense_forward(
    x: Array, kernel: Array, bias: Array | None = None, *, activation: str | None = None
) -> tuple[Array, DenseSaved]:
    """``activation(x @ kernel + bias)``.

    Parameters
    ----------
    x : ndarray [..., I], float32 or float64
    kernel : ndarray [I, O]
    bias : ndarray [O], optional
    activation : None, "linear", "relu", "tanh" or "sigmoid"

    Returns
    -------
    y : ndarray [..., O]
    saved : DenseSaved

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size.
    """
    op = "dense_forward"
    name, backend = dispatch.choose(op, ("x", "kernel", "bias"), (x, kernel), (bias,))
    shapes.check_floating(op, "x", x)
    shapes.check_rank(op, "kernel", kernel, "I O")
    shapes.check_nonempty(op, "kernel", kernel)
    shapes.check_same_dtype(op, "kernel", kernel, "x", x)
    inputs, units = kernel.shape
    if x.shape[-1] != inputs:
        raise ValueError(
            f"[{op}] x has {x.shape[-1]} inputs and the kernel is {[inputs, units]}; "
            "x [..., I] and kernel [I, O] are needed"
        )
    if bias is not None:
        shapes.check_same_dtype(op, "bias", bias, "x", x)
        shapes.check_shape(op, "bias", bias, (units,))
    shapes.check_elements(op, "the result", (*x.shape[:-1], units))
    shapes.check_choice(op, "activation", activation, _FUSED)
    if activation == "linear":
        activation = None
    y = backend.dense_forward(x, kernel, bias, activation)
    return y, DenseSaved(name, x, kernel, bias, y, activation)


def dense_backward(dy: Array, saved: DenseSaved, *, need_dx: bool = True) -> DenseGrads:
    """Gradients of `dense_forward`.

    Parameters
    ----------
    dy : ndarray [..., O]
        Gradient of y, in its dtype.
    saved : DenseSaved
    need_dx : bool
        False leaves ``dx`` out (None), as for the first layer of a network.

    Returns
    -------
    DenseGrads
        ``dx``, ``dkernel`` and ``dbias`` (None without a bias).

    Raises
    ------
    TypeError, ValueError
        If ``saved`` is not of `dense_forward`, or ``dy`` does not match its output.
    """
    return dense_backward_into(dy, saved, (None, None), need_dx=need_dx)


def dense_backward_into(
    dy: Array,
    saved: DenseSaved,
    out: tuple[Array | None, Array | None],
    *,
    need_dx: bool = True,
) -> DenseGrads:
    """`dense_backward` for layers, whose gradients have a place already.

    ``out`` are arrays for ``dkernel`` and ``dbias``, which share no memory with other arguments.
    Where the backend can write there and an array fits, the result is that array itself; otherwise
    it is left as it is.
    """
    op = "dense_backward"
    shapes.check_saved(op, saved, DenseSaved)
    backend = dispatch.owner(op, saved.backend, dy)
    shapes.check_gradient(op, dy, saved.y.shape, saved.y.dtype)
    if hasattr(backend, "dense_backward_into"):
        return backend.dense_backward_into(dy, saved, need_dx, out)
    return backend.dense_backward(dy, saved, need_dx)
