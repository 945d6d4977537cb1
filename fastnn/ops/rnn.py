"""One direction of a recurrent layer: simple RNN, LSTM or GRU over a whole sequence.

Letters: T time steps, B batch, I inputs, H units, G gates (1 simple_rnn, 4 lstm, 3 gru).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastnn import dispatch, shapes
from fastnn.kernels.cells import CELLS, saved_planes
from fastnn.types import Array, RnnGrads, RnnOutput, RnnSaved, RnnSpec, RnnWeights

__all__ = ["rnn_backward", "rnn_backward_pair", "rnn_forward", "rnn_forward_pair"]

_FORWARD = "rnn_forward"
_BACKWARD = "rnn_backward"
_NAMES = ("x", "kernel", "recurrent_kernel", "bias", "recurrent_bias", "mask", "resets")


def rnn_forward(
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
) -> tuple[RnnOutput, RnnSaved | None]:
    """Run a recurrent cell over time.

    Parameters
    ----------
    x : ndarray [T, B, I], float32 or float64
        Time-major; a transposed view of ``[B, T, I]`` is just as good.
    weights : RnnWeights
        ``kernel [I, G*H]``, ``recurrent_kernel [H, G*H]``, ``bias`` and ``recurrent_bias [G*H]`` or
        None. Blocks of H columns in the order i f g o (lstm) and z r h (gru). Any strides.
    initial : ndarray [B, H], or for lstm the pair (h, c); optional
        The state before the first step, zero by default.
    cell : "simple_rnn", "lstm" or "gru"
    activation : "tanh" or "relu"
        "relu" for simple_rnn only.
    reset_after : bool
        gru: True as in cuDNN, PyTorch and Keras, False as in Cho et al. (2014).
    reverse : bool
        Walk from a row's last step to its first. ``y[t]`` stays at x's own t.
    lengths : integers [B], optional
        Array or list of how many steps of each row count, 0 to T. Steps past them are not computed,
        x is not read there, y is zero.
    mask : bool ndarray [T, B], optional
        Where it is False the row's state is held, and y repeats it.
    resets : bool ndarray [T, B], optional
        Where it is True the row's state becomes ``initial`` (or zero) before the step.
    recurrent_dropout : float, optional
        Rate, 0 <= rate < 1, of one dropout mask ``[B, H]`` a sequence, on h where it enters a
        matrix product (Gal & Ghahramani 2016). Needs a seed.
    zoneout : float or (float, float), optional
        Rates, 0 <= rate < 1, at which units keep h and c (Krueger et al. 2016); a single number is
        both. Without a seed, which needs ``keep=None``, the state is the expected one:
        ``rate * old + (1 - rate) * new``.
    seed : int, optional
        0 to 2**64 - 1, of the noise. One seed is the same noise on every backend.
    keep : "gates", "states" or None
        What to save for `rnn_backward`: the activated gates; the states only, from which the gates
        are computed again; or nothing.

    Returns
    -------
    output : RnnOutput
        ``y [T, B, H]``, in the memory order of x; ``final [B, H]`` (lstm: the pair h, c), each
        row's state after its last step; ``states``, the same array as y (lstm: the pair of all h
        and all c), None with ``keep=None``.
    saved : RnnSaved or None

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size; a rate outside ``[0, 1)``; noise without a seed; lengths outside
        ``0 .. T``; an unknown cell, activation or keep.

    Notes
    -----
    Memory. Beyond x, weights, initial and y, ``saved`` holds ``n T B Hp`` numbers of x's dtype; Hp
    is H, on the backend cython rounded up to 64 bytes, and n is

    ==========  ==========  ======  ======================  =====================
    keep        simple_rnn  lstm    gru, reset_after=False  gru, reset_after=True
    ==========  ==========  ======  ======================  =====================
    "gates"     0           5       3                       4
    "states"    0           1       0                       0
    ==========  ==========  ======  ======================  =====================

    (one of the five is c, which is also ``states[1]``). The backend cython needs a work area
    besides, of at most about

        1.5 V Hp (Hp + Ip) + 5 B (2 Hp + Ip)

    numbers during the call, with V = 1 for simple_rnn, else 4, and Ip = I rounded up to 64 bytes;
    with a batch of 8 or less ``min(256, T B) (V Hp + Ip)`` more. Without the tile unit (AMX) the
    packed weights take V Hp (Hp + Ip). Work areas are kept for later calls (`fastnn.empty_cache`),
    and under `fastnn.constant_weights` the packed weights are.
    """
    call = _checked(
        x,
        weights,
        initial,
        cell=cell,
        activation=activation,
        reset_after=reset_after,
        reverse=reverse,
        lengths=lengths,
        mask=mask,
        resets=resets,
        recurrent_dropout=recurrent_dropout,
        zoneout=zoneout,
        seed=seed,
        keep=keep,
    )
    return call.result(call.backend.rnn_forward(*call[2:]))


def rnn_forward_pair(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Any, Any]:
    """Two independent `rnn_forward`, at once where the backend can: two directions of a layer.

    Parameters
    ----------
    first, second : mapping
        The arguments of each, by name.

    Returns
    -------
    tuple
        What each `rnn_forward` gives.
    """
    calls = _checked(**first), _checked(**second)
    backend = calls[0].backend
    if backend is calls[1].backend and hasattr(backend, "rnn_forward_pair"):
        found = backend.rnn_forward_pair(*(call[2:] for call in calls))
        return calls[0].result(found[0]), calls[1].result(found[1])
    with dispatch.side_by_side(first["x"]) as side:
        one = calls[0].result(backend.rnn_forward(*calls[0][2:]))
        with side:
            other = calls[1].result(calls[1].backend.rnn_forward(*calls[1][2:]))
    return one, other


class _Call(NamedTuple):
    """A checked call of `rnn_forward`; from ``x`` on, the backend's arguments."""

    name: str
    backend: ModuleType
    x: Array
    weights: RnnWeights
    initial: Any
    spec: RnnSpec
    keep: str | None

    def result(self, found: tuple[RnnOutput, Any, Any]) -> tuple[RnnOutput, RnnSaved | None]:
        output, c, gates = found
        if self.keep is None:
            return output, None
        saved = RnnSaved(
            self.name, self.spec, self.keep, self.x, self.weights, self.initial, output.y, c, gates
        )
        return output, saved


