"""One direction of a recurrent layer: simple RNN, LSTM or GRU over a whole sequence.

Letters: T time steps, B batch, I inputs, H units, G gates (1 simple_rnn, 4 lstm, 3 gru).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn import dispatch
from fastnn.ops.rnn_arguments import checked_backward, checked_forward
from fastnn.types import Array, RnnGrads, RnnOutput, RnnSaved, RnnWeights

__all__ = ["rnn_backward", "rnn_backward_pair", "rnn_forward", "rnn_forward_pair"]


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

    (one of the five is c, which is also ``states[1]``). The backend cython adds a bit a unit for
    each state with zoneout, T B rows of H rounded up to 64 bits. It needs a work area besides, of
    at most about

        1.5 V Hp (Hp + Ip) + 5 B (2 Hp + Ip)

    numbers during the call, with V = 1 for simple_rnn, else 4, and Ip = I rounded up to 64 bytes;
    with a batch of 8 or less ``min(256, T B) (V Hp + Ip)`` more. Without the tile unit (AMX) the
    packed weights take V Hp (Hp + Ip). Work areas are kept for later calls (`fastnn.empty_cache`),
    and under `fastnn.constant_weights` the packed weights are.
    """
    call = checked_forward(
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
    calls = checked_forward(**first), checked_forward(**second)
    backend = calls[0].backend
    if backend is calls[1].backend and hasattr(backend, "rnn_forward_pair"):
        found = backend.rnn_forward_pair(*(call[2:] for call in calls))
        return calls[0].result(found[0]), calls[1].result(found[1])
    with dispatch.side_by_side(first["x"]) as side:
        one = calls[0].result(backend.rnn_forward(*calls[0][2:]))
        with side:
            other = calls[1].result(calls[1].backend.rnn_forward(*calls[1][2:]))
    return one, other


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

        1.5 V Hp (Hp + Ip) + 1.5 R (4 Hp + Ip)

    more (without the tile unit V Hp (H + I) + R (5 Hp + Ip); on it, where T B is a single chunk,
    only a panel of the first part). Gradients of gates for all T are never held.
    """
    backend, saved = checked_backward(d_output, saved)
    return backend.rnn_backward(d_output, saved, need_dx)


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
    (backend, saved), (other, other_saved) = checked_backward(*first), checked_backward(*second)
    calls = (first[0], saved, need_dx), (second[0], other_saved, need_dx)
    if backend is other and hasattr(backend, "rnn_backward_pair"):
        return backend.rnn_backward_pair(*calls)
    with dispatch.side_by_side(saved.y) as side:
        grads = backend.rnn_backward(*calls[0])
        with side:
            more = other.rnn_backward(*calls[1])
    return grads, more
