"""The cells' equations for the recurrent kernels: device functions around `fastnn.kernels.cells`.

Of one unit j of one row, with ``ax = x W + b`` at ``at``, ``pre = hm U + rb`` at ``from_``, each in
blocks of H numbers, a block a gate::

    forward(ax, at, pre, from_, H, j, h, c)         -> h', c', four planes
    backward(dh, dc, planes.., h, hm, c, h')        -> four da, dq, dh, dc

The planes are those of ``RnnSaved.gates``; a cell without so many repeats its last number. ``dq``
is the gradient of the candidate's recurrent part where that is not da_n (GRU reset_after).

A GRU with the reset gate before the product takes two products a step: ``reset`` gives r for the
second one, ``p = r hm``, and ``reset_backward(dp, hm, r)`` gives ``da_r`` and its part of dhm.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from fastnn.kernels.cells import gru, lstm, simple_rnn
from fastnn.kernels.numba import device as _d


class Cell(NamedTuple):
    """What a recurrent kernel is built from."""

    name: str
    gates: int  # G
    planes: int  # S
    has_c: bool
    twice: bool  # two products a step
    own_q: bool  # dq is not da_n
    forward: Any
    backward: Any
    reset: Any = None
    reset_backward: Any = None


_sigmoid, _maximum, _plain_tanh = _d.sigmoid, _d.maximum, _d.tanh


@_d.device
def _tanh(x):
    return _plain_tanh(x)  # a function of Python's cannot be handed to a device function


@_d.device
def _relu(x):
    return _maximum(x, type(x)(0))


# The equations, compiled for the device as they stand.
_lstm_forward, _lstm_backward = _d.device(lstm.forward), _d.device(lstm.backward)
_gate, _candidate = _d.device(gru.gate), _d.device(gru.candidate)
_update, _update_backward = _d.device(gru.update), _d.device(gru.update_backward)
_reset_backward = _d.device(gru.reset_backward)


def _lstm_step(ax, at, pre, from_, H, j, h, c):
    i, f, g, o, h_new, c_new = _lstm_forward(
        ax[at + j] + pre[from_ + j],
        ax[at + H + j] + pre[from_ + H + j],
        ax[at + 2 * H + j] + pre[from_ + 2 * H + j],
        ax[at + 3 * H + j] + pre[from_ + 3 * H + j],
        c,
        _sigmoid,
        _tanh,
    )
    return h_new, c_new, i, f, g, o


def _lstm_back(dh, dc, i, f, g, o, h, hm, c, h_new):
    one = type(dh)(1)
    da_i, da_f, da_g, da_o, dc_old = _lstm_backward(dh, dc, i, f, g, o, c, _tanh, one)
    return da_i, da_f, da_g, da_o, da_o, type(dh)(0), dc_old


def _gru_after_step(ax, at, pre, from_, H, j, h, c):
    z = _gate(ax[at + j] + pre[from_ + j], _sigmoid)
    r = _gate(ax[at + H + j] + pre[from_ + H + j], _sigmoid)
    q = pre[from_ + 2 * H + j]
    n = _candidate(ax[at + 2 * H + j], r, q, _tanh)
    return _update(z, n, h, type(h)(1)), c, z, r, n, q


def _gru_after_back(dh, dc, z, r, n, q, h, hm, c, h_new):
    one = type(dh)(1)
    da_z, da_n, dh_old = _update_backward(dh, z, n, h, one)
    da_r, dq = _reset_backward(da_n, q, r, one)
    return da_z, da_r, da_n, da_n, dq, dh_old, dc


def _gru_before_reset(ax, at, pre, from_, H, j):
    return _gate(ax[at + H + j] + pre[from_ + H + j], _sigmoid)


def _gru_before_step(ax, at, pre, from_, H, j, h, c):
    z = _gate(ax[at + j] + pre[from_ + j], _sigmoid)
    r = _gate(ax[at + H + j] + pre[from_ + H + j], _sigmoid)
    n = _tanh(ax[at + 2 * H + j] + pre[from_ + 2 * H + j])
    return _update(z, n, h, type(h)(1)), c, z, r, n, n


def _gru_before_back(dh, dc, z, r, n, q, h, hm, c, h_new):
    da_z, da_n, dh_old = _update_backward(dh, z, n, h, type(dh)(1))
    return da_z, type(dh)(0), da_n, da_n, da_n, dh_old, dc  # da_r comes after the product


def _gru_before_reset_back(dp, hm, r):
    return _reset_backward(dp, hm, r, type(r)(1))


def _simple(activation):
    step = _d.device(simple_rnn.forward)
    act = _tanh if activation == "tanh" else _relu
    back = _d.device(getattr(simple_rnn, f"backward_{activation}"))

    def forward(ax, at, pre, from_, H, j, h, c):
        h_new = step(ax[at + j] + pre[from_ + j], act)
        return h_new, c, h_new, h_new, h_new, h_new

    def backward(dh, dc, p0, p1, p2, p3, h, hm, c, h_new):
        da = type(dh)(back(dh, h_new, type(dh)(1)))
        return da, da, da, da, da, type(dh)(0), dc

    return forward, backward


@cache
def make(cell, activation, reset_after):
    """The cell of a call."""
    if cell == "simple_rnn":
        forward, backward = map(_d.device, _simple(activation))
        return Cell(f"simple_rnn_{activation}", 1, 0, False, False, False, forward, backward)
    if cell == "lstm":
        forward, backward = map(_d.device, (_lstm_step, _lstm_back))
        return Cell("lstm", 4, 4, True, False, False, forward, backward)
    if reset_after:
        forward, backward = map(_d.device, (_gru_after_step, _gru_after_back))
        return Cell("gru_reset_after", 3, 4, False, False, True, forward, backward)
    forward, backward = map(_d.device, (_gru_before_step, _gru_before_back))
    reset, reset_backward = map(_d.device, (_gru_before_reset, _gru_before_reset_back))
    return Cell(
        "gru_reset_before", 3, 3, False, True, False, forward, backward, reset, reset_backward
    )
