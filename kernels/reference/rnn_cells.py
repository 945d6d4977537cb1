"""One recurrent step of each cell over rows of a batch: matrix products around its equations.

A driver has n rows at hand, of one time step or of all: the same functions serve the loop and the
recomputation of all gates in one product.

    ax  [n, G*H]   x W + b              hm  [n, H]   h under its recurrent dropout mask
    h   [n, H]     the state before     c   [n, H]   the same for LSTM, else None

``forward(ax, h, hm, c) -> h', c', planes`` with ``planes`` the activated gates in the order of
``RnnSaved.gates``.
``backward(dh, dc, planes, h, hm, c, h') -> da, da_n, dhm, dh, dc``: ``da [n, G*H]`` the gradient of
ax; ``da_n [n, H]`` that of the candidate's recurrent part where it is another (GRU reset_after),
else None; ``dhm`` what goes back through the matrix product, ``dh`` and ``dc`` what goes back past
it.
"""

import numpy as np

from fastnn.kernels.cells import gru, lstm, simple_rnn


def sigmoid(x):
    # exp overflows to infinity far on the negative side, where 0 is the right answer.
    return 1 / (1 + np.exp(-x))


def tanh(x):
    return np.tanh(x)


def relu(x):
    return np.maximum(x, 0)


class _Cell:
    def __init__(self, weights, spec):
        self.U = weights.recurrent_kernel
        self.rb = weights.recurrent_bias
        self.H = len(self.U)

    def recurrent(self, hm, blocks=slice(None)):
        """``hm U + rb``, of some of the gates' columns."""
        a = hm @ self.U[:, blocks]
        return a if self.rb is None else a + self.rb[blocks]

    def blocks(self, a):
        """The blocks of H columns."""
        return [a[:, k : k + self.H] for k in range(0, a.shape[1], self.H)]

    def weight_gradients(self, hm, planes, da, da_n):
        """Of ``recurrent_kernel`` and ``recurrent_bias`` (None if there is none)."""
        recurrent = da
        if da_n is not None:
            recurrent = np.concatenate([da[:, : -self.H], da_n], 1)
        return hm.T @ recurrent, None if self.rb is None else column_sums(recurrent)


class SimpleRnn(_Cell):
    def __init__(self, weights, spec):
        super().__init__(weights, spec)
        if spec.activation == "tanh":
            self.act, self.act_backward = tanh, simple_rnn.backward_tanh
        else:
            self.act, self.act_backward = relu, simple_rnn.backward_relu

    def forward(self, ax, h, hm, c):
        return simple_rnn.forward(ax + self.recurrent(hm), self.act), None, ()

    def backward(self, dh, dc, planes, h, hm, c, h_new):
        da = self.act_backward(dh, h_new)
        return da, None, da @ self.U.T, 0, None


class Lstm(_Cell):
    def forward(self, ax, h, hm, c):
        a_i, a_f, a_g, a_o = self.blocks(ax + self.recurrent(hm))
        *planes, h_new, c_new = lstm.forward(a_i, a_f, a_g, a_o, c, sigmoid, tanh)
        return h_new, c_new, planes

    def backward(self, dh, dc, planes, h, hm, c, h_new):
        i, f, g, o = planes
        *da, dc = lstm.backward(dh, dc, i, f, g, o, c, tanh)
        da = np.concatenate(da, 1)
        return da, None, da @ self.U.T, 0, dc


class GruResetAfter(_Cell):
    def forward(self, ax, h, hm, c):
        x_z, x_r, x_n = self.blocks(ax)
        u_z, u_r, q = self.blocks(self.recurrent(hm))
        z = gru.gate(x_z + u_z, sigmoid)
        r = gru.gate(x_r + u_r, sigmoid)
        n = gru.candidate(x_n, r, q, tanh)
        return gru.update(z, n, h), None, (z, r, n, q)

    def backward(self, dh, dc, planes, h, hm, c, h_new):
        z, r, n, q = planes
        da_z, da_n, dh = gru.update_backward(dh, z, n, h)
        da_r, dq = gru.reset_backward(da_n, q, r)
        dhm = np.concatenate([da_z, da_r, dq], 1) @ self.U.T
        return np.concatenate([da_z, da_r, da_n], 1), dq, dhm, dh, None


class GruResetBefore(_Cell):
    def forward(self, ax, h, hm, c):
        H = self.H
        x_z, x_r, x_n = self.blocks(ax)
        u_z, u_r = self.blocks(self.recurrent(hm, slice(2 * H)))
        z = gru.gate(x_z + u_z, sigmoid)
        r = gru.gate(x_r + u_r, sigmoid)
        n = tanh(x_n + self.recurrent(r * hm, slice(2 * H, None)))
        return gru.update(z, n, h), None, (z, r, n)

    def backward(self, dh, dc, planes, h, hm, c, h_new):
        H = self.H
        z, r, n = planes
        da_z, da_n, dh = gru.update_backward(dh, z, n, h)
        da_r, dhm = gru.reset_backward(da_n @ self.U[:, 2 * H :].T, hm, r)
        da = np.concatenate([da_z, da_r, da_n], 1)
        return da, None, dhm + da[:, : 2 * H] @ self.U[:, : 2 * H].T, dh, None

    def weight_gradients(self, hm, planes, da, da_n):
        H = self.H
        dU = np.concatenate([hm.T @ da[:, : 2 * H], (planes[1] * hm).T @ da[:, 2 * H :]], 1)
        return dU, None if self.rb is None else column_sums(da)


def make(weights, spec):
    """The cell of a call."""
    if spec.cell == "gru":
        return (GruResetAfter if spec.reset_after else GruResetBefore)(weights, spec)
    return {"simple_rnn": SimpleRnn, "lstm": Lstm}[spec.cell](weights, spec)


def column_sums(a):
    """``a.sum(0)`` in double: NumPy adds long columns one by one."""
    return a.sum(0, dtype=np.float64).astype(a.dtype)
