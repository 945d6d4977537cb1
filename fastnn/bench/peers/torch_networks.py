"""PyTorch's whole networks: a training step, and an epoch of the usual loop."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from fastnn.bench.inputs import IMAGE, Arrays
from fastnn.bench.jobs import Job, Work
from fastnn.bench.layouts import conv_to_first
from fastnn.bench.networks import ADAM_EPSILON, CHECK_BATCHES, RATE_ADAM, RATE_SGD, stepped
from fastnn.bench.rows import INFERENCE, TRAINING, DenseRow, EpochRow


def _filled(module: Any, *arrays: np.ndarray) -> Any:
    """The module with these parameters, in their own order."""
    import torch

    with torch.no_grad():
        for parameter, array in zip(module.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return module


def _linear(arrays: Arrays, i: int) -> Any:
    from torch import nn

    kernel = arrays[f"{i}.kernel"]
    return _filled(nn.Linear(*kernel.shape), kernel.T, arrays[f"{i}.bias"])


def dense(row: DenseRow, arrays: Arrays) -> Job:
    """`nn.Sequential` with SGD."""
    import torch
    from torch import nn

    count = len(row.widths) - 1
    body: list[Any] = []
    for i in range(count):
        body += [_linear(arrays, i), nn.ReLU()]
    model = nn.Sequential(*body[:-1])
    initial = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE_SGD)
    x, labels = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["labels"])

    def step() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    def infer() -> Any:
        with torch.inference_mode():
            return model(x).softmax(-1)

    def fresh(run: Any) -> Any:
        model.load_state_dict(initial)
        return run()

    def results(loss: Any) -> Arrays:
        weights = [p.detach().numpy().T for p in model.parameters()]
        return stepped(loss.item(), weights, arrays)

    return {
        INFERENCE: Work(infer, lambda y: {"y": y.numpy()}, lambda: fresh(infer)),
        TRAINING: Work(step, results, lambda: fresh(step)),
    }


def epoch(row: EpochRow, arrays: Arrays) -> Job:
    """Shuffle, slice, step; on tensors that are already in memory."""
    import torch
    from torch import nn

    x, labels = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["labels"])
    if row.network == "cnn":
        x = x[:, None]

    def build() -> tuple[Any, Any]:
        model = _recurrent(row, arrays) if row.network == "rnn" else _convolutional(row, arrays)
        return model, torch.optim.Adam(model.parameters(), lr=RATE_ADAM, eps=ADAM_EPSILON)

    def fit(model: Any, optimizer: Any, order: Any) -> None:
        for start in range(0, len(order), row.batch):
            rows = order[start : start + row.batch]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), labels[rows])
            loss.backward()
            optimizer.step()

    def check() -> Any:
        model, optimizer = build()
        fit(model, optimizer, torch.arange(CHECK_BATCHES * row.batch))
        with torch.inference_mode():
            return model(x[: row.batch]).softmax(-1)

    model, optimizer = build()
    return {
        TRAINING: Work(
            lambda: fit(model, optimizer, torch.randperm(len(x))),
            lambda p: {"p": p.numpy()},
            check,
        )
    }


def _recurrent(row: EpochRow, arrays: Arrays) -> Any:
    from torch import nn

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = _filled(
                nn.RNN(IMAGE, row.units, batch_first=True),
                arrays["0.kernel"].T,
                arrays["0.recurrent_kernel"].T,
                arrays["0.bias"],
                np.zeros_like(arrays["0.bias"]),
            )
            # One bias learns, as in the other libraries: two would move twice as fast.
            self.rnn.bias_hh_l0.requires_grad_(False)
            self.head = _linear(arrays, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0][:, -1])

    return Network()


def _convolutional(row: EpochRow, arrays: Arrays) -> Any:
    from torch import nn

    side = (IMAGE - 4) // 2
    kernel = arrays["0.kernel"].reshape(side, side, row.units, -1).transpose(2, 0, 1, 3)
    first = {**arrays, "0.kernel": kernel.reshape(side * side * row.units, -1)}
    conv = nn.Conv2d(1, row.units, 5)
    return nn.Sequential(
        _filled(conv, conv_to_first(arrays["conv.kernel"]), arrays["conv.bias"]),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        _linear(first, 0),
        nn.ReLU(),
        _linear(arrays, 1),
    )
