"""Counter-based noise: the same bits for one seed on every backend, and any number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import dispatch, shapes
from fastnn.types import Array, DropoutSaved

__all__ = ["dropout_backward", "dropout_forward", "random_uniform"]


def random_uniform(
    shape: int | Sequence[int], *, seed: int, stream: int = 0, dtype: str = "float32"
) -> Array:
    """Uniform numbers in ``[0, 1)`` by Philox4x32-10 [1]_.

    Parameters
    ----------
    shape : int or sequence of int
    seed : int
        ``0 <= seed < 2**64``.
    stream : int
        ``0 <= stream < 2**32``. Streams of one seed are independent; 1 to 5 are fastnn's own.
    dtype : "float32" or "float64"
        Both hold the same 24-bit values.

    Returns
    -------
    ndarray [*shape]
        On the backend chosen by the dispatcher.

    Raises
    ------
    TypeError, ValueError
        An argument outside its range.

    References
    ----------
    .. [1] Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
    """
    op = "random_uniform"
    _, backend = dispatch.choose(op, (), ())
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    sizes = tuple(shapes.integer(op, "shape", n, 0, 2**60) for n in sizes)
    shapes.check_elements(op, "the result", sizes)
    number = shapes.seed_number(op, seed)
    lane = shapes.integer(op, "stream", stream, 0, 2**32 - 1)
    shapes.check_choice(op, "dtype", dtype, ("float32", "float64"))
    return backend.random_uniform(sizes, number, lane, dtype)


def dropout_forward(
    x: Array, *, rate: float, seed: int, noise_shape: Sequence[int | None] | None = None
) -> tuple[Array, DropoutSaved]:
    """Zeros at the given rate; what is left is scaled by ``1 / (1 - rate)``.

    Parameters
    ----------
    x : ndarray [...], float32 or float64
    rate : float
        Probability of a zero, ``0 <= rate < 1``.
    seed : int
        ``0 <= seed < 2**64``.
    noise_shape : sequence of int or None, optional
        For each axis 1 (one decision along it) or its size (None: its size); x's shape by default.

    Returns
    -------
    y : ndarray [...]
    saved : DropoutSaved

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, or an argument outside its range.
    """
    op = "dropout_forward"
    name, backend = dispatch.choose(op, ("x",), (x,))
    shapes.check_floating(op, "x", x)
    probability = shapes.rate_number(op, "rate", rate)
    number = shapes.seed_number(op, seed)
    shape = x.shape if noise_shape is None else _noise_shape(op, x, noise_shape)
    y = backend.dropout_forward(x, probability, number, shape)
    return y, DropoutSaved(name, probability, number, shape)


def _noise_shape(op: str, x: Array, noise_shape: Any) -> tuple[int, ...]:
    if isinstance(noise_shape, (tuple, list)) and len(noise_shape) == x.ndim:
        shape = tuple(n if m is None else m for m, n in zip(noise_shape, x.shape, strict=True))
        if all(m in (1, n) for m, n in zip(shape, x.shape, strict=True)):
            return tuple(int(m) for m in shape)
    raise ValueError(
        f"[{op}] noise_shape is {shapes.words(noise_shape)} for x {list(x.shape)}; "
        "for each axis 1, its size or None is needed"
    )


def dropout_backward(dy: Array, saved: DropoutSaved) -> Array:
    """Gradient of `dropout_forward`: the same zeros and the same scale.

    Parameters
    ----------
    dy : ndarray [...]
        Gradient of y, in its shape and dtype.
    saved : DropoutSaved

    Returns
    -------
    ndarray [...]
        Gradient of x.

    Raises
    ------
    TypeError, ValueError
        If ``saved`` is not of `dropout_forward`, or ``dy`` does not fit its noise.
    """
    op = "dropout_backward"
    shapes.check_saved(op, saved, DropoutSaved)
    backend = dispatch.owner(op, saved.backend, dy)
    shapes.check_floating(op, "dy", dy)
    noise = saved.noise_shape
    if dy.shape != noise and (
        dy.ndim != len(noise) or any(m not in (1, n) for m, n in zip(noise, dy.shape, strict=True))
    ):
        raise ValueError(
            f"[{op}] {shapes.given('dy', dy)}; a shape for the noise {list(noise)} is needed"
        )
    return backend.dropout_backward(dy, saved)
