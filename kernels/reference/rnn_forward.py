"""Recurrent forward pass: a loop over time, vectorised over the batch.

With ``h``, ``c`` the state, a step at time t is: reset, recurrent dropout, the cell, zoneout; rows
that are masked or past their length hold their state.
"""

import numpy as np

from fastnn.kernels.cells import saved_planes
from fastnn.kernels.reference.rnn_cells import make
from fastnn.kernels.reference.rnn_noise import Zoneout, dropout_mask
from fastnn.kernels.reference.rnn_rows import Rows, zeros_in_order


def rnn_forward(x, weights, initial, spec, keep):
    """Run one direction of a recurrent layer.

    Parameters
    ----------
    x : ndarray [T, B, I]
    weights : RnnWeights
    initial : None, ndarray [B, H], or for LSTM the pair (h, c)
    spec : RnnSpec
    keep : "gates", "states" or None

    Returns
    -------
    y : ndarray [T, B, H], zero past a row's length; in the memory order of x
    final : list of ndarray [B, H], the state (h, or h and c) after each row's last step
    c : ndarray [T, B, H] of every c, or None (not LSTM, or ``keep`` is None)
    gates : ndarray [T, B, S, H], or None (``keep`` is not "gates", or the cell has none)
    """
    T, B, _ = x.shape
    H = len(weights.recurrent_kernel)
    rows = Rows(spec, T, B)
    cell = make(weights, spec)
    mask = dropout_mask(spec, B, H, x.dtype)
    zone_h, zone_c = Zoneout(spec, 0, B, H), Zoneout(spec, 1, B, H)
    h0, c0 = initial_states(initial, spec, B, H, x.dtype)
    start = [h0] if c0 is None else [h0, c0]
    state = [s0.copy() for s0 in start]
    h = state[0]
    c = state[1] if len(state) == 2 else None

    y = zeros_in_order(x, H)
    all_c = zeros_in_order(x, H) if keep and c is not None else None
    S = saved_planes(spec.cell, spec.reset_after)
    gates = np.zeros((T, B, S, H), x.dtype) if keep == "gates" and S else None

    with np.errstate(all="ignore"):  # NaN and infinity pass through as IEEE says
        ax = project(rows.pack(x), weights)
        for t in rows.order:
            if rows.resets is not None:
                for s, s0 in zip(state, start, strict=True):
                    np.copyto(s, s0, where=rows.resets[t, :, None])
            b = rows.at(t)
            h_old, c_old = h[b], None if c is None else c[b]
            hm = h_old if mask is None else h_old * mask[b]
            h_new, c_new, planes = cell.forward(ax[rows.span(t)], h_old, hm, c_old)
            h[b] = zone_h(t, b, h_old, h_new)
            if c is not None:
                c[b] = zone_c(t, b, c_old, c_new)
            live = slice(None) if rows.live is None else rows.live[t]
            y[t, live] = h[live]
            if c is not None and all_c is not None:
                all_c[t, live] = c[live]
            if gates is not None:
                for s, plane in enumerate(planes):
                    gates[t, b, s] = plane
    return y, state, all_c, gates


def initial_states(initial, spec, B, H, dtype):
    """``h0, c0``, zero where none is given; c0 is None for a cell without c."""
    if spec.cell != "lstm":
        return (np.zeros((B, H), dtype) if initial is None else initial), None
    return initial or (np.zeros((B, H), dtype), np.zeros((B, H), dtype))


def project(x, weights):
    """``x W + b``, ``[N, I] -> [N, G*H]``."""
    ax = x @ weights.kernel
    if weights.bias is not None:
        ax += weights.bias
    return ax
