"""The arguments of `fastnn.ops.rnn`: checked before any kernel runs, in the form backends take.

Letters: T time steps, B batch, I inputs, H units.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastnn import dispatch, shapes
from fastnn.kernels.cells import CELLS, saved_planes
from fastnn.types import Array, RnnOutput, RnnSaved, RnnSpec, RnnWeights

_FORWARD = "rnn_forward"
_BACKWARD = "rnn_backward"
_NAMES = ("x", "kernel", "recurrent_kernel", "bias", "recurrent_bias", "mask", "resets")


class Call(NamedTuple):
    """A checked call of `rnn_forward`; from ``x`` on, the backend's arguments."""

    name: str
    backend: ModuleType
    x: Array
    weights: RnnWeights
    initial: Any
    spec: RnnSpec
    keep: str | None

    def result(self, found: tuple[Any, ...]) -> tuple[RnnOutput, RnnSaved | None]:
        output, *arrays = found
        if self.keep is None:
            return output, None
        saved = RnnSaved(
            self.name, self.spec, self.keep, self.x, self.weights, self.initial, output.y, *arrays
        )
        return output, saved


def checked_forward(
    x: Array,
    weights: RnnWeights,
    initial: Any = None,
    *,
    cell: str,
    activation: str = "tanh",
    reset_after: bool = True,
    reverse: bool = False,
    lengths: Any = None,
    mask: Array | None = None,
    resets: Array | None = None,
    recurrent_dropout: float | None = None,
    zoneout: float | tuple[float, float] | None = None,
    seed: int | None = None,
    keep: str | None = "gates",
) -> Call:
    """The call that `rnn_forward` makes with these arguments, once they are right."""
    if type(weights) is not RnnWeights:
        raise TypeError(
            f"[{_FORWARD}] weights is a {type(weights).__name__}; "
            "RnnWeights(kernel, recurrent_kernel, bias, recurrent_bias) is needed"
        )
    name, backend = dispatch.choose(
        _FORWARD, _NAMES, (x, *weights[:2]), (*weights[2:], mask, resets)
    )
    if not isinstance(cell, str) or cell not in CELLS:
        shapes.check_choice(_FORWARD, "cell", cell, tuple(CELLS))
    kind = CELLS[cell]
    if not isinstance(activation, str) or activation not in kind.activations:
        shapes.check_choice(_FORWARD, f"activation of {cell}", activation, kind.activations)
    shapes.check_choice(_FORWARD, "keep", keep, ("gates", "states", None))
    reset_after = shapes.flag(_FORWARD, "reset_after", reset_after)
    reverse = shapes.flag(_FORWARD, "reverse", reverse)
    shapes.check_floating(_FORWARD, "x", x)
    shapes.check_rank(_FORWARD, "x", x, "T B I")
    shapes.check_nonempty(_FORWARD, "x", x, 2)
    T, B = x.shape[:2]
    H = _check_weights(x, weights, cell, kind.gates)
    shapes.check_elements(
        _FORWARD, "gates", (T, B, max(kind.gates, saved_planes(cell, reset_after)), H)
    )
    if initial is not None:
        initial = _check_initial(backend, initial, kind.states, x, (B, H))
    if lengths is not None:
        lengths = _checked_lengths(backend, lengths, T, B)
    if mask is not None:
        _check_flags("mask", mask, (T, B))
    if resets is not None:
        _check_flags("resets", resets, (T, B))
    if seed is not None:
        seed = shapes.seed_number(_FORWARD, seed)
    dropout_rate = 0.0
    if recurrent_dropout is not None:
        dropout_rate = shapes.rate_number(_FORWARD, "recurrent_dropout", recurrent_dropout)
    zoneout_rates = (0.0, 0.0) if zoneout is None else _zoneout_rates(zoneout, cell, kind.states)
    if seed is None:
        _check_seedless(dropout_rate, zoneout_rates, keep)

    spec = RnnSpec(
        cell,
        activation,
        reset_after,
        reverse,
        lengths,
        mask,
        resets,
        dropout_rate,
        zoneout_rates,
        seed,
    )
    return Call(name, backend, x, weights, initial, spec, keep)


