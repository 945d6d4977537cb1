"""Truncated back-propagation through time: a batch of sequences, learned window by window.

Between windows the states of recurrent layers are handed on, the gradient is not (Williams and Peng
1990). The cost in memory is then that of a window, however long the sequences are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn.arrays import to_numpy
from fastnn.batches import Data
from fastnn.layers.base import Layer
from fastnn.layers.recurrent_base import RecurrentLayer

Array = Any

# Of the largest output; rounding differs a little with the length of a call.
_TOLERANCE = 1e-3


class Truncation:
    """How a model learns from windows of ``steps`` time steps.

    Parameters
    ----------
    model : Layer
        Built.
    data : Data
        What it will be trained on: x [N, T, ...].
    steps : int

    Raises
    ------
    ValueError
        If the model's output at a step does not follow from that step and the states before it
        (`Bidirectional`, a convolution over time, ...), or the targets do not fit the output.
    """

    def __init__(self, model: Layer, data: Data, steps: int) -> None:
        self.model = model
        self.steps = steps
        self.layers = [one for one in model.leaves() if isinstance(one, RecurrentLayer)]
        self.time = self._checked_time(data)
        self.every_step = self._follows_time(data)
        if self.every_step and data.y is not None and data.y.shape[1:2] != (self.time,):
            raise ValueError(
                f"[fit] tbptt_steps={steps} and y of shape {tuple(data.y.shape)} for outputs at "
                f"every step; [{data.size}, {self.time}, ...] is needed"
            )
        if steps < self.time:
            self._check_windows(data.x[:2, : 2 * steps + 1])

    def windows(self, batch: Data) -> Iterator[tuple[Data, bool]]:
        """Pieces of a batch in order of time, and whether there is something to learn from each.

        With targets at every step all pieces have some; with one target a sequence the last piece
        has, which is therefore a whole window.
        """
        first = self.steps if self.every_step else self.time % self.steps or self.steps
        start, stop = 0, min(first, self.time)
        while start < self.time:
            last = stop == self.time
            piece = slice(start, stop)
            yield self._piece(batch, piece), self.every_step or last
            start, stop = stop, min(stop + self.steps, self.time)

    def _piece(self, batch: Data, steps: slice) -> Data:
        if not self.every_step:
            return batch._replace(x=batch.x[:, steps])
        weight = batch.weight
        if weight is not None and weight.ndim > 1:
            weight = weight[:, steps]
        return Data(batch.x[:, steps], None if batch.y is None else batch.y[:, steps], weight)

    @contextmanager
    def carried(self) -> Iterator[None]:
        """Inside, recurrent layers begin where the last call ended; the first call at zeros."""
        # A layer that is stateful anyway keeps its state from batch to batch.
        changed = [layer for layer in self.layers if not layer.stateful]
        for layer in changed:
            layer.stateful, layer.states = True, None
        try:
            yield
        finally:
            for layer in changed:
                layer.stateful, layer.states = False, None

    # ------------------------------------------------------------------ what can be cut

    def _checked_time(self, data: Data) -> int:
        backwards = [layer.name for layer in self.layers if layer.go_backwards]
        if backwards:
            raise ValueError(
                f"[fit] tbptt_steps={self.steps} with {backwards[0]!r}, which begins at the last "
                "step; layers that go forwards are needed"
            )
        if not self.layers:
            raise ValueError(
                f"[fit] tbptt_steps={self.steps} for the model {self.model.name!r} without a "
                "recurrent layer; one is needed"
            )
        if data.x.ndim < 2 or not data.x.shape[1]:
            raise ValueError(
                f"[fit] tbptt_steps={self.steps} and x of shape {tuple(data.x.shape)}; [samples, "
                "time, ...] is needed"
            )
        return int(data.x.shape[1])

    def _follows_time(self, data: Data) -> bool:
        """Whether the output has a value for every step, or one for the sequence."""
        rest = tuple(data.x.shape[2:])
        shape, longer = (
            self.model.compute_output_shape((data.size, steps, *rest))
            for steps in (self.time, 2 * self.time)
        )
        if shape == longer:
            return False
        if shape[1:2] == (self.time,) and longer[1:2] == (2 * self.time,):
            return True
        raise ValueError(
            f"[fit] tbptt_steps={self.steps} and outputs of shape {shape} for {self.time} steps; "
            "one output a step, or one a sequence, is needed"
        )

    def _check_windows(self, x: Array) -> None:
        """Windows with handed-on states give what the whole sequence does."""
        leaves = list(self.model.leaves())
        before = [leaf.volatile() for leaf in leaves]
        try:
            for layer in self.layers:
                layer.reset_states()
            whole = to_numpy(self.model(x))
            for layer in self.layers:
                layer.reset_states()
            with self.carried():
                parts = [
                    to_numpy(self.model(x[:, start : start + self.steps]))
                    for start in range(0, x.shape[1], self.steps)
                ]
        except ValueError as error:
            raise ValueError(
                f"[fit] tbptt_steps={self.steps}: the model does not take windows ({error}); "
                "layers that work step by step are needed"
            ) from error
        finally:
            for leaf, state in zip(leaves, before, strict=True):
                leaf.set_volatile(state)
        cut = np.concatenate(parts, axis=1) if self.every_step else parts[-1]
        bound = _TOLERANCE * float(np.nanmax(np.abs(whole), initial=0.0))
        if cut.shape != whole.shape or not np.allclose(cut, whole, 0.0, bound, equal_nan=True):
            raise ValueError(
                f"[fit] tbptt_steps={self.steps}: over windows the model {self.model.name!r} gives "
                "other outputs than over the whole sequence; layers that see no later step, and "
                "earlier ones through their state alone, are needed"
            )
