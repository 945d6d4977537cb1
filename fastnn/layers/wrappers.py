"""Layers around layers: both directions of time, and one layer at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastnn import ops, shapes
from fastnn.layers.base import Array, Layer, Shape
from fastnn.layers.recurrent_base import RecurrentLayer
from fastnn.layers.steps import both
from fastnn.registry import deserialize, layer_table

_MERGE_MODES = ("concat", "sum", "mul", "ave", None)


class _Wrapper(Layer):
    """A layer that is written down with others inside it."""

    layer_fields: tuple[str, ...] = ()

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """The layer again, with those inside it."""
        arguments = dict(config)
        for field in cls.layer_fields:
            if arguments.get(field) is not None:
                arguments[field] = deserialize(arguments[field], layer_table(), custom_objects)
        arguments.pop("dtype", None)  # that of the layers inside
        return cls(**arguments)


def _check_layer(owner: str, layer: Any) -> Layer:
    if not isinstance(layer, Layer):
        raise TypeError(f"[{owner}] layer={layer!r}; a layer is needed")
    return layer


class Bidirectional(_Wrapper):
    """A recurrent layer forwards and one like it backwards (Schuster and Paliwal 1997).

    Weights: those of the forward layer, then those of the backward layer.

    Parameters
    ----------
    layer : SimpleRNN, LSTM or GRU
        Its configuration is copied for both directions.
    merge_mode : {"concat", "sum", "mul", "ave", None}
        How the two outputs become one; None gives both.
    backward_layer : layer, optional
        Another layer for the way back; its ``go_backwards`` must differ from that of ``layer``.

    Notes
    -----
    The call takes ``mask``, ``lengths``, ``resets`` and ``initial_state`` (the forward layer's
    states, then the backward layer's). With ``return_state`` it gives (output, forward states...,
    backward states...).
    """

    supports_masking = True
    uses_mask = True
    layer_fields = ("layer", "backward_layer")
    config_fields = ("layer", "merge_mode", "backward_layer")

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(layer, RecurrentLayer):
            raise TypeError(f"[Bidirectional] layer={layer!r}; a SimpleRNN, LSTM or GRU is needed")
        super().__init__(dtype=layer.dtype, **kwargs)
        shapes.check_choice(self.name, "merge_mode", merge_mode, _MERGE_MODES)
        self.merge_mode = merge_mode
        self.forward_layer = _direction(layer, "forward_", layer.go_backwards)
        if backward_layer is None:
            backward_layer = _direction(layer, "backward_", True)
        self.backward_layer = backward_layer
        same = ("return_sequences", "return_state", "stateful")
        if not isinstance(backward_layer, RecurrentLayer):
            raise TypeError(
                f"[{self.name}] backward_layer is {backward_layer!r}; a SimpleRNN, LSTM or GRU is "
                "needed"
            )
        if merge_mode in ("sum", "mul", "ave") and backward_layer.units != layer.units:
            raise ValueError(
                f"[{self.name}] {layer.units} and {backward_layer.units} units with merge_mode "
                f"{merge_mode!r}; the same number is needed"
            )
        differing = [f for f in same if getattr(layer, f) != getattr(backward_layer, f)] + [
            "go_backwards"
        ] * (layer.go_backwards == backward_layer.go_backwards)
        if differing:
            raise ValueError(
                f"[{self.name}] forward and backward layers with {differing}; the same "
                f"{', '.join(same)} and different go_backwards are needed"
            )
        for direction in self.sublayers():
            # Merged with the other direction, a repeated output would be of a wrong step.
            direction.zero_output_for_mask = layer.return_sequences  # type: ignore[attr-defined]

    @property
    def layer(self) -> Layer:
        """The forward layer, as the configuration calls it."""
        return self.forward_layer

    def sublayers(self) -> Sequence[Layer]:
        """Forward, backward."""
        return (self.forward_layer, self.backward_layer)

    def create_weights(self, input_shape: Shape) -> None:
        """Those of the two layers."""
        for layer in self.sublayers():
            layer.build(input_shape)

    def forward(
        self, x: Array, training: bool, initial_state: Any = None, **steps: Any
    ) -> tuple[Any, Any]:
        """Both directions, merged. ``steps`` are mask, lengths and resets."""
        ahead = back = None
        if initial_state is not None:
            count = 2 * self.forward_layer.states_per_cell
            if not isinstance(initial_state, (tuple, list)) or len(initial_state) != count:
                raise ValueError(
                    f"[{self.name}] initial_state is {shapes.words(initial_state)}; a list of "
                    f"{count} states, the forward layer's first, is needed"
                )
            half = len(initial_state) // 2
            ahead, back = initial_state[:half], initial_state[half:]
        one, other = self.forward_layer, self.backward_layer
        x = one._begin_call(x)
        other._begin_call(x)
        results = both(
            one.forward_steps(x, training, ahead, **steps),
            other.forward_steps(x, training, back, **steps),
            ops.rnn_forward_pair,
        )
        y, y_back = (
            layer._end_call(*result, training)
            for layer, result in zip((one, other), results, strict=True)
        )
        states: tuple[Any, ...] = ()
        if self.forward_layer.return_state:
            states = (*y[1:], *y_back[1:])
            y, y_back = y[0], y_back[0]
        y, y_back = self._in_order(y, y_back)
        merged = self._merge(y, y_back)
        saved = (y, y_back) if self.merge_mode == "mul" else y.shape[-1]
        if not states:
            return merged, saved
        return ((*merged, *states) if self.merge_mode is None else (merged, *states)), saved

    def vjp(self, dy: Any, saved: Any) -> Array:
        """Gradients of both directions, added up. ``dy`` is like the output."""
        states: Sequence[Any] = ()
        if self.forward_layer.return_state:
            outputs = 2 if self.merge_mode is None else 1
            per_layer = self.forward_layer.states_per_cell
            if not isinstance(dy, list | tuple) or len(dy) != outputs + 2 * per_layer:
                raise ValueError(
                    f"[{self.name}] backward of a layer with return_state=True; a tuple of "
                    f"{outputs + 2 * per_layer} gradients (None where there is none) is needed"
                )
            states = dy[outputs:]
            dy = dy[:outputs] if self.merge_mode is None else dy[0]
        elif self.merge_mode is None and dy is not None and not _is_pair(dy):
            raise ValueError(
                f"[{self.name}] dy is {shapes.words(dy)}; the gradients of both outputs are needed"
            )
        d_ahead, d_back = self._in_order(*self._split(dy, saved))
        if states:
            half = len(states) // 2
            d_ahead, d_back = (d_ahead, *states[:half]), (d_back, *states[half:])
        self.forward_layer.need_dx = self.backward_layer.need_dx = self.need_dx
        one, other = self.forward_layer, self.backward_layer
        one._begin_backward(d_ahead)
        other._begin_backward(d_back)
        dx, dx_back = both(
            one.backward_steps(d_ahead, one._saved),
            other.backward_steps(d_back, other._saved),
            partial(ops.rnn_backward_pair, need_dx=self.need_dx),
        )
        return dx + dx_back if self.need_dx else None

    def _in_order(self, y: Any, y_back: Any) -> tuple[Any, Any]:
        """The backward sequence in the order of the forward one (or the other way round)."""
        if self.forward_layer.return_sequences and y_back is not None:
            y_back = y_back[:, ::-1]
        return y, y_back

    def _merge(self, y: Array, y_back: Array) -> Any:
        if self.merge_mode == "concat":
            return np.concatenate((y, y_back), axis=-1)
        if self.merge_mode == "sum":
            return y + y_back
        if self.merge_mode == "ave":
            return (y + y_back) * 0.5
        if self.merge_mode == "mul":
            return y * y_back
        return y, y_back

    def _split(self, dy: Any, saved: Any) -> tuple[Any, Any]:
        if dy is None:
            return None, None
        if self.merge_mode == "concat":
            return dy[..., :saved], dy[..., saved:]
        if self.merge_mode == "sum":
            return dy, dy
        if self.merge_mode == "ave":
            return dy * 0.5, dy * 0.5
        if self.merge_mode == "mul":
            y, y_back = saved
            return dy * y_back, dy * y
        return dy[0], dy[1]

    @property
    def initial_state_gradient(self) -> tuple[Array, ...]:
        """Gradients of the forward layer's initial states, then of the backward layer's."""
        return (
            *self.forward_layer.initial_state_gradient,
            *self.backward_layer.initial_state_gradient,
        )

    def reset_states(self) -> None:
        """Forget the states of both directions."""
        self.forward_layer.reset_states()
        self.backward_layer.reset_states()

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """The mask goes on only with a sequence."""
        return mask if self.forward_layer.return_sequences else None

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """That of one direction, with twice the units for concat, twice for None."""
        shape = self.forward_layer.compute_output_shape(input_shape)
        states: tuple[Shape, ...] = ()
        if self.forward_layer.return_state:
            shape, states = shape[0], shape[1:] * 2
        if self.merge_mode == "concat":
            back = self.backward_layer.units
            shape = (*shape[:-1], shape[-1] + back)
        if self.merge_mode is None:
            return (shape, shape, *states)
        return (shape, *states) if states else shape


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _direction(layer: RecurrentLayer, prefix: str, backwards: bool) -> Any:
    """A fresh layer like ``layer``, for one direction."""
    config = layer.get_config() | {
        "name": prefix + layer.name.removeprefix(prefix),
        "go_backwards": backwards,
    }
    return type(layer).from_config(config)


class TimeDistributed(_Wrapper):
    """One layer at every time step: [B, T, ...] as a batch of B * T.

    Parameters
    ----------
    layer : Layer
    """

    supports_masking = True
    layer_fields = ("layer",)
    config_fields = ("layer",)

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        super().__init__(dtype=_check_layer("TimeDistributed", layer).dtype, **kwargs)
        self.layer = layer
        self.casts_input = layer.casts_input

    def sublayers(self) -> Sequence[Layer]:
        """The one inside."""
        return (self.layer,)

    def create_weights(self, input_shape: Shape) -> None:
        """Those of the layer inside."""
        self.layer.build(self._step_shape(input_shape))

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The layer at every step."""
        self._step_shape(x.shape)
        y = self.layer(x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), training)
        return y.reshape(*x.shape[:2], *y.shape[1:]), x.shape

    def vjp(self, dy: Array, saved: Any) -> Array | None:
        """Gradient of the input."""
        dx = self.layer.backward(dy.reshape(dy.shape[0] * dy.shape[1], *dy.shape[2:]))
        return None if dx is None else dx.reshape(saved)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """[B, T, ...]."""
        inner = self.layer.compute_output_shape(self._step_shape(input_shape))
        return (*input_shape[:2], *inner[1:])

    def _step_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2 + self.casts_input:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(input_shape)}; [batch, time, ...] is needed"
            )
        return (None, *input_shape[2:])


__all__ = ["Bidirectional", "TimeDistributed"]
