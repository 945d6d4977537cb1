"""The formulas for memory in the docstrings of `rnn_forward` and `rnn_backward`, measured."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import dispatch, ops
from fastnn.bench import memory, rows
from fastnn.types import RnnWeights

T, B, I = 7, 5, 3

# n of the docstring: (cell, reset_after) -> planes for "gates", for "states"
PLANES = {
    ("simple_rnn", True): (0, 0),
    ("lstm", True): (5, 1),
    ("gru", False): (3, 0),
    ("gru", True): (4, 0),
}


def aligned(n, dtype):
    """n rounded up to 64 bytes."""
    line = 64 // np.dtype(dtype).itemsize
    return -(-n // line) * line


@pytest.mark.parametrize("H", [1, 10, 16, 97])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("cell", "reset_after"), PLANES)
def test_what_saved_holds(cell, reset_after, dtype, H, backend):
    G = {"simple_rnn": 1, "lstm": 4, "gru": 3}[cell]
    weights = RnnWeights(np.ones((I, G * H), dtype), np.ones((H, G * H), dtype), None, None)
    x = np.ones((T, B, I), dtype)
    Hp = aligned(H, dtype) if backend == "cython" else H
    for keep, planes in zip(("gates", "states"), PLANES[cell, reset_after], strict=True):
        output, saved = ops.rnn_forward(x, weights, cell=cell, reset_after=reset_after, keep=keep)
        assert saved.x is x and saved.weights is weights and saved.y is output.y
        own = [a for a in (saved.c, saved.gates) if a is not None]
        held = sum((a if a.base is None else a.base).nbytes for a in own)
        assert held == planes * T * B * Hp * x.itemsize
        if cell == "lstm":
            assert np.shares_memory(saved.c, output.states[1])


def bounds(row, isa):
    """Bytes of the work areas: forward, backward, what keep="states" adds to backward."""
    layer = row.layers[0]
    H, V = layer.units, 1 if layer.cell == "simple_rnn" else 4
    Hp, Ip = aligned(H, row.dtype), aligned(row.I, row.dtype)
    tiles = isa.startswith("amx")
    R = max(row.B, min(1024, row.T * row.B))
    forward = 1.5 * V * Hp * (Hp + Ip) + 5 * row.B * (2 * Hp + Ip)
    if row.B <= 8:
        forward += min(256, row.T * row.B) * (V * Hp + Ip)
    backward = (2.5 if tiles else 2) * V * Hp * (Hp + Ip) + (3 if tiles else 2) * R * (
        V * Hp + Hp + Ip
    )
    backward += 8 * row.B * Hp + (192 * R if tiles else 0)
    again = V * Hp * (H + row.I) + R * (5 * Hp + Ip)
    if tiles:
        again = 1.5 * V * Hp * (Hp + Ip) + 1.5 * R * (4 * Hp + Ip)
    return [4 * n for n in (forward, backward, again)]


@pytest.mark.skipif(
    memory.unavailable() is not None, reason="the peak of memory cannot be reset here"
)
@pytest.mark.skipif(
    dispatch.status()["cython"] is not None, reason="the work areas are those of the kernels"
)
@pytest.mark.parametrize("isa", ["best", "avx2"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_what_a_step_needs_besides(cell, isa, monkeypatch):
    runtime = pytest.importorskip("fastnn.kernels.cpu._runtime")
    isa = runtime.isas()[-1] if isa == "best" else isa
    if isa not in runtime.isas():
        pytest.skip(f"no {isa} here")
    monkeypatch.setenv("FASTNN_ISA", isa)
    monkeypatch.setenv("FASTNN_BACKEND", "cython")
    row = rows.RnnRow("r", 60, 50, 40, (rows.RnnLayer(cell, 200),))
    forward, backward, again = bounds(row, isa)
    gates, states = memory.measure(row, 1, {})
    slack = 3 << 20  # work areas are whole huge pages of 2 MB each; the system counts late
    assert gates.held < gates.peak < gates.held + forward + backward + slack
    assert states.held < states.peak < states.held + forward + backward + again + slack
    # the measurement sees the work area: it is not nothing
    assert gates.peak > gates.held + backward / 8
