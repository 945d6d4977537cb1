"""A function of the user's as a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import dispatch, tracing
from fastnn.layers.base import Array, Layer, Shape
from fastnn.registry import Config, callable_name

# Two values for sizes that are not known.
_PROBES = (16, 17)


class Lambda(Layer):
    """A function of yours as a layer.

    In training the function is differentiated exactly, by tracing what it does with NumPy:
    arithmetic, powers, exp, log, tanh and the like, matrix products, sums, means, extremes,
    `where`, slices and every change of shape (``np.expand_dims``, ``x[..., None]``, ``reshape``,
    ``take``, ``concatenate``...). Where it does anything else, a `backward` that reaches the layer
    is an error that names it, and ``gradient`` is needed.

    Parameters
    ----------
    function : callable
        ``function(x) -> y``, on batches; x is not to be changed.
    gradient : callable, optional
        ``gradient(dy, x, y) -> dx``, in place of tracing.
    output_shape : tuple of int or None, or callable, optional
        Shape of one output without the batch, or a function of the input's shape with the batch.
        Default: what the function makes of zeros.

    Notes
    -----
    Functions are saved by name only: `load_model` needs them in ``custom_objects``. As in Keras 3
    a mask ends here.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import layers
    >>> layer = layers.Lambda(lambda x: np.expand_dims(x, -1) * 100)
    >>> layer(np.ones((2, 3), "float32"), training=True).shape
    (2, 3, 1)
    >>> layer.backward(np.ones((2, 3, 1), "float32"))[0, 0]
    np.float32(100.0)
    """

    config_fields = ("function", "gradient", "output_shape")

    def __init__(
        self,
        function: Callable[[Array], Array],
        gradient: Callable[[Array, Array, Array], Array] | None = None,
        output_shape: Sequence[int | None] | Callable[[Shape], Shape] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"[{self.name}] function={function!r}; a function is needed")
        self.function = function
        self.gradient = gradient
        self.output_shape = output_shape

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """``function(x)``."""
        if self.gradient is not None or not training:
            y = self.function(x)
            return y, lambda dy: self.gradient(dy, x, y)  # type: ignore[misc]
        try:
            return tracing.value_and_pull(self.function, x)
        except tracing.NoGradientError as error:
            # No gradient may be wanted: a network's first layers need none of the data.
            return self.function(x), error

    def vjp(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input."""
        if isinstance(saved, tracing.NoGradientError):
            raise RuntimeError(
                f"[{self.name}] backward through the function, but {saved}; "
                "Lambda(function, gradient=...) is needed"
            ) from saved
        return saved(dy)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """By ``output_shape``, else by what the function makes of zeros."""
        if callable(self.output_shape):
            return tuple(self.output_shape(input_shape))
        if self.output_shape is not None:
            return (input_shape[0], *self.output_shape)
        first, second = (self._shape_of_zeros(input_shape, size) for size in _PROBES)
        if len(first) != len(second):
            raise ValueError(
                f"[{self.name}] the function gives shapes {first} and {second} for inputs "
                f"{tuple(input_shape)}; output_shape=... is needed"
            )
        # A size that follows an unknown one is unknown.
        return tuple(a if a == b else None for a, b in zip(first, second, strict=True))

    def _shape_of_zeros(self, input_shape: Shape, unknown: int) -> tuple[int, ...]:
        shape = tuple(unknown if n is None else n for n in input_shape)
        try:
            return tuple(self.function(dispatch.asarray(np.zeros(shape, self.dtype))).shape)
        except Exception as error:
            raise ValueError(
                f"[{self.name}] the function does not take zeros of shape {shape} "
                f"({type(error).__name__}: {error}); one that does, or output_shape=..., is needed"
            ) from error

    def get_config(self) -> Config:
        """The constructor's arguments, functions by their names."""
        config = {**super().get_config()}
        for field in self.config_fields:
            value = getattr(self, field)
            if callable(value):
                config[field] = {"function": callable_name(value)}
        return config

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """The layer again; its functions are looked up in ``custom_objects``."""
        arguments = dict(config)
        for field in cls.config_fields:
            value = arguments.get(field)
            if isinstance(value, Mapping):
                name = value["function"]
                if name not in (custom_objects or {}):
                    raise ValueError(
                        f"[Lambda] the function {name!r} is not known; "
                        f"custom_objects={{{name!r}: function}} is needed"
                    )
                arguments[field] = custom_objects[name]  # type: ignore[index]
        return cls(**arguments)


__all__ = ["Lambda"]