def checked_backward(d_output: RnnOutput, saved: RnnSaved) -> tuple[ModuleType, RnnSaved]:
    """The backend that runs `rnn_backward`, once the arguments are right, and what it gets.

    What another backend has saved may be handed on with its name changed: gates are then by row.
    """
    shapes.check_saved(_BACKWARD, saved, RnnSaved)
    if type(d_output) is not RnnOutput:
        raise TypeError(
            f"[{_BACKWARD}] d_output is a {type(d_output).__name__}; "
            "RnnOutput(y, final, states) of gradients is needed, None where there is none"
        )
    backend = dispatch.load(_BACKWARD, saved.backend)
    y = saved.y
    states = CELLS[saved.spec.cell].states
    if d_output.y is not None:
        _check_field(backend, "y", d_output.y, y.shape, y.dtype)
    if d_output.final is not None:
        _check_state_field(backend, "final", d_output.final, states, y.shape[1:], y.dtype)
    if d_output.states is not None:
        _check_state_field(backend, "states", d_output.states, states, y.shape, y.dtype)
    if saved.gates is not None and saved.gates.ndim != 4 and not hasattr(backend, "BLOCKED_GATES"):
        saved = saved._replace(gates=saved.gates_by_row)
    return backend, saved


def _check_weights(x: Array, weights: RnnWeights, cell: str, gates: int) -> int:
    """H, once the weights are known to fit x and each other."""
    I = x.shape[2]
    kernel, recurrent, bias, recurrent_bias = weights
    if (
        recurrent.ndim != 2
        or recurrent.shape[1] != gates * recurrent.shape[0]
        or not recurrent.size
    ):
        raise ValueError(
            f"[{_FORWARD}] {shapes.given('recurrent_kernel', recurrent)}; "
            f"[H, {gates}*H] with H of at least 1 is needed for {cell}"
        )
    H = recurrent.shape[0]
    columns = gates * H
    if kernel.shape != (I, columns):
        raise ValueError(
            f"[{_FORWARD}] {shapes.given('kernel', kernel)}; [{I}, {columns}] is needed "
            f"for {cell}, x {list(x.shape)} and recurrent_kernel {list(recurrent.shape)}"
        )
    dtype = x.dtype
    if kernel.dtype != dtype:
        shapes.check_same_dtype(_FORWARD, "x", x, "kernel", kernel)
    if recurrent.dtype != dtype:
        shapes.check_same_dtype(_FORWARD, "x", x, "recurrent_kernel", recurrent)
    if bias is not None:
        _check_array("bias", bias, (columns,), x)
    if recurrent_bias is not None:
        _check_array("recurrent_bias", recurrent_bias, (columns,), x)
    return H


def _check_array(name: str, a: Array, shape: tuple[int, ...], x: Array) -> None:
    shapes.check_same_dtype(_FORWARD, "x", x, name, a)
    shapes.check_shape(_FORWARD, name, a, shape)
    dispatch.check_aligned(_FORWARD, name, a)


def _check_initial(
    backend: ModuleType, initial: Any, states: tuple[str, ...], x: Array, shape: tuple[int, int]
) -> Any:
    """The initial state, a list of states turned into the tuple."""
    if len(states) == 1:
        parts = (initial,)
    elif isinstance(initial, (tuple, list)) and len(initial) == len(states):
        parts = initial = tuple(initial)
    else:
        raise TypeError(
            f"[{_FORWARD}] initial is {_in_words(initial)}; "
            f"the pair ({', '.join(states)}) of arrays {list(shape)} is needed"
        )
    for state, part in zip(states, parts, strict=True):
        name = "initial" if len(states) == 1 else f"initial {state}"
        if not backend.owns(part):
            raise TypeError(
                f"[{_FORWARD}] {name} is {_in_words(part)}; an array {list(shape)} is needed"
            )
        _check_array(name, part, shape, x)
    return initial


