"""Pooling layers: max, average, stochastic, and over the whole image or sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import ops, shapes
from fastnn.layers import windows
from fastnn.layers.base import Array, Layer, Shape
from fastnn.seeding import SeedGenerator, check_seed


def _as_image(x: Array, data_format: str) -> Array:
    """A sequence as an image of height 1; a view."""
    return x[:, None] if data_format == "channels_last" else x[:, :, None]


class _Kind:
    """One kind of pooling: how it calls its operations."""

    def pool(self, x: Array, training: bool, **window: Any) -> tuple[Array, Any]:
        """Output and saved record of the two-dimensional operation."""
        raise NotImplementedError

    def unpool(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input."""
        raise NotImplementedError


class _Max(_Kind):
    def pool(
        self, x: Array, training: bool, activation: str | None = None, **window: Any
    ) -> tuple[Array, Any]:
        return ops.max_pool2d_forward(x, keep=training, activation=activation, **window)

    def unpool(self, dy: Array, saved: Any) -> Array:
        return ops.max_pool2d_backward(dy, saved)


class _Average(_Kind):
    count_include_pad = False

    def pool(self, x: Array, training: bool, **window: Any) -> tuple[Array, Any]:
        return ops.avg_pool2d_forward(x, count_include_pad=self.count_include_pad, **window)

    def unpool(self, dy: Array, saved: Any) -> Array:
        return ops.avg_pool2d_backward(dy, saved)


class _Stochastic(_Kind):
    seed_generator: SeedGenerator

    def pool(self, x: Array, training: bool, **window: Any) -> tuple[Array, Any]:
        seed = self.seed_generator.next() if training else None
        return ops.stochastic_pool2d_forward(
            x, training=training, seed=seed, keep=training, **window
        )

    def unpool(self, dy: Array, saved: Any) -> Array:
        return ops.stochastic_pool2d_backward(dy, saved)


