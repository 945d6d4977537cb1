"""Frozen cases of recurrent layers: cells, masks, states, both directions, stacks, embeddings."""

from __future__ import annotations

import numpy as np
from frozen import grid
from keras_cases import MASK_HOLES, MASK_RIGHT, RNG, layer_case


def recurrent():
    x = grid(RNG, 3, 5, 2)
    cells = {
        "simple_rnn": ["SimpleRNN", {"units": 3}],
        "simple_rnn_relu": ["SimpleRNN", {"units": 3, "activation": "relu"}],
        "lstm": ["LSTM", {"units": 3}],
        "gru": ["GRU", {"units": 3, "reset_after": True}],
        "gru_before": ["GRU", {"units": 3, "reset_after": False}],
    }
    for cell, (cls, base) in cells.items():
        for sequences in (False, True):
            for backwards in (False, True):
                config = base | {"return_sequences": sequences, "go_backwards": backwards}
                tag = cell + "-sequences" * sequences + "-backwards" * backwards
                layer_case(tag, [cls, config], x)
                if cell != "simple_rnn_relu":
                    if sequences or not backwards:
                        layer_case(tag + "-mask_right", [cls, config], x, mask=MASK_RIGHT)
                    layer_case(tag + "-mask_holes", [cls, config], x, mask=MASK_HOLES)
        state = [grid(RNG, 3, 3) for _ in range(2 if cls == "LSTM" else 1)]
        config = base | {"return_sequences": True, "return_state": True}
        layer_case(f"{cell}-states", [cls, config], x, states=state)
        layer_case(f"{cell}-states-mask", [cls, config], x, states=state, mask=MASK_RIGHT)
        layer_case(f"{cell}-stateful", [cls, base | {"stateful": True}], x, calls=2)
        layer_case(f"{cell}-state_only", [cls, base | {"return_state": True}], x)
        layer_case(f"{cell}-no_bias", [cls, base | {"use_bias": False}], x)
    for mode in ("concat", "sum", "mul", "ave", None):
        for sequences in (False, True):
            inner = ["LSTM", {"units": 3, "return_sequences": sequences}]
            spec = ["Bidirectional", {"layer": inner, "merge_mode": mode}]
            layer_case(f"bidirectional-{mode}" + "-sequences" * sequences, spec, x)
    for cell in ("lstm", "gru", "simple_rnn"):
        for sequences in (False, True):
            cls, base = cells[cell]
            spec = ["Bidirectional", {"layer": [cls, base | {"return_sequences": sequences}]}]
            tag = f"bidirectional-{cell}" + "-sequences" * sequences
            layer_case(tag + "-mask_right", spec, x, mask=MASK_RIGHT)
            layer_case(tag + "-mask_holes", spec, x, mask=MASK_HOLES)
    inner = ["LSTM", {"units": 3, "return_state": True}]
    layer_case("bidirectional-states", ["Bidirectional", {"layer": inner}], x)
    stack = [
        ["LSTM", {"units": 3, "return_sequences": True}],
        ["GRU", {"units": 4, "return_sequences": True}],
        ["SimpleRNN", {"units": 2}],
        ["Dense", {"units": 3, "activation": "tanh"}],
    ]
    layer_case("stacked", ["Sequential", {"layers": stack}], x)
    gaps = x * MASK_HOLES[:, :, None]
    skip = [["Masking", {}], ["LSTM", {"units": 3, "return_sequences": True}]]
    layer_case("masking-lstm", ["Sequential", {"layers": skip}], gaps)
    words = np.array([[1, 4, 2, 0, 0], [3, 3, 5, 1, 2], [6, 0, 0, 0, 0]])
    embedding = ["Embedding", {"input_dim": 7, "output_dim": 3}]
    masked = ["Embedding", {"input_dim": 7, "output_dim": 3, "mask_zero": True}]
    layer_case("embedding", embedding, words)
    for tag, first in (("embedding", embedding), ("mask_zero", masked)):
        pair = [first, ["LSTM", {"units": 3}]]
        layer_case(f"{tag}-lstm", ["Sequential", {"layers": pair}], words)
    deep = [
        masked,
        ["Bidirectional", {"layer": ["GRU", {"units": 2, "return_sequences": True}]}],
        ["LSTM", {"units": 2, "return_sequences": True}],
        ["TimeDistributed", {"layer": ["Dense", {"units": 2}]}],
    ]
    layer_case("mask_zero-deep", ["Sequential", {"layers": deep}], words)
