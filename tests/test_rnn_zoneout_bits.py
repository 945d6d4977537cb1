"""Zoneout's bits: drawn for a whole call at once, and saved, on the backend cython."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import need
from rnn_cases import Case, make

from fastnn import ops, use_backend
from fastnn.kernels.reference import noise
from fastnn.types import RnnWeights

RATE, SEED = 0.3, 11


def held(T, B, H, **options):
    """Which units hold their state: h' is 1 everywhere, the initial state 2."""
    zeros = np.broadcast_to(np.float32(0), (H, H))
    weights = RnnWeights(zeros[:1], zeros, np.ones(H, np.float32), None)
    output, _ = ops.rnn_forward(
        np.zeros((T, B, 1), np.float32),
        weights,
        np.full((B, H), 2, np.float32),
        cell="simple_rnn",
        activation="relu",
        resets=np.ones((T, B), bool),
        zoneout=RATE,
        seed=SEED,
        keep=None,
        **options,
    )
    assert np.isin(output.y, (0, 1, 2)).all()  # 0: padding
    return output.y == 2


@pytest.mark.parametrize(
    ("T", "B", "H"),
    [(3, 29, 150), (2, 3, 64), (4, 1, 130), (1, 2, 4101)],
    ids=["many rows to a draw", "whole words", "one row", "a row that takes two draws"],
)
def test_bits_are_words_of_the_stream_in_order(backend, T, B, H):
    counters = np.zeros((-(-T * B * H // 4), 4), np.uint64)
    counters[:, 0], counters[:, 2] = np.arange(len(counters)), 3
    words = noise.philox4x32(counters, (SEED, 0))
    drawn = (words.reshape(-1)[: T * B * H] < int(RATE * 2**32)).reshape(T, B, H)
    np.testing.assert_array_equal(held(T, B, H), drawn)


def test_masked_rows_and_padding_move_no_other_row_s_bits(backend):
    T, B, H = 4, 5, 30
    everything = held(T, B, H)
    mask = np.ones((T, B), bool)
    mask[1, 2] = mask[1, 3] = mask[3, 0] = False
    lengths = np.array([4, 2, 4, 3, 1])
    found = held(T, B, H, mask=mask, lengths=lengths)
    steps = mask & (np.arange(T)[:, None] < lengths)
    np.testing.assert_array_equal(found[steps], everything[steps])


@pytest.mark.parametrize(("rates", "states"), [((0.2, 0.3), 2), ((0.0, 0.3), 1), ((0.2, 0.0), 1)])
def test_one_bit_a_unit_is_saved(rates, states):
    need("cython")
    T, B, H = 5, 6, 70
    problem = make(Case(T=T, B=B, H=H, zoneout=rates), "lstm")
    with use_backend("cython"):
        _, saved = ops.rnn_forward(problem.x, problem.weights, problem.initial, **problem.options)
    assert saved.kept.dtype == np.uint64 and saved.kept.nbytes == T * B * states * 2 * 8
    # The last word of a row: 6 units, and 58 bits that are none.
    assert not np.any(saved.kept[..., 1] >> np.uint64(H - 64))