def _checked_lengths(backend: ModuleType, lengths: Any, T: int, B: int) -> Array | None:
    """Lengths as int64 [B], or None if all are T."""
    if not backend.owns(lengths):
        try:
            # No dtype for the empty list: NumPy would call it floating.
            lengths = np.asarray(lengths, None if len(lengths) else np.int64)
        except (TypeError, ValueError):
            raise TypeError(
                f"[{_FORWARD}] lengths is {_in_words(lengths)}; {B} integers are needed"
            ) from None
    # What is on the host is looked at there: a device need not be waited for.
    shapes.check_integer(_FORWARD, "lengths", lengths)
    shapes.check_shape(_FORWARD, "lengths", lengths, (B,))
    dispatch.check_aligned(_FORWARD, "lengths", lengths)
    if B == 0:
        return None
    least, most = int(lengths.min()), int(lengths.max())
    if least < 0 or most > T:
        raise ValueError(
            f"[{_FORWARD}] lengths reach from {least} to {most}; 0 to T = {T} is needed"
        )
    return None if least == T else backend.asarray(lengths.astype(np.int64, copy=False))


def _check_flags(name: str, flags: Array, shape: tuple[int, int]) -> None:
    if flags.dtype != np.bool_:
        raise TypeError(f"[{_FORWARD}] {shapes.given(name, flags)}; bool is needed")
    shapes.check_shape(_FORWARD, name, flags, shape)


def _zoneout_rates(zoneout: Any, cell: str, states: tuple[str, ...]) -> tuple[float, float]:
    if isinstance(zoneout, (tuple, list)):
        if len(zoneout) != 2:
            raise ValueError(
                f"[{_FORWARD}] zoneout is {shapes.words(zoneout)}; a rate or a pair of rates "
                "(h, c) is needed"
            )
        rates = (
            shapes.rate_number(_FORWARD, "zoneout of h", zoneout[0]),
            shapes.rate_number(_FORWARD, "zoneout of c", zoneout[1]),
        )
        if rates[1] and "c" not in states:
            raise ValueError(
                f"[{_FORWARD}] zoneout of c is {rates[1]}; 0 is needed, {cell} has no c"
            )
        return rates
    rate = shapes.rate_number(_FORWARD, "zoneout", zoneout)
    return (rate, rate if "c" in states else 0.0)


def _check_seedless(dropout_rate: float, zoneout: tuple[float, float], keep: str | None) -> None:
    if dropout_rate:
        raise ValueError(
            f"[{_FORWARD}] recurrent_dropout is {dropout_rate} and seed is None; a seed is needed "
            "(for inference leave recurrent_dropout out)"
        )
    if keep is not None and (zoneout[0] or zoneout[1]):
        raise ValueError(
            f"[{_FORWARD}] zoneout is {zoneout} and seed is None; a seed is needed, "
            "or keep=None for inference"
        )


def _check_field(
    backend: ModuleType, name: str, d: Any, shape: tuple[int, ...], dtype: Any
) -> None:
    if not backend.owns(d):
        raise TypeError(
            f"[{_BACKWARD}] d_output.{name} is {_in_words(d)}; an array {list(shape)} is needed"
        )
    if d.shape != shape or d.dtype != dtype:
        raise (ValueError if d.shape != shape else TypeError)(
            f"[{_BACKWARD}] {shapes.given(f'd_output.{name}', d)}; {dtype} {list(shape)} is needed"
        )
    dispatch.check_aligned(_BACKWARD, f"d_output.{name}", d)


def _check_state_field(
    backend: ModuleType,
    name: str,
    d: Any,
    states: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: Any,
) -> None:
    if len(states) == 1:
        _check_field(backend, name, d, shape, dtype)
        return
    if not isinstance(d, (tuple, list)) or len(d) != len(states):
        raise TypeError(
            f"[{_BACKWARD}] d_output.{name} is {_in_words(d)}; "
            f"the pair ({', '.join(states)}) of arrays {list(shape)} or None is needed"
        )
    for state, part in zip(states, d, strict=True):
        if part is not None:
            _check_field(backend, f"{name} {state}", part, shape, dtype)


def _in_words(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array {value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}"
