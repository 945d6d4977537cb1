"""The recurrent contract word for word: slow, in float64, sharing no code with fastnn.

One row and one time step at a time, from the list "Recurrent step" in docs/contract.md. The noise
is Philox4x32-10 in plain Python integers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_LOW = 0xFFFFFFFF


def philox_word(seed: int, stream: int, element: int) -> int:
    """The 32 random bits of one element of a stream."""
    i = element // 4
    counter = [i & _LOW, i >> 32, stream, 0]
    key = [seed & _LOW, seed >> 32]
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            (second >> 32) ^ counter[1] ^ key[0],
            second & _LOW,
            (first >> 32) ^ counter[3] ^ key[1],
            first & _LOW,
        ]
        key = [(key[0] + 0x9E3779B9) & _LOW, (key[1] + 0xBB67AE85) & _LOW]
    return counter[element % 4]


def _happens(rate: float, seed: int, stream: int, element: int) -> bool:
    return philox_word(seed, stream, element) < int(rate * 2**32)


def _sigmoid(a: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-a))


class Result(NamedTuple):
    """``gates[t][b]`` is the list of S activated planes, or None where the row did not step."""

    y: np.ndarray
    c: np.ndarray
    final_h: np.ndarray
    final_c: np.ndarray
    gates: list[list[Any]]


def run(
    x: np.ndarray,
    weights: Any,
    initial: Any = None,
    *,
    cell: str,
    activation: str = "tanh",
    reset_after: bool = True,
    reverse: bool = False,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    recurrent_dropout: float | None = None,
    zoneout: Any = None,
    seed: int | None = None,
) -> Result:
    """Forward pass; c is zeros for cells that have none."""
    T, B, _ = x.shape
    W = np.asarray(weights.kernel, np.float64)
    U = np.asarray(weights.recurrent_kernel, np.float64)
    H = U.shape[0]
    b = np.zeros(W.shape[1]) if weights.bias is None else np.float64(weights.bias)
    rb = (
        np.zeros(W.shape[1])
        if weights.recurrent_bias is None
        else np.float64(weights.recurrent_bias)
    )
    rate_h, rate_c = zoneout if isinstance(zoneout, tuple) else (zoneout or 0.0, zoneout or 0.0)

    y, all_c = np.zeros((T, B, H)), np.zeros((T, B, H))
    final_h, final_c = np.zeros((B, H)), np.zeros((B, H))
    gates: list[list[Any]] = [[None] * B for _ in range(T)]
    for row in range(B):
        h0, c0 = np.zeros(H), np.zeros(H)
        if initial is not None and cell == "lstm":
            h0, c0 = np.float64(initial[0][row]), np.float64(initial[1][row])
        elif initial is not None:
            h0 = np.float64(initial[row])
        drop = np.ones(H)
        if recurrent_dropout:
            for j in range(H):
                dropped = _happens(recurrent_dropout, seed, 2, row * H + j)
                drop[j] = 0.0 if dropped else 1 / (1 - recurrent_dropout)
        h, c = h0, c0
        steps = list(range(T if lengths is None else int(lengths[row])))
        for t in reversed(steps) if reverse else steps:
            if resets is not None and resets[t, row]:
                h, c = h0, c0
            if mask is None or mask[t, row]:
                new_h, new_c, gates[t][row] = _step(
                    np.float64(x[t, row]),
                    h,
                    h * drop,
                    c,
                    W,
                    U,
                    b,
                    rb,
                    cell,
                    activation,
                    reset_after,
                )
                h = _zoneout(h, new_h, rate_h, seed, 3, (t * B + row) * H)
                if cell == "lstm":
                    c = _zoneout(c, new_c, rate_c, seed, 4, (t * B + row) * H)
            y[t, row], all_c[t, row] = h, c
        final_h[row], final_c[row] = h, c
    return Result(y, all_c, final_h, final_c, gates)


def _zoneout(old, new, rate, seed, stream, start):
    if not rate:
        return new
    if seed is None:
        return rate * old + (1 - rate) * new
    return np.array(
        [
            o if _happens(rate, seed, stream, start + j) else n
            for j, (o, n) in enumerate(zip(old, new, strict=True))
        ]
    )


def _step(x, h, hm, c, W, U, b, rb, cell, activation, reset_after):
    H = len(h)
    if cell == "simple_rnn":
        a = x @ W + hm @ U + b + rb
        return (np.tanh(a) if activation == "tanh" else np.maximum(a, 0)), c, []
    if cell == "lstm":
        a = x @ W + hm @ U + b + rb
        i, f, o = _sigmoid(a[:H]), _sigmoid(a[H : 2 * H]), _sigmoid(a[3 * H :])
        g = np.tanh(a[2 * H : 3 * H])
        new_c = f * c + i * g
        return o * np.tanh(new_c), new_c, [i, f, g, o]
    Z, R, N = slice(0, H), slice(H, 2 * H), slice(2 * H, 3 * H)
    z = _sigmoid(x @ W[:, Z] + b[Z] + hm @ U[:, Z] + rb[Z])
    r = _sigmoid(x @ W[:, R] + b[R] + hm @ U[:, R] + rb[R])
    if reset_after:
        q = hm @ U[:, N] + rb[N]
        n = np.tanh(x @ W[:, N] + b[N] + r * q)
        return z * h + (1 - z) * n, c, [z, r, n, q]
    n = np.tanh(x @ W[:, N] + b[N] + (r * hm) @ U[:, N] + rb[N])
    return z * h + (1 - z) * n, c, [z, r, n]