def _checked(
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
) -> _Call:
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
    return _Call(name, backend, x, weights, initial, spec, keep)


def rnn_backward(d_output: RnnOutput, saved: RnnSaved, *, need_dx: bool = True) -> RnnGrads:
    """Gradients of `rnn_forward`, by back-propagation through time.

    Parameters
    ----------
    d_output : RnnOutput
        Gradients of ``y``, ``final`` and ``states``, in their shapes and dtype; None where there is
        none, also for one member of a pair. What comes in at steps past a row's length is ignored.
    saved : RnnSaved
        From `rnn_forward`; the same backend runs.
    need_dx : bool
        False leaves ``dx`` out (None), as for the first layer of a network.

    Returns
    -------
    RnnGrads
        ``dx [T, B, I]``, zero where a row did not step; ``weights``, None where a weight is None;
        ``initial [B, H]`` (lstm: the pair dh, dc), also when no initial state was given: then it is
        the gradient at zero, restarts by ``resets`` included.

    Raises
    ------
    TypeError, ValueError
        If ``saved`` is not of `rnn_forward`, or ``d_output`` does not match its output.

    Notes
    -----
    Memory. Time is cut into chunks of R pairs of a step and a row, R from 128 to 1,024 but not
    under B nor over T B. The work area of the backend cython is at most about, in numbers of x's
    dtype and with the letters of `rnn_forward`,

        2.5 V Hp (Hp + Ip) + 3 R (V Hp + Hp + Ip) + 8 B Hp + 192 R threads

    (the weights packed and the sums of their gradients; a chunk's gradients of the gates, its h and
    x, each twice; states; without the tile unit 2, 2, 8 and 0 instead of 2.5, 3, 8 and 192). With
    ``keep="states"`` a chunk's gates are computed again, for

        V Hp (H + I) + R (5 Hp + Ip)

    more. Gradients of gates for all T are never held.
    """
    return _checked_backward(d_output, saved).rnn_backward(d_output, saved, need_dx)


def rnn_backward_pair(
    first: tuple[RnnOutput, RnnSaved], second: tuple[RnnOutput, RnnSaved], *, need_dx: bool = True
) -> tuple[RnnGrads, RnnGrads]:
    """Two independent `rnn_backward`, at once where the backend can.

    Parameters
    ----------
    first, second : tuple
        ``(d_output, saved)`` of each.
    need_dx : bool
        As in `rnn_backward`, for both.

    Returns
    -------
    tuple of RnnGrads
    """
    backend, other = _checked_backward(*first), _checked_backward(*second)
    if backend is other and hasattr(backend, "rnn_backward_pair"):
        return backend.rnn_backward_pair((*first, need_dx), (*second, need_dx))
    with dispatch.side_by_side(first[1].y) as side:
        grads = backend.rnn_backward(*first, need_dx)
        with side:
            more = other.rnn_backward(*second, need_dx)
    return grads, more


def _checked_backward(d_output: RnnOutput, saved: RnnSaved) -> ModuleType:
    """The backend that runs it."""
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
    return backend


# --------------------------------------------------------------------------- checks


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
