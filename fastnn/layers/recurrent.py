"""Recurrent layers: SimpleRNN, LSTM and GRU; their body is `RecurrentLayer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import shapes
from fastnn.layers.recurrent_base import COMMON_FIELDS, RecurrentLayer
from fastnn.types import RnnWeights


class SimpleRNN(RecurrentLayer):
    """Elman network (Elman 1990): ``h' = activation(x W + h U + b)``.

    Weights: ``kernel`` [I, H], ``recurrent_kernel`` [H, H], ``bias`` [H].
    Parameters are those of `RecurrentLayer`.
    """

    cell = "simple_rnn"
    gates = 1

    def _activations(self) -> tuple[str, ...]:
        return ("tanh", "relu")


class _Gated(RecurrentLayer):
    """A cell whose gates are sigmoids."""

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, **kwargs)
        shapes.check_choice(self.name, "recurrent_activation", recurrent_activation, ("sigmoid",))
        self.recurrent_activation = recurrent_activation


class LSTM(_Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    ``c' = f c + i g``, ``h' = o tanh(c')``, the gates i, f, o being sigmoids and g a tanh of
    ``x W + h U + b``. Weights: ``kernel`` [I, 4H], ``recurrent_kernel`` [H, 4H], ``bias`` [4H], in
    blocks i f g o. ``recurrent_activation`` is "sigmoid"; ``unit_forget_bias`` starts the bias of f
    at one (Jozefowicz et al. 2015).
    Parameters are those of `RecurrentLayer`.
    """

    cell = "lstm"
    gates = 4
    states_per_cell = 2
    config_fields = (*COMMON_FIELDS, "recurrent_activation", "unit_forget_bias")

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        *,
        unit_forget_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.unit_forget_bias = bool(unit_forget_bias)

    def _add_bias(self, columns: int) -> None:
        super()._add_bias(columns)
        if self.unit_forget_bias:
            self._weights["bias"][self.units : 2 * self.units] = 1.0


class GRU(_Gated):
    """Gated recurrent unit (Cho et al. 2014).

    ``h' = z h + (1 - z) n``. With ``reset_after`` (the default, as in cuDNN and PyTorch) the reset
    gate acts after the matrix product, ``n = tanh(x W_n + b_n + r (h U_n + rb_n))``, without it
    before. Weights: ``kernel`` [I, 3H], ``recurrent_kernel`` [H, 3H], in blocks z r n; ``bias`` [2,
    3H] (b and rb) with ``reset_after``, else [3H]. ``recurrent_activation`` is "sigmoid".
    Parameters are those of `RecurrentLayer`.
    """

    cell = "gru"
    gates = 3
    config_fields = (*COMMON_FIELDS, "recurrent_activation", "reset_after")

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        *,
        reset_after: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.reset_after = bool(reset_after)

    def _add_bias(self, columns: int) -> None:
        shape = (2, columns) if self.reset_after else (columns,)
        self.add_weight("bias", shape, self.bias_initializer)

    def _op_weights(self) -> RnnWeights:
        weights = super()._op_weights()
        if not (self.reset_after and self.use_bias):
            return weights
        bias, recurrent_bias = self._weights["bias"]
        return weights._replace(bias=bias, recurrent_bias=recurrent_bias)

    def _set_gradients(self, grads: RnnWeights) -> None:
        if self.reset_after and self.use_bias:
            both: Any = (grads.bias, grads.recurrent_bias)
            grads = grads._replace(bias=np.stack(both))
        super()._set_gradients(grads)


__all__ = ["GRU", "LSTM", "SimpleRNN"]
