"""Convolution layers."""

from __future__ import annotations

from typing import Any

from fastnn import initializers, ops, shapes
from fastnn.layers import windows
from fastnn.layers.activated import ActivatedLayer, check_activation
from fastnn.layers.base import Array, Shape


class _Convolution(ActivatedLayer):
    """What the convolution layers share; ``rank`` is the number of spatial axes."""

    rank: int
    groups: int

    def _set_window(
        self, kernel_size: Any, strides: Any, padding: Any, data_format: str | None, dilation: Any
    ) -> None:
        self.kernel_size = windows.per_axis(self.name, "kernel_size", kernel_size, self.rank)
        self.strides = windows.per_axis(self.name, "strides", strides, self.rank)
        self.padding = windows.check_padding(self.name, padding, self.rank)
        self.data_format = windows.check_data_format(self.name, data_format)
        self.dilation_rate = windows.per_axis(self.name, "dilation_rate", dilation, self.rank)

    def _input_channels(self, input_shape: Shape) -> int:
        axis = windows.spatial_axes(self.rank, self.data_format)[1]
        channels = input_shape[axis] if len(input_shape) == self.rank + 2 else None
        if not channels:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(input_shape)}; {self.rank + 2} dimensions "
                f"with a known number of channels (axis {axis}, {self.data_format}) are needed"
            )
        return channels

    def _channels(self, given: int | None) -> int | None:
        raise NotImplementedError

    def _op_kernel(self) -> Array:
        return self._weights["kernel"]

    def forward_linear(self, x: Array, activation: str | None) -> tuple[Array, Any]:
        """One convolution."""
        one = self.rank == 1
        return (ops.conv1d_forward if one else ops.conv2d_forward)(
            x,
            self._op_kernel(),
            self._weights.get("bias"),
            strides=self.strides[0] if one else self.strides,  # type: ignore[arg-type]
            padding=self.padding,
            dilation=self.dilation_rate[0] if one else self.dilation_rate,  # type: ignore[arg-type]
            groups=self.groups,
            data_format=self.data_format,
            activation=activation,
        )

    def vjp_linear(self, dy: Array, saved: Any) -> Array:
        """Gradients of input, kernel and bias."""
        backward = ops.conv1d_backward if self.rank == 1 else ops.conv2d_backward
        return self.set_gradients_of(backward(dy, saved, need_dx=self.need_dx))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Of the convolution's window."""
        return windows.output_shape(
            self.name,
            input_shape,
            self._channels,
            size=self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation_rate,
            data_format=self.data_format,
        )


class _Conv(_Convolution):
    """Convolution with ``filters`` outputs; see `Conv1D` and `Conv2D`."""

    config_fields = (
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "data_format",
        "dilation_rate",
        "groups",
        "activation",
        "use_bias",
        "kernel_initializer",
        "bias_initializer",
    )

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = shapes.integer(self.name, "filters", filters, 1)
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.groups = shapes.integer(self.name, "groups", groups, 1)
        if self.filters % self.groups:
            raise ValueError(
                f"[{self.name}] filters={filters} and groups={groups}; filters divisible by groups "
                "is needed"
            )
        self.activation = check_activation(self.name, activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def create_weights(self, input_shape: Shape) -> None:
        """Kernel and bias."""
        channels = self._input_channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"[{self.name}] {channels} input channels and groups={self.groups}; channels "
                "divisible by groups is needed"
            )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.add_weight("kernel", shape, self.kernel_initializer)
        if self.use_bias:
            self.add_weight("bias", (self.filters,), self.bias_initializer)

    def _channels(self, given: int | None) -> int:
        return self.filters


class Conv1D(_Conv):
    """Convolution over sequences [B, L, C].

    Weights: ``kernel`` [k, C / groups, filters], ``bias`` [filters].

    Parameters
    ----------
    filters : int
    kernel_size, strides, dilation_rate : int
    padding : "valid", "same", "causal", int, or (left, right)
        Causal: output t sees no input after t.
    data_format : {"channels_last", "channels_first"}, optional
    groups : int
    activation : str, optional
        relu, tanh and sigmoid run inside the kernel.
    use_bias : bool
    kernel_initializer, bias_initializer : str, Initializer or callable
    """

    rank = 1


class Conv2D(_Conv):
    """Convolution over images [B, h, w, C].

    Weights: ``kernel`` [kh, kw, C / groups, filters], ``bias`` [filters].

    Parameters
    ----------
    filters : int
    kernel_size, strides, dilation_rate : int or (int, int)
    padding : "valid", "same", int, or ((top, bottom), (left, right))
    data_format : {"channels_last", "channels_first"}, optional
        channels_first: images [B, C, h, w].
    groups : int
    activation : str, optional
        relu, tanh and sigmoid run inside the kernel.
    use_bias : bool
    kernel_initializer, bias_initializer : str, Initializer or callable
    """

    rank = 2


class DepthwiseConv2D(_Convolution):
    """Convolution of every channel on its own, with ``depth_multiplier`` filters each.

    Weights: ``kernel`` [kh, kw, C, depth_multiplier], ``bias`` [C * depth_multiplier]. The output's
    channel ``c * depth_multiplier + m`` comes from the input's channel c.

    Parameters
    ----------
    kernel_size, strides, dilation_rate : int or (int, int)
    padding : "valid", "same", int, or ((top, bottom), (left, right))
    depth_multiplier : int
    data_format : {"channels_last", "channels_first"}, optional
    activation : str, optional
    use_bias : bool
    depthwise_initializer, bias_initializer : str, Initializer or callable
    """

    rank = 2
    config_fields = (
        "kernel_size",
        "strides",
        "padding",
        "depth_multiplier",
        "data_format",
        "dilation_rate",
        "activation",
        "use_bias",
        "depthwise_initializer",
        "bias_initializer",
    )

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: str | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.depth_multiplier = shapes.integer(self.name, "depth_multiplier", depth_multiplier, 1)
        self.activation = check_activation(self.name, activation)
        self.use_bias = bool(use_bias)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.groups = 0  # the input's channels, known when built

    def create_weights(self, input_shape: Shape) -> None:
        """Kernel and bias."""
        self.groups = channels = self._input_channels(input_shape)
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.add_weight("kernel", shape, self.depthwise_initializer)
        if self.use_bias:
            self.add_weight("bias", (channels * self.depth_multiplier,), self.bias_initializer)

    def _op_kernel(self) -> Array:
        # The op's layout for groups = C is [kh, kw, 1, C * multiplier]: the same memory.
        return self._weights["kernel"].reshape(
            *self.kernel_size, 1, self.groups * self.depth_multiplier
        )

    def _channels(self, given: int | None) -> int | None:
        return None if given is None else given * self.depth_multiplier

    def set_gradients_of(self, grads: Any) -> Array:
        """As in every layer, the kernel's in its own layout."""
        return super().set_gradients_of(
            grads._replace(dkernel=grads.dkernel.reshape(self._weights["kernel"].shape))
        )


__all__ = ["Conv1D", "Conv2D", "DepthwiseConv2D"]
