"""Dense, embedding, masking, dropout, and what works element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import dispatch, initializers, ops, shapes
from fastnn.layers.activated import ActivatedLayer, check_activation
from fastnn.layers.base import Array, Layer, Shape
from fastnn.ops.dense import dense_backward_into
from fastnn.registry import Config
from fastnn.seeding import SeedGenerator, check_seed


class InputLayer(Layer):
    """Says the shape of one input, so that a `Sequential` can be built before it sees data.

    Parameters
    ----------
    shape : tuple of int or None
        Without the batch.
    dtype : str, optional
        Taken for Keras's sake, where an embedding's input says "int32": the layer after this one
        knows what it computes in.
    """

    supports_masking = True
    casts_input = False
    is_symbolic = True
    config_fields = ("shape",)

    def __init__(
        self, shape: Sequence[int | None], dtype: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.shape = shapes.sizes(self.name, "shape", shape)
        self.batch_input_shape = (None, *self.shape)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The input itself."""
        return x, None

    def vjp(self, dy: Array, saved: Any) -> Array:
        """The gradient itself."""
        return dy

    def get_config(self) -> Config:
        """The constructor's arguments."""
        config = super().get_config()
        del config["input_shape"]
        return config


def Input(shape: Sequence[int | None], **kwargs: Any) -> InputLayer:
    """`InputLayer`, under the name that Keras programs use."""
    return InputLayer(shape, **kwargs)


