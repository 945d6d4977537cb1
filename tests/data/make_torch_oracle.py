"""Make torch_oracle.npz: what PyTorch (CPU, float64) computes, in fastnn's layouts.

Run it where torch is installed, from anywhere:

    pip install torch==2.13.0 && python tests/data/make_torch_oracle.py

Each case holds the arguments of a fastnn operation (``spec``), its arrays, the results, a fixed
random upstream gradient ``r*`` and the gradients ``d*`` of ``sum(result * r)``. The tests import
:func:`cases` too, to compare with other random numbers and larger sizes where torch is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from frozen import Case, grid, numbered, save

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def pairs(value):
    """An integer or a pair of integers as a pair; for padding, as a pair of pairs."""
    return (value, value) if isinstance(value, int) else tuple(value)


def padded(x, padding, fill=0.0):
    """``x`` [B, C, h, w] with explicit padding ((top, bottom), (left, right))."""
    (top, bottom), (left, right) = (pairs(p) for p in pairs(padding))
    return F.pad(x, (left, right, top, bottom), value=fill)


# --------------------------------------------------------------------------- convolution

CONV = {
    "valid": {},
    "padding": {"padding": 1},
    "same": {"padding": "same"},
    "same-dilation": {"padding": "same", "dilation": [2, 1]},
    "strides": {"strides": [2, 3], "padding": 2},
    "asymmetric": {"padding": [[0, 2], [3, 1]], "strides": 2},
    "asymmetric-dilation": {"padding": [[1, 0], [0, 2]], "dilation": [1, 3]},
    "wide-stride": {"strides": 4},
    "groups": {"groups": 2, "padding": 1},
    "groups-dilation-strides": {"groups": 2, "padding": 2, "dilation": 2, "strides": 2},
    "depthwise": {"groups": 4, "padding": 1},
    "no-bias": {"bias": False, "padding": [[2, 0], [0, 1]]},
    "1x1": {"kernel": [1, 1]},
    "1x1-strides": {"kernel": [1, 1], "strides": 2},
    "row-kernel": {"kernel": [1, 5], "padding": [[0, 0], [2, 2]]},
    "even-kernel-same": {"kernel": [4, 2], "padding": "same"},
    "whole-image": {"kernel": [7, 6]},
}


def conv_case(rng, name, change, size, data_format):
    change = dict(change)
    kh, kw = change.pop("kernel", (3, 3))
    bias = change.pop("bias", True)
    groups = change.get("groups", 1)
    x = leaf(grid(rng, 2, 4 * size, 7, 6))
    w = leaf(grid(rng, 4 * size, 4 * size // groups, kh, kw))
    b = leaf(grid(rng, 4 * size)) if bias else None
    strides, dilation = change.get("strides", 1), change.get("dilation", 1)
    padding = change.get("padding", 0)
    same = padding == "same"
    y = F.conv2d(
        x if same else padded(x, padding),
        w,
        b,
        stride=pairs(strides),
        padding="same" if same else 0,
        dilation=pairs(dilation),
        groups=groups,
    )
    r = grid(rng, *y.shape)
    y.backward(torch.tensor(r))

    last = data_format == "channels_last"

    def image(a):
        return np.ascontiguousarray(a.transpose(0, 2, 3, 1)) if last else a

    arrays = {
        "x": image(x.detach().numpy()),
        "kernel": w.detach().numpy().transpose(2, 3, 1, 0),
        "y": image(y.detach().numpy()),
        "r": image(r),
        "dx": image(x.grad.numpy()),
        "dkernel": w.grad.numpy().transpose(2, 3, 1, 0),
    }
    if b is not None:
        arrays |= {"bias": b.detach().numpy(), "dbias": b.grad.numpy()}
    spec = {"op": "conv2d", "arguments": change | {"data_format": data_format}}
    return Case(f"conv2d/{name}-{data_format.removeprefix('channels_')}", spec, arrays)


# --------------------------------------------------------------------------- pooling

POOL = {
    "plain": {"pool_size": 2},
    "overlap": {"pool_size": 3, "strides": 2},
    "gaps": {"pool_size": 2, "strides": 3},
    "rectangle": {"pool_size": [3, 2], "strides": [1, 2]},
    "padding": {"pool_size": 3, "strides": 2, "padding": 1},
    "asymmetric": {"pool_size": 3, "strides": 2, "padding": [[0, 2], [1, 0]]},
    "whole-image": {"pool_size": [7, 6]},
}


def pool_case(rng, name, change, size, kind):
    # Few different values: equal maxima in one window show which of them takes the gradient.
    x = leaf(np.round(rng.standard_normal((2, 2 * size, 7, 6)) * 1.5))
    pool = pairs(change["pool_size"])
    stride = pairs(change.get("strides", pool))
    padding = change.get("padding", 0)
    if kind == "max":
        y = F.max_pool2d(padded(x, padding, -torch.inf), pool, stride)
    else:
        y = F.avg_pool2d(padded(x, padding), pool, stride)
        if kind == "avg":  # a plain padding= has no asymmetric form: divide by the cells inside
            y = y / F.avg_pool2d(padded(torch.ones_like(x), padding), pool, stride)
    r = grid(rng, *y.shape)
    y.backward(torch.tensor(r))
    arguments = change | {"data_format": "channels_first"}
    if kind == "avg_include_pad":
        arguments["count_include_pad"] = True
    arrays = {"x": x.detach(), "y": y.detach(), "r": r, "dx": x.grad}
    arrays = {key: np.asarray(value) for key, value in arrays.items()}
    spec = {"op": f"{kind[:3]}_pool2d", "arguments": arguments}
    return Case(f"{kind}_pool2d/{name}", spec, arrays)


# --------------------------------------------------------------------------- recurrent

CELLS = {
    "simple_rnn": {"cell": "simple_rnn"},
    "simple_rnn_relu": {"cell": "simple_rnn", "activation": "relu"},
    "lstm": {"cell": "lstm"},
    "gru": {"cell": "gru", "reset_after": True},
}
RNN = {
    "plain": {},
    "initial": {"initial": True},
    "lengths": {"initial": True, "lengths": [3, 6, 1, 4]},
    "lengths-short": {"lengths": [2, 1, 2, 2]},
    "no-bias": {"bias": False, "initial": True},
    "batch1": {"initial": True, "lengths": [5]},
    "one-step": {"steps": 1, "initial": True},
    "bidirectional": {"bidirectional": True},
    "bidirectional-lengths": {"bidirectional": True, "initial": True, "lengths": [3, 6, 1, 4]},
}


def reordered(w, cell):
    """PyTorch's ``[G*H, ...]`` as fastnn's ``[..., G*H]``; its GRU gates are r z n, ours z r h."""
    w = np.asarray(w)
    if cell == "gru":
        r, z, n = np.split(w, 3)
        w = np.concatenate([z, r, n])
    return w.T


def recurrent_case(rng, name, arguments, change, size):
    cell = arguments["cell"]
    steps, inputs, units = change.get("steps", 6), 2 + 3 * (size > 1), 3 * size + (size > 1)
    lengths = change.get("lengths")
    batch = len(lengths) if lengths else 4
    bias, both = change.get("bias", True), change.get("bidirectional", False)
    cls = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    extra = {"nonlinearity": arguments["activation"]} if "activation" in arguments else {}
    module = cls(inputs, units, bias=bias, bidirectional=both, **extra).double()
    for parameter in module.parameters():
        parameter.data = torch.tensor(grid(rng, *parameter.shape, scale=0.5))
    x = leaf(grid(rng, steps, batch, inputs))
    states = [leaf(grid(rng, 1 + both, batch, units)) for _ in range(1 + (cell == "lstm"))]
    given = tuple(states) if change.get("initial") else ()
    hx = (given if cell == "lstm" else given[0]) if given else None
    if lengths:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, final = module(packed, hx)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=steps)
    else:
        y, final = module(x, hx)
    out = [y, *(final if cell == "lstm" else (final,))]
    upstream = [grid(rng, *o.shape) for o in out]
    sum((o * torch.tensor(r)).sum() for o, r in zip(out, upstream, strict=True)).backward()

    arrays = {"x": x.detach().numpy(), "dx": x.grad.numpy()}
    arrays |= {"y": out[0].detach().numpy(), "r": upstream[0]}
    arrays |= numbered("final", [o.detach() for o in out[1:]])
    arrays |= numbered("rfinal", upstream[1:])
    if given:
        arrays |= numbered("state", [s.detach() for s in states])
        arrays |= numbered("dstate", [s.grad for s in states])
    # Weights of direction d: w{d}_0 kernel, w{d}_1 recurrent kernel, w{d}_2, w{d}_3 the biases.
    for d in range(1 + both):
        parameters = list(module.parameters())[d * (4 if bias else 2) :][: 4 if bias else 2]
        arrays |= numbered(f"w{d}_", [reordered(p.detach(), cell) for p in parameters])
        arrays |= numbered(f"dw{d}_", [reordered(p.grad, cell) for p in parameters])
    spec = {"op": "rnn", "arguments": arguments, "lengths": lengths, "directions": 1 + both}
    return Case(f"rnn/{name}", spec, arrays)


def cases(seed: int, size: int = 1) -> list[Case]:
    """Every case; ``size`` multiplies channels and units."""
    rng = np.random.default_rng(seed)
    made = [
        conv_case(rng, name, change, size, data_format)
        for name, change in CONV.items()
        for data_format in ("channels_last", "channels_first")
        if data_format == "channels_last"
        or name in ("valid", "asymmetric", "groups-dilation-strides")
    ]
    made += [
        pool_case(rng, name, change, size, kind)
        for name, change in POOL.items()
        for kind in ("max", "avg", "avg_include_pad")
    ]
    made += [
        recurrent_case(rng, f"{cell}-{name}", arguments, change, size)
        for cell, arguments in CELLS.items()
        for name, change in RNN.items()
    ]
    return made


def main() -> None:
    path = Path(__file__).with_name("torch_oracle.npz")
    made = cases(seed=21)
    save(path, made, {"torch": torch.__version__})
    print(f"{path.name}: {len(made)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