class _Pooling(_Kind, Layer):
    """A window that walks over ``rank`` axes; a sequence is an image of height 1."""

    rank: int
    config_fields: tuple[str, ...] = ("pool_size", "strides", "padding", "data_format")

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = windows.per_axis(self.name, "pool_size", pool_size, self.rank)
        self.strides = (
            self.pool_size
            if strides is None
            else windows.per_axis(self.name, "strides", strides, self.rank)
        )
        if padding == "causal":
            raise ValueError(f"[{self.name}] padding='causal'; 'valid' or 'same' is needed")
        self.padding = windows.check_padding(self.name, padding, self.rank)
        self.data_format = windows.check_data_format(self.name, data_format)

    def forward(self, x: Array, training: bool, **options: Any) -> tuple[Array, Any]:
        """One value a window; ``options`` are the operation's (maximum: ``activation``)."""
        if x.ndim != self.rank + 2:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(x.shape)}; {self.rank + 2} dimensions "
                "are needed"
            )
        if self.rank == 2:
            return self.pool(
                x,
                training,
                pool_size=self.pool_size,
                strides=self.strides,
                padding=self.padding,
                data_format=self.data_format,
                **options,
            )
        y, saved = self.pool(
            _as_image(x, self.data_format),
            training,
            pool_size=(1, *self.pool_size),
            strides=(1, *self.strides),
            padding=self._image_padding(),
            data_format=self.data_format,
            **options,
        )
        return self._as_sequence(y), saved

    def vjp(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input."""
        if self.rank == 2:
            return self.unpool(dy, saved)
        return self._as_sequence(self.unpool(_as_image(dy, self.data_format), saved))

    def _as_sequence(self, y: Array) -> Array:
        return y[:, 0] if self.data_format == "channels_last" else y[:, :, 0]

    def _image_padding(self) -> Any:
        if isinstance(self.padding, str):
            return self.padding
        return ((0, 0), shapes.pair(self.name, "padding", self.padding, 0))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Of the pool's window."""
        return windows.output_shape(
            self.name,
            input_shape,
            lambda channels: channels,
            size=self.pool_size,
            strides=self.strides,
            padding=self.padding,
            dilation=(1,) * self.rank,
            data_format=self.data_format,
        )


class MaxPooling1D(_Max, _Pooling):
    """The largest value of each window over [B, L, C].

    Parameters
    ----------
    pool_size : int
    strides : int, optional
        Default: ``pool_size``.
    padding : "valid", "same", int, or (left, right)
    data_format : {"channels_last", "channels_first"}, optional
    """

    rank = 1


class MaxPooling2D(_Max, _Pooling):
    """The largest value of each window over [B, h, w, C].

    Parameters
    ----------
    pool_size : int or (int, int)
    strides : int or (int, int), optional
        Default: ``pool_size``.
    padding : "valid", "same", int, or ((top, bottom), (left, right))
    data_format : {"channels_last", "channels_first"}, optional
    """

    rank = 2


class _AveragePooling(_Average, _Pooling):
    config_fields = (*_Pooling.config_fields, "count_include_pad")

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        data_format: str | None = None,
        count_include_pad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.count_include_pad = bool(count_include_pad)


class AveragePooling1D(_AveragePooling):
    """The mean of each window over [B, L, C].

    Parameters
    ----------
    pool_size, strides, padding, data_format
        As in `MaxPooling1D`.
    count_include_pad : bool
        Whether padding counts in the mean (PyTorch's default; Keras's is False, as here).
    """

    rank = 1


class AveragePooling2D(_AveragePooling):
    """The mean of each window over [B, h, w, C].

    Parameters
    ----------
    pool_size, strides, padding, data_format
        As in `MaxPooling2D`.
    count_include_pad : bool
        Whether padding counts in the mean (PyTorch's default; Keras's is False, as here).
    """

    rank = 2


class _StochasticPooling(_Stochastic, _Pooling):
    config_fields = (*_Pooling.config_fields, "seed")

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.seed = None if seed is None else check_seed(self.name, seed)
        self.seed_generator = SeedGenerator(seed)


class StochasticPooling1D(_StochasticPooling):
    """Stochastic pooling over [B, L, C]; see `StochasticPooling2D`.

    Parameters
    ----------
    pool_size, strides, padding, data_format
        As in `MaxPooling1D`.
    seed : int, optional
    """

    rank = 1


class StochasticPooling2D(_StochasticPooling):
    """Samples a cell of each window with probability a_i / sum a (Zeiler and Fergus 2013).

    At inference it is the weighted sum ``sum a_i^2 / sum a``. Inputs must not be negative: put it
    after a relu.

    Parameters
    ----------
    pool_size, strides, padding, data_format
        As in `MaxPooling2D`.
    seed : int, optional
        Each call in training draws anew from (seed, number of calls).
    """

    rank = 2


class _GlobalPooling(_Kind, Layer):
    """One window as large as the image or sequence."""

    rank: int
    config_fields: tuple[str, ...] = ("data_format", "keepdims")

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = windows.check_data_format(self.name, data_format)
        self.keepdims = bool(keepdims)

    def forward(self, x: Array, training: bool, **options: Any) -> tuple[Array, Any]:
        """One value a channel; ``options`` are the operation's (maximum: ``activation``)."""
        if x.ndim != self.rank + 2:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(x.shape)}; {self.rank + 2} dimensions "
                "are needed"
            )
        image = _as_image(x, self.data_format) if self.rank == 1 else x
        (height, width), _ = windows.spatial_axes(2, self.data_format)
        y, saved = self.pool(
            image,
            training,
            pool_size=(image.shape[height], image.shape[width]),
            strides=1,
            padding="valid",
            data_format=self.data_format,
            **options,
        )
        return y.reshape(self.compute_output_shape(x.shape)), (saved, y.shape, x.shape)

    def vjp(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input."""
        record, y_shape, x_shape = saved
        return self.unpool(dy.reshape(y_shape), record).reshape(x_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """[B, C], or with ones for the axes that are gone."""
        space, channel = windows.spatial_axes(self.rank, self.data_format)
        if self.keepdims:
            return tuple(1 if axis in space else n for axis, n in enumerate(input_shape))
        return (input_shape[0], input_shape[channel])


class GlobalMaxPooling1D(_Max, _GlobalPooling):
    """The largest value of each channel: [B, L, C] -> [B, C].

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
    keepdims : bool
        Keep the pooled axes, with size 1.
    """

    rank = 1


class GlobalMaxPooling2D(_Max, _GlobalPooling):
    """The largest value of each channel: [B, h, w, C] -> [B, C].

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
    keepdims : bool
        Keep the pooled axes, with size 1.
    """

    rank = 2


class GlobalAveragePooling2D(_Average, _GlobalPooling):
    """The mean of each channel: [B, h, w, C] -> [B, C].

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
    keepdims : bool
        Keep the pooled axes, with size 1.
    """

    rank = 2


class GlobalAveragePooling1D(_Average, _GlobalPooling):
    """The mean of each channel: [B, L, C] -> [B, C].

    The call takes ``mask`` [B, L]: the mean is then over the steps where it is True (and NaN where
    there is none, as in Keras).

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
    keepdims : bool
        Keep the pooled axis, with size 1.
    """

    rank = 1
    uses_mask = True

    def forward(
        self, x: Array, training: bool, mask: Array | None = None, **options: Any
    ) -> tuple[Array, Any]:
        """One value a channel."""
        if mask is None:
            y, saved = super().forward(x, training, **options)
            return y, (saved, None)
        last = self.data_format == "channels_last"
        rows = (x.shape[0], x.shape[1 if last else 2])
        if getattr(mask, "shape", None) != rows:
            raise ValueError(
                f"[{self.name}] mask is {shapes.words(mask)}; an array {list(rows)} is needed"
            )
        kept = (mask[:, :, None] if last else mask[:, None, :]).astype(bool)
        steps = x.shape[1 if last else 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            # The kernel divides by all steps; the counted ones are what is wanted.
            weight = np.where(kept, steps / kept.sum(axis=1 if last else 2, keepdims=True), 0.0)
            weight = weight.astype(x.dtype)
            x = np.where(kept, x, x.dtype.type(0)) * weight
            y, saved = super().forward(x, training, **options)
        some = kept.any(axis=(1, 2)).reshape(-1, *(1,) * (y.ndim - 1))
        return np.where(some, y, y.dtype.type("nan")), (saved, weight)

    def vjp(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input."""
        inner, weight = saved
        dx = super().vjp(dy, inner)
        return dx if weight is None else dx * weight


def takes_relu(layer: Layer) -> bool:
    """Whether a call of ``layer`` can apply a ReLU before its pooling: ``activation="relu"``."""
    # A subclass with a forward of its own may do something else.
    return isinstance(layer, _Max) and type(layer).forward in (
        _Pooling.forward,
        _GlobalPooling.forward,
    )


__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "MaxPooling1D",
    "MaxPooling2D",
    "StochasticPooling1D",
    "StochasticPooling2D",
]
