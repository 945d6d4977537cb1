"""Back-propagation through time: the forward loop in the other direction, then one large product
over all steps for each weight."""

import numpy as np

from fastnn.kernels.cells import saved_planes
from fastnn.kernels.reference.rnn_cells import column_sums, make
from fastnn.kernels.reference.rnn_forward import initial_states, project
from fastnn.kernels.reference.rnn_noise import Zoneout, dropout_mask
from fastnn.kernels.reference.rnn_rows import Rows


def rnn_backward(d_y, d_final, d_states, saved, need_dx):
    """Gradients of `rnn_forward`.

    Parameters
    ----------
    d_y : ndarray [T, B, H] or None
    d_final, d_states : pairs (h, c) of ndarray [B, H], [T, B, H]; any member may be None
    saved : RnnSaved
    need_dx : bool

    Returns
    -------
    dx : ndarray [T, B, I], in the memory order of x; None if not needed
    weights : list of 4: dkernel, drecurrent_kernel, dbias, drecurrent_bias; None without the weight
    initial : list of ndarray [B, H]: dh, and dc for LSTM
    """
    x, weights, spec = saved.x, saved.weights, saved.spec
    T, B, _ = x.shape
    H = len(weights.recurrent_kernel)
    rows = Rows(spec, T, B)
    cell = make(weights, spec)
    mask = dropout_mask(spec, B, H, x.dtype)
    zone_h, zone_c = Zoneout(spec, 0, B, H), Zoneout(spec, 1, B, H)
    h0, c0 = initial_states(saved.initial, spec, B, H, x.dtype)
    has_c = c0 is not None

    h_old = rows.previous(saved.y, h0)
    hm = h_old if mask is None else h_old * mask
    x_rows, h_rows, hm_rows = rows.pack(x), rows.pack(h_old), rows.pack(hm)
    c_rows = rows.pack(rows.previous(saved.c, c0)) if has_c else None
    y_rows = rows.pack(saved.y)

    dh, dc = _start(d_final[0], B, H, x.dtype), _start(d_final[1], B, H, x.dtype)
    dh0, dc0 = np.zeros_like(dh), np.zeros_like(dc)
    da = np.empty((len(x_rows), weights.kernel.shape[1]), x.dtype)
    da_n = np.empty((len(x_rows), H), x.dtype) if spec.cell == "gru" and spec.reset_after else None

    with np.errstate(all="ignore"):
        planes = _planes(saved, rows, cell, x_rows, h_rows, hm_rows, c_rows)
        for t in reversed(rows.order):
            live = slice(None) if rows.live is None else rows.live[t]
            for d, upstream in ((dh, d_y), (dh, d_states[0]), (dc, d_states[1])):
                if upstream is not None:
                    d[live] += upstream[t, live]
            b, n = rows.at(t), rows.span(t)
            dh_kept, dh_new = zone_h.split(t, b, dh[b])
            dc_kept, dc_new = zone_c.split(t, b, dc[b]) if has_c else (0, None)
            da[n], da_q, dhm, dh_old, dc_old = cell.backward(
                dh_new,
                dc_new,
                [p[n] for p in planes],
                h_rows[n],
                hm_rows[n],
                None if c_rows is None else c_rows[n],
                y_rows[n],
            )
            if da_n is not None:
                da_n[n] = da_q
            dh[b] = dh_kept + dh_old + (dhm if mask is None else dhm * mask[b])
            if has_c:
                dc[b] = dc_kept + dc_old
            if rows.resets is not None:
                for d, d0 in ((dh, dh0), (dc, dc0)):
                    d0[rows.resets[t]] += d[rows.resets[t]]
                    d[rows.resets[t]] = 0

        dx = rows.unpack(da @ weights.kernel.T, like=x) if need_dx else None
        dU, drb = cell.weight_gradients(hm_rows, planes, da, da_n)
        db = None if weights.bias is None else column_sums(da)
        return dx, [x_rows.T @ da, dU, db, drb], [dh0 + dh, dc0 + dc][: 1 + has_c]


def _start(d, B, H, dtype):
    return np.zeros((B, H), dtype) if d is None else d.copy()


def _planes(saved, rows, cell, x_rows, h_rows, hm_rows, c_rows):
    """The activated gates of all steps, S arrays [N, H]; computed again if they were not saved."""
    S = saved_planes(saved.spec.cell, saved.spec.reset_after)
    if S == 0:
        return []
    if saved.gates is not None:
        gates = rows.pack(saved.gates)
        return [gates[:, s] for s in range(S)]
    return cell.forward(project(x_rows, saved.weights), h_rows, hm_rows, c_rows)[2]