class Dense(ActivatedLayer):
    """``activation(x @ kernel + bias)`` over the last axis.

    Weights: ``kernel`` [I, units], ``bias`` [units].

    Parameters
    ----------
    units : int
    activation : str, optional
        One of `fastnn.ops.ACTIVATIONS`; None is linear.
    use_bias : bool
    kernel_initializer, bias_initializer : str, Initializer or callable
    **kwargs
        ``name``, ``dtype``, ``trainable``, ``input_shape``: see `Layer`.
    """

    supports_masking = True
    config_fields = ("units", "activation", "use_bias", "kernel_initializer", "bias_initializer")

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = shapes.integer(self.name, "units", units, 1)
        self.activation = check_activation(self.name, activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def create_weights(self, input_shape: Shape) -> None:
        """Kernel and bias."""
        features = input_shape[-1] if len(input_shape) > 1 else None
        if not features:
            raise ValueError(
                f"[{self.name}] input of shape {input_shape}; [batch, ..., features] with a known "
                "number of features is needed"
            )
        self.add_weight("kernel", (features, self.units), self.kernel_initializer)
        if self.use_bias:
            self.add_weight("bias", (self.units,), self.bias_initializer)

    def forward_linear(self, x: Array, activation: str | None) -> tuple[Array, Any]:
        """One matrix product."""
        weights = self._weights
        return ops.dense_forward(x, weights["kernel"], weights.get("bias"), activation=activation)

    def vjp_linear(self, dy: Array, saved: Any) -> Array:
        """Two matrix products."""
        places = self.gradient_place("kernel"), self.gradient_place("bias")
        return self.set_gradients_of(dense_backward_into(dy, saved, places, need_dx=self.need_dx))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """[..., units]."""
        return (*input_shape[:-1], self.units)


class Embedding(Layer):
    """Rows of a table, chosen by integers.

    Weight: ``embeddings`` [input_dim, output_dim]. `backward` returns None: integers have no
    gradient.

    Parameters
    ----------
    input_dim : int
        Number of rows; inputs are in 0 .. input_dim - 1.
    output_dim : int
    embeddings_initializer : str, Initializer or callable
    mask_zero : bool
        Whether the input 0 is padding, which recurrent layers after this one then skip.
    """

    casts_input = False
    config_fields = ("input_dim", "output_dim", "embeddings_initializer", "mask_zero")

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        mask_zero: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = shapes.integer(self.name, "input_dim", input_dim, 1)
        self.output_dim = shapes.integer(self.name, "output_dim", output_dim, 1)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.mask_zero = bool(mask_zero)

    def create_weights(self, input_shape: Shape) -> None:
        """The table."""
        self.add_weight(
            "embeddings", (self.input_dim, self.output_dim), self.embeddings_initializer
        )

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """``embeddings[x]``."""
        return ops.embedding_forward(x, self._weights["embeddings"])

    def vjp(self, dy: Array, saved: Any) -> None:
        """Sets the table's gradient; there is none of the input."""
        self.set_gradient("embeddings", ops.embedding_backward(dy, saved))

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """True where the input is not 0, if ``mask_zero``."""
        return x != 0 if self.mask_zero else None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """[..., output_dim]."""
        return (*input_shape, self.output_dim)


class Masking(Layer):
    """Marks the time steps whose features all equal ``mask_value``, and zeroes them.

    Recurrent layers after it in a `Sequential` skip those steps.

    Parameters
    ----------
    mask_value : float
    """

    supports_masking = True
    config_fields = ("mask_value",)

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        try:
            self.mask_value = float(mask_value)
        except (TypeError, ValueError):
            raise TypeError(
                f"[{self.name}] mask_value is {shapes.words(mask_value)}; a number is needed"
            ) from None

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The input, zero at masked steps."""
        kept = self.compute_mask(x, None)[..., None]
        return np.where(kept, x, x.dtype.type(0)), kept

    def vjp(self, dy: Array, saved: Any) -> Array:
        """The gradient, zero at masked steps."""
        return np.where(saved, dy, dy.dtype.type(0))

    def compute_mask(self, x: Array, mask: Array | None) -> Array:
        """[B, T], False where every feature is ``mask_value``."""
        return (x != self.mask_value).any(axis=-1)


class Activation(ActivatedLayer):
    """An activation function.

    Parameters
    ----------
    activation : str
        One of `fastnn.ops.ACTIVATIONS`; softmax goes over the last axis.
    """

    supports_masking = True
    config_fields = ("activation",)

    def __init__(self, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = check_activation(self.name, activation)

    def forward(self, x: Array, training: bool, logits: bool = False) -> tuple[Array, Any]:
        """``activation(x)``; with ``logits`` x itself."""
        if logits or self.activation is None:
            return x, None
        return ops.activation_forward(x, self.activation)

    def vjp(self, dy: Array, saved: Any) -> Array:
        """Gradient of the input."""
        return dy if saved is None else ops.activation_backward(dy, saved)


class Rescaling(Layer):
    """``x * scale + offset``, such as ``Rescaling(1 / 255)`` for pixels.

    Parameters
    ----------
    scale, offset : float or list of float
        A list has one number for each of the last axis.
    """

    supports_masking = True
    config_fields = ("scale", "offset")

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = self._numbers("scale", scale)
        self.offset = self._numbers("offset", offset)

    def _numbers(self, name: str, value: Any) -> float | list[float]:
        if isinstance(value, (list, tuple, np.ndarray)):
            return [shapes.finite_number(self.name, name, one) for one in value]
        return shapes.finite_number(self.name, name, value)

    def _constant(self, value: float | list[float], x: Array) -> Any:
        if isinstance(value, float):
            return value  # a number of Python's leaves the dtype as it is
        if len(value) != x.shape[-1]:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(x.shape)} and {len(value)} numbers; one for "
                "each of the last axis is needed"
            )
        return dispatch.asarray(np.asarray(value, x.dtype))

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """``x * scale + offset``."""
        return x * self._constant(self.scale, x) + self._constant(self.offset, x), None

    def vjp(self, dy: Array, saved: Any) -> Array:
        """``dy * scale``."""
        return dy * self._constant(self.scale, dy)


class Dropout(Layer):
    """Zeroes elements in training, scaling the others by 1 / (1 - rate) (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float
        In [0, 1).
    noise_shape : tuple of int or None, optional
        Shape of the mask, the batch included; 1 shares a decision along an axis, None is the
        input's size.
    seed : int, optional
        Each call in training draws a new mask from (seed, number of calls).
    """

    supports_masking = True
    config_fields = ("rate", "noise_shape", "seed")

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = shapes.rate_number(self.name, "rate", rate)
        self.noise_shape = (
            None if noise_shape is None else shapes.sizes(self.name, "noise_shape", noise_shape)
        )
        self.seed = None if seed is None else check_seed(self.name, seed)
        self.seed_generator = SeedGenerator(seed)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The input, with noise in training."""
        if not training or self.rate == 0.0:
            return x, None
        return ops.dropout_forward(
            x, rate=self.rate, seed=self.seed_generator.next(), noise_shape=self.noise_shape
        )

    def vjp(self, dy: Array, saved: Any) -> Array:
        """The gradient, with the same mask."""
        return dy if saved is None else ops.dropout_backward(dy, saved)


__all__ = [
    "Activation",
    "Dense",
    "Dropout",
    "Embedding",
    "Input",
    "InputLayer",
    "Masking",
    "Rescaling",
]
