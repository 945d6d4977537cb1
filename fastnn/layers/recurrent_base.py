"""What the recurrent layers share: everything but the cell."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from fastnn import dispatch, initializers, ops, shapes
from fastnn.arrays import to_numpy
from fastnn.layers.base import Array, Layer, Shape
from fastnn.layers.steps import alone
from fastnn.seeding import SeedGenerator, check_seed
from fastnn.types import RnnGrads, RnnOutput, RnnSaved, RnnWeights

COMMON_FIELDS = (
    "units",
    "activation",
    "use_bias",
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "dropout",
    "recurrent_dropout",
    "output_dropout",
    "zoneout",
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "zero_output_for_mask",
    "seed",
)


class RecurrentLayer(Layer):
    """What SimpleRNN, LSTM and GRU share: everything but the cell's own options.

    Parameters
    ----------
    units : int
    activation : str
        "tanh"; SimpleRNN also takes "relu".
    use_bias : bool
    kernel_initializer, recurrent_initializer, bias_initializer : str, Initializer or callable
    dropout : float
        Of the inputs, in training: one mask a sequence, as in Keras.
    recurrent_dropout : float
        Of the state where it enters matrix products, in training: one mask a sequence.
    output_dropout : float
        Of the outputs, in training: one mask a sequence. Returned states are not touched. (Keras
        has no such argument: there it is a `Dropout` after the layer.)
    zoneout : float or (float, float)
        Rates at which h (and c) keep their old value, at every step (Krueger et al. 2016); at
        inference the expected value is taken.
    return_sequences : bool
        Give h of every step, not only of the last.
    return_state : bool
        Give (output, h) or, for LSTM, (output, h, c).
    go_backwards : bool
        Walk from the last step to the first; a returned sequence is in that order, too.
    stateful : bool
        Begin with the state in which the last call ended; see `reset_states`.
    zero_output_for_mask : bool
        A returned sequence is zero at masked steps, instead of repeating the last output.
    seed : int, optional
        Of dropout and zoneout; each call in training draws anew from (seed, number of calls).
    """

    cell: str
    gates: int
    states_per_cell = 1
    uses_mask = True
    config_fields: tuple[str, ...] = COMMON_FIELDS
    reset_after = True

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        *,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        output_dropout: float = 0.0,
        zoneout: float | Sequence[float] = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = shapes.integer(self.name, "units", units, 1)
        shapes.check_choice(self.name, "activation", activation, self._activations())
        self.activation = activation
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.dropout = shapes.rate_number(self.name, "dropout", dropout)
        self.recurrent_dropout = shapes.rate_number(
            self.name, "recurrent_dropout", recurrent_dropout
        )
        self.output_dropout = shapes.rate_number(self.name, "output_dropout", output_dropout)
        self.zoneout = self._checked_zoneout(zoneout)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)
        self.stateful = bool(stateful)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.seed = None if seed is None else check_seed(self.name, seed)
        self.seed_generator = SeedGenerator(seed)
        self.states: Any = None  # h or (h, c) where the last call ended, if stateful
        self.initial_state_gradient: tuple[Array, ...] = ()

    def _activations(self) -> tuple[str, ...]:
        return ("tanh",)

    def _checked_zoneout(self, zoneout: Any) -> float | tuple[float, ...]:
        if isinstance(zoneout, list | tuple):
            if len(zoneout) != self.states_per_cell:
                raise ValueError(
                    f"[{self.name}] zoneout={zoneout!r}; a rate or {self.states_per_cell} of them "
                    "is needed"
                )
            return tuple(shapes.rate_number(self.name, "zoneout", rate) for rate in zoneout)
        return shapes.rate_number(self.name, "zoneout", zoneout)

    # ------------------------------------------------------------------ weights

    def create_weights(self, input_shape: Shape) -> None:
        """Kernel, recurrent kernel and bias."""
        if len(input_shape) != 3 or not input_shape[2]:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(input_shape)}; [batch, time, features] with "
                "a known number of features is needed"
            )
        columns = self.gates * self.units
        self.add_weight("kernel", (input_shape[2], columns), self.kernel_initializer)
        self.add_weight("recurrent_kernel", (self.units, columns), self.recurrent_initializer)
        if self.use_bias:
            self._add_bias(columns)

    def _add_bias(self, columns: int) -> None:
        self.add_weight("bias", (columns,), self.bias_initializer)

    def _op_weights(self) -> RnnWeights:
        weights = self._weights
        return RnnWeights(weights["kernel"], weights["recurrent_kernel"], weights.get("bias"))

    def _set_gradients(self, grads: RnnWeights) -> None:
        self.set_gradient("kernel", grads.kernel)
        self.set_gradient("recurrent_kernel", grads.recurrent_kernel)
        if self.use_bias:
            self.set_gradient("bias", grads.bias)

    # ------------------------------------------------------------------ computing

    def forward(
        self,
        x: Array,
        training: bool,
        initial_state: Any = None,
        mask: Array | None = None,
        lengths: Any = None,
        resets: Array | None = None,
    ) -> tuple[Any, Any]:
        """Run over [B, T, I].

        Parameters
        ----------
        x : array [B, T, I]
        training : bool
        initial_state : array [B, H] or sequence of them, optional
            h or, for LSTM, (h, c); zeros by default.
        mask : bool array [B, T], optional
            Steps where it is False leave the state as it is.
        lengths : int array [B], optional
            How many steps of each row are real; output is zero after them.
        resets : bool array [B, T], optional
            Steps before which the state starts anew.
        """
        steps = self.forward_steps(x, training, initial_state, mask, lengths, resets)
        return alone(steps, lambda call: ops.rnn_forward(**call))

    def forward_steps(
        self,
        x: Array,
        training: bool,
        initial_state: Any = None,
        mask: Array | None = None,
        lengths: Any = None,
        resets: Array | None = None,
    ) -> Generator[dict[str, Any], Any, tuple[Any, Any]]:
        """`forward` around its operation: yields the arguments of `ops.rnn_forward`, is sent its
        result, returns what `forward` does. So two directions can run at once."""
        if x.ndim != 3:
            raise ValueError(
                f"[{self.name}] input of shape {tuple(x.shape)}; [batch, time, features] is needed"
            )
        batch = x.shape[0]
        initial = self._initial(initial_state, batch)
        lengths, mask = self._steps(x, mask, lengths, initial is not None)
        if resets is not None:
            resets = self._flags("resets", resets, x)
        dropped = None
        inputs = x.transpose(1, 0, 2)
        if training and self.dropout:
            inputs, dropped = ops.dropout_forward(
                inputs,
                rate=self.dropout,
                seed=self.seed_generator.next(),
                noise_shape=(1, None, None),
            )
        zoneout = self.zoneout if np.any(self.zoneout) else None
        noisy = training and (self.recurrent_dropout or zoneout is not None)
        output, record = yield {
            "x": inputs,
            "weights": self._op_weights(),
            "initial": initial,
            "cell": self.cell,
            "activation": self.activation,
            "reset_after": self.reset_after,
            "reverse": self.go_backwards,
            "lengths": lengths,
            "mask": None if mask is None else mask.T,
            "resets": None if resets is None else resets.T,
            "recurrent_dropout": self.recurrent_dropout if noisy else None,
            "zoneout": zoneout,
            "seed": self.seed_generator.next() if noisy else None,
            "keep": "gates" if training else None,
        }
        if self.stateful:
            self.states = output.final
        final = output.final if self.states_per_cell > 1 else (output.final,)
        zeroed = mask if self.zero_output_for_mask and self.return_sequences else None
        y = final[0]
        if self.return_sequences:
            y = output.y.transpose(1, 0, 2)  # type: ignore[union-attr]
            if zeroed is not None:
                y = y * zeroed[:, :, None]
            y = self._in_order(y)
        thinned = None
        if training and self.output_dropout:
            y, thinned = ops.dropout_forward(
                y,
                rate=self.output_dropout,
                seed=self.seed_generator.next(),
                noise_shape=(None, 1, None) if self.return_sequences else None,
            )
        return ((y, *final) if self.return_state else y), (record, dropped, zeroed, thinned)

    def vjp(self, dy: Any, saved: Any) -> Array:
        """Gradient of the input by back-propagation through time.

        ``dy`` is like the output: with ``return_state`` a tuple, where None means no gradient. The
        gradients of the initial states are left in ``initial_state_gradient``.
        """
        steps = self.backward_steps(dy, saved)
        return alone(steps, lambda call: ops.rnn_backward(*call, need_dx=self.need_dx))

    def backward_steps(
        self, dy: Any, saved: Any
    ) -> Generator[tuple[RnnOutput, RnnSaved], RnnGrads, Any]:
        """`vjp` around its operation, as `forward_steps`."""
        record, dropped, zeroed, thinned = saved
        d_final: list[Any] = [None] * self.states_per_cell
        if self.return_state:
            if not isinstance(dy, list | tuple) or len(dy) != 1 + self.states_per_cell:
                raise ValueError(
                    f"[{self.name}] backward of a layer with return_state=True; a tuple of "
                    f"{1 + self.states_per_cell} gradients (None where there is none) is needed"
                )
            dy, d_final = dy[0], list(dy[1:])
        if thinned is not None and dy is not None:
            dy = ops.dropout_backward(dy, thinned)
        d_y = None
        if self.return_sequences:
            if dy is not None:
                d_y = self._in_order(dy)
                if zeroed is not None:
                    d_y = d_y * zeroed[:, :, None]
                d_y = d_y.transpose(1, 0, 2)
        elif dy is not None:
            d_final[0] = dy if d_final[0] is None else dy + d_final[0]
        final = tuple(d_final) if self.states_per_cell > 1 else d_final[0]
        if all(d is None for d in d_final):
            final = None
        grads = yield RnnOutput(d_y, final), record
        self._set_gradients(grads.weights)
        one = self.states_per_cell == 1
        self.initial_state_gradient = (grads.initial,) if one else grads.initial
        if grads.dx is None:
            return None
        dx = grads.dx if dropped is None else ops.dropout_backward(grads.dx, dropped)
        return dx.transpose(1, 0, 2)

    def _in_order(self, y: Array) -> Array:
        """From the input's time order to that in which the steps were made, and back."""
        return y[:, ::-1] if self.go_backwards else y

    def _initial(self, initial_state: Any, batch: int) -> Any:
        if initial_state is None:
            if self.states is None or not self.stateful:
                return None
            initial_state = self.states
            rows = (initial_state if self.states_per_cell == 1 else initial_state[0]).shape[0]
            if rows != batch:
                raise ValueError(
                    f"[{self.name}] a batch of {batch} after one of {rows} in a stateful layer; "
                    "the same size, or reset_states(), is needed"
                )
        states = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
        if len(states) != self.states_per_cell:
            raise ValueError(
                f"[{self.name}] {len(states)} initial states; {self.states_per_cell} needed"
            )
        cast = [self._cast(state) for state in states]
        return tuple(cast) if self.states_per_cell > 1 else cast[0]

    def _steps(
        self, x: Array, mask: Any, lengths: Any, has_initial: bool
    ) -> tuple[Array | None, Array | None]:
        """Lengths and mask for the operation: a mask that is one of lengths costs nothing then."""
        if mask is None:
            return lengths, None
        mask = self._flags("mask", mask, x)
        if lengths is not None or not self._zero_where_masked(has_initial):
            return lengths, mask
        counts = to_numpy(mask).sum(axis=1)
        prefix = np.arange(x.shape[1]) < counts[:, None]
        return (counts, None) if np.array_equal(prefix, to_numpy(mask)) else (None, mask)

    def _flags(self, name: str, flags: Any, x: Array) -> Array:
        flags = dispatch.asarray(flags)
        if flags.shape != x.shape[:2]:
            raise ValueError(
                f"[{self.name}] {name} of shape {tuple(flags.shape)}; {tuple(x.shape[:2])} is "
                "needed"
            )
        return flags.astype(bool)

    def _zero_where_masked(self, has_initial: bool) -> bool:
        """Whether masked steps at the end may give zeros, as lengths do."""
        if not self.return_sequences or self.zero_output_for_mask:
            return True
        # Backwards they come first: the "last output" before any step is the initial state.
        return self.go_backwards and not has_initial

    # ------------------------------------------------------------------ state and shapes

    def reset_states(self) -> None:
        """Forget the state of a stateful layer: the next call begins with zeros."""
        self.states = None

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """The mask goes on only with a sequence."""
        # As it came, also with go_backwards: so does Keras, whose outputs ours must equal.
        return mask if self.return_sequences else None

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """[B, H] or [B, T, H]; with ``return_state`` a tuple of shapes."""
        state = (input_shape[0], self.units)
        shape: Shape = (*input_shape[:2], self.units) if self.return_sequences else state
        return (shape, *[state] * self.states_per_cell) if self.return_state else shape

    def volatile(self) -> Any:
        """What calls change besides weights."""
        return super().volatile(), self.states

    def set_volatile(self, value: Any) -> None:
        """Restore what `volatile` gave."""
        super().set_volatile(value[0])
        self.states = value[1]
