"""Pooling over windows of an image: maximum, average, and stochastic."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from fastnn import deferred, dispatch, shapes
from fastnn.types import Array, PoolSaved, Window

__all__ = [
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "stochastic_pool2d_backward",
    "stochastic_pool2d_forward",
]


def max_pool2d_forward(
    x: Array,
    *,
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Any = "valid",
    data_format: str = "channels_last",
    keep: bool = True,
    activation: str | None = None,
) -> tuple[Array, PoolSaved | None]:
    """The maximum of each window. The first maximum wins, a NaN wins over numbers.

    Parameters
    ----------
    x : ndarray [B, h, w, C] or, channels first, [B, C, h, w], float32 or float64
    pool_size : int or (int, int)
    strides : int or (int, int), optional
        ``pool_size`` by default.
    padding : "valid", "same", int, or ((top, bottom), (left, right))
        Smaller than the window; padding is never the maximum.
    data_format : "channels_last" or "channels_first"
    keep : bool
        False for inference: no record is made.
    activation : None, "linear" or "relu"
        ``relu(max(x))``, which is ``max(relu(x))``: y and dx are those of a ReLU before pooling,
        in one pass over x instead of two, and none over dx. The sign of a zero may differ.

    Returns
    -------
    y : ndarray [B, oh, ow, C] or [B, C, oh, ow]
    saved : PoolSaved or None

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size, another activation, or a window larger than the padded image.
    """
    op = "max_pool2d_forward"
    name, backend, window = _prepare(op, x, pool_size, strides, padding, data_format)
    keep = shapes.flag(op, "keep", keep)
    shapes.check_choice(op, "activation", activation, (None, "linear", "relu"))
    fused = None if activation == "linear" else activation
    y, offsets = backend.max_pool2d_forward(x, window, data_format, fused, keep)
    if not keep:
        return y, None
    return y, PoolSaved(name, "max", x.shape, window, data_format, offsets)


def max_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    """Gradient of `max_pool2d_forward`: each dy goes to the cell that was the maximum.

    With its ``activation="relu"`` only where y is positive.

    Parameters
    ----------
    dy : ndarray
        Gradient of y, in its shape and dtype.
    saved : PoolSaved

    Returns
    -------
    ndarray
        Gradient of x.

    Raises
    ------
    TypeError, ValueError
        If ``saved`` is of another operation or None, or ``dy`` does not match the output.
    """
    backend = _owner("max_pool2d_backward", "max", dy, saved)
    return backend.max_pool2d_backward(dy, saved)


def avg_pool2d_forward(
    x: Array,
    *,
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Any = "valid",
    data_format: str = "channels_last",
    count_include_pad: bool = False,
) -> tuple[Array, PoolSaved]:
    """The mean of each window.

    Parameters
    ----------
    x, pool_size, strides, padding, data_format
        As in `max_pool2d_forward`.
    count_include_pad : bool
        Divide by the window's size; otherwise by its cells inside the image.

    Returns
    -------
    y : ndarray [B, oh, ow, C] or [B, C, oh, ow]
    saved : PoolSaved

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_forward`.
    """
    op = "avg_pool2d_forward"
    name, backend, window = _prepare(op, x, pool_size, strides, padding, data_format)
    whole = shapes.flag(op, "count_include_pad", count_include_pad)
    y = backend.avg_pool2d_forward(x, window, data_format, whole)
    return y, PoolSaved(name, "avg", x.shape, window, data_format, None, None, whole)


def avg_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    """Gradient of `avg_pool2d_forward`.

    Parameters
    ----------
    dy : ndarray
        Gradient of y, in its shape and float dtype.
    saved : PoolSaved

    Returns
    -------
    ndarray
        Gradient of x.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_backward`.
    """
    backend = _owner("avg_pool2d_backward", "avg", dy, saved)
    return backend.avg_pool2d_backward(dy, saved)


def stochastic_pool2d_forward(
    x: Array,
    *,
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Any = "valid",
    data_format: str = "channels_last",
    training: bool = False,
    seed: int | None = None,
    keep: bool = True,
) -> tuple[Array, PoolSaved | None]:
    """Stochastic pooling [1]_: a cell is drawn with the probability ``a_i / sum a``.

    Not in training, the output is the probability-weighted sum ``sum a_i^2 / sum a``. A window of
    zeros gives zero.

    Parameters
    ----------
    x : ndarray [B, h, w, C] or, channels first, [B, C, h, w], float32 or float64
        Not negative (put it after a relu).
    pool_size, strides, padding, data_format, keep
        As in `max_pool2d_forward`.
    training : bool
    seed : int, needed in training
        ``0 <= seed < 2**64``. One seed gives the same choices on every backend.

    Returns
    -------
    y : ndarray [B, oh, ow, C] or [B, C, oh, ow]
    saved : PoolSaved or None

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_forward`; a negative x; training without a seed.

    References
    ----------
    .. [1] Zeiler, Fergus: Stochastic pooling for regularization of deep convolutional neural
       networks. ICLR 2013.
    """
    op = "stochastic_pool2d_forward"
    name, backend, window = _prepare(op, x, pool_size, strides, padding, data_format)
    training, keep = shapes.flag(op, "training", training), shapes.flag(op, "keep", keep)
    if training and seed is None:
        raise ValueError(f"[{op}] training without a seed; an integer seed is needed")
    number = shapes.seed_number(op, seed) if training else None
    x = backend.asarray(x)
    bad = (x < 0).any()
    message = f"[{op}] x has negative values; values of at least 0 are needed (a relu gives them)"
    if deferred.waits(x):
        deferred.put_off(message, bad)
    elif bad:
        raise ValueError(message)
    y, offsets = backend.stochastic_pool2d_forward(x, window, data_format, number, keep)
    if not keep:
        return y, None
    kept = None if training else x
    return y, PoolSaved(name, "stochastic", x.shape, window, data_format, offsets, kept)


def stochastic_pool2d_backward(dy: Array, saved: PoolSaved) -> Array:
    """Gradient of `stochastic_pool2d_forward`.

    In training each dy goes to the cell that was drawn; otherwise it is the derivative of the
    weighted sum, ``(2 a_i - y) / sum a``, and 0 in a window of zeros.

    Parameters
    ----------
    dy : ndarray
        Gradient of y, in its shape and dtype.
    saved : PoolSaved

    Returns
    -------
    ndarray
        Gradient of x.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_backward`.
    """
    backend = _owner("stochastic_pool2d_backward", "stochastic", dy, saved)
    if saved.offsets is not None:
        return backend.max_pool2d_backward(dy, saved)
    return backend.stochastic_pool2d_backward(dy, saved)


def _prepare(
    op: str, x: Array, pool_size: Any, strides: Any, padding: Any, data_format: str
) -> tuple[str, ModuleType, Window]:
    name, backend = dispatch.choose(op, ("x",), (x,))
    height, width, channels = shapes.check_image(op, x, data_format)
    pool = shapes.pair(op, "pool_size", pool_size)
    steps = pool if strides is None else strides
    window, size = shapes.window(op, (x.shape[height], x.shape[width]), pool, steps, padding, 1)
    shapes.check_elements(op, "the windows", (x.shape[0], *size, *pool, x.shape[channels]))
    if pool[0] * pool[1] >= 2**31:
        raise ValueError(f"[{op}] pool_size is {pool}; fewer than 2**31 cells are needed")
    for length, margin in zip(pool, window.padding, strict=True):
        if max(margin) >= length:  # a window could lie wholly outside the image
            raise ValueError(
                f"[{op}] padding is {window.padding} with pool_size {pool}; "
                "padding smaller than the window is needed"
            )
    return name, backend, window


def _owner(op: str, kind: str, dy: Array, saved: Any) -> ModuleType:
    shapes.check_saved(op, saved, PoolSaved)
    if saved.kind != kind:
        raise TypeError(
            f"[{op}] saved is of {saved.kind} pooling; the record of {kind} pooling is needed"
        )
    backend = dispatch.owner(op, saved.backend, dy)
    height, width, channels = shapes.image_axes(saved.data_format)
    x_shape = saved.x_shape
    size = shapes.window_output((x_shape[height], x_shape[width]), saved.window)
    shapes.check_floating(op, "dy", dy)
    dtype = dy.dtype if saved.x is None else saved.x.dtype
    y_shape = shapes.image_shape(x_shape[0], size, x_shape[channels], saved.data_format)
    shapes.check_gradient(op, dy, y_shape, dtype)
    return backend
