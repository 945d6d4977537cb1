"""The noise of a recurrent call: variational dropout of h and zoneout of h and c."""

import numpy as np

from fastnn.kernels.reference import noise


def dropout_mask(spec, B, H, dtype):
    """``[B, H]`` of 0 and 1 / (1 - rate), one for the whole sequence (Gal & Ghahramani 2016)."""
    rate = spec.recurrent_dropout
    if rate == 0:
        return None
    dropped = noise.dropped((B, H), rate, spec.seed, noise.RECURRENT_DROPOUT)
    return np.where(dropped, 0, 1 / (1 - rate)).astype(dtype)


class Zoneout:
    """Which units keep their state (Krueger et al. 2016); at inference, how much of it they keep.

    Parameters
    ----------
    spec : RnnSpec
    state : int
        0 for h, 1 for c.
    B, H : int
        Batch and units.
    """

    def __init__(self, spec, state, B, H):
        self.rate = spec.zoneout[state]
        self.seed = spec.seed
        self.stream = (noise.ZONEOUT_H, noise.ZONEOUT_C)[state]
        self.size = (B, H)

    def __call__(self, t, rows, old, new):
        """The state after step t, for the rows that step."""
        if self.rate == 0:
            return new
        if self.seed is None:
            return old * old.dtype.type(self.rate) + new * old.dtype.type(1 - self.rate)
        return np.where(self._kept(t, rows), old, new)

    def split(self, t, rows, d):
        """The gradient ``d`` of the state after step t, as the parts of the old and of the new."""
        if self.rate == 0:
            return 0, d
        kept = self._kept(t, rows)
        return np.where(kept, d, 0), np.where(kept, 0, d)

    def _kept(self, t, rows):
        B, H = self.size
        return noise.dropped((B, H), self.rate, self.seed, self.stream, t * B * H)[rows]
