"""Which rows of a recurrent batch step at which time: lengths, mask, resets and direction, once.

A row that is past its length or masked at t does not step there: nothing of it is read (padding may
hold NaN) and nothing is paid for it. What remains is packed, N (t, b) pairs ordered by t then b, so
that the products over all times are one matrix product each.
"""

import numpy as np


class Rows:
    """The (t, b) pairs of a call.

    Parameters
    ----------
    spec : RnnSpec
        Its ``lengths``, ``mask``, ``resets`` and ``reverse`` are read.
    T, B : int
        Time steps and batch.
    """

    def __init__(self, spec, T, B):
        self.shape = (T, B)
        self.order = range(T - 1, -1, -1) if spec.reverse else range(T)
        self._first = T - 1 if spec.reverse else 0
        self._back = 1 if spec.reverse else -1
        self.live = None  # [T, B]: t < lengths[b]; None: all
        if spec.lengths is not None:
            self.live = np.arange(T)[:, None] < spec.lengths
        steps = self.live
        if spec.mask is not None:
            steps = spec.mask if steps is None else steps & spec.mask
        self.steps = steps  # [T, B]: live and not masked; None: all
        self.resets = spec.resets
        if spec.resets is not None and self.live is not None:
            self.resets = spec.resets & self.live
        if steps is None:
            self._ends = range(0, (T + 1) * B, B) if B else [0] * (T + 1)
        else:
            self._ends = np.concatenate([[0], np.cumsum(steps.sum(1))]).tolist()

    def span(self, t):
        """The slice of a packed array that holds time t."""
        return slice(self._ends[t], self._ends[t + 1])

    def at(self, t):
        """The rows of the batch that step at t, as an index; all of them as a slice."""
        return slice(None) if self.steps is None else np.flatnonzero(self.steps[t])

    def pack(self, a):
        """``[T, B, ...] -> [N, ...]``, without a copy where memory allows."""
        if self.steps is None:
            return a.reshape(self._ends[-1], *a.shape[2:])
        return a[self.steps]

    def unpack(self, packed, like=None):
        """``[N, K] -> [T, B, K]``, zero where no row steps, in the memory order of ``like``."""
        T, B = self.shape
        out = zeros_in_order(like, packed.shape[-1])
        if self.steps is None:
            out[...] = packed.reshape(T, B, packed.shape[-1])
        else:
            out[self.steps] = packed
        return out

    def previous(self, states, initial):
        """``[T, B, H]``: the state before each step and after its reset."""
        T, _ = self.shape
        out = np.empty_like(states)
        if T == 0:
            return out
        out[self._first] = initial
        if self._back < 0:
            out[1:] = states[:-1]
        else:
            out[:-1] = states[1:]
            if self.live is not None:  # a row's first step is its last time, below T - 1
                np.copyto(out[:-1], initial, where=~self.live[1:, :, None])
        if self.resets is not None:
            np.copyto(out, initial, where=self.resets[:, :, None])
        return out


def zeros_in_order(x, K):
    """Zeros ``[T, B, K]`` in x's dtype, batch-major in memory where ``x [T, B, I]`` is."""
    T, B, _ = x.shape
    if abs(x.strides[0]) < abs(x.strides[1]):
        return np.zeros((B, T, K), x.dtype).transpose(1, 0, 2)
    return np.zeros((T, B, K), x.dtype)
