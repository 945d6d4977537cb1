"""fastnn as a participant, written as a user would write it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any
from weakref import finalize

import numpy as np

from fastnn import dispatch, layers, ops, threads
from fastnn.bench import ours_networks
from fastnn.bench.inputs import Arrays, prefixes
from fastnn.bench.jobs import Job, Jobs, Step, Unsupported, Work
from fastnn.bench.layouts import keras_gradients, keras_weights, to_first, to_last
from fastnn.bench.rows import (
    INFERENCE,
    TRAINING,
    ConvRow,
    DenseRow,
    EpochRow,
    PoolRow,
    RnnRow,
    Row,
    is_one_layer,
)
from fastnn.types import RnnOutput, RnnWeights

FORMATS = {"nhwc": "channels_last", "nchw": "channels_first"}


def running() -> dict[str, str]:
    """The backend, and its instruction set where it has one."""
    name = dispatch.get_backend()
    if name == "auto":
        name = next(key for key, reason in dispatch.status().items() if reason is None)
    facts = dispatch.load("bench", name).describe()
    return {"backend": name} | {key: facts[key] for key in ("isa",) if key in facts}


def prepare(count: int) -> str:
    """Limit the threads; version and what runs."""
    import fastnn

    found = running()
    if found["backend"] == "cython":
        threads.set_num_threads(count)
    isa = f", ISA {found['isa']}" if "isa" in found else ""
    return f"{fastnn.__version__}, backend {found['backend']}{isa}"


def jobs(row: Row, arrays: Arrays) -> Jobs:
    """Every row; both data formats where there are two.

    Inference has constant weights, as ONNX Runtime's graph; in training they change at each step.
    """
    promise = _Promise()
    found = {name: dict(job) for name, job in _jobs(row, arrays).items()}
    for job in found.values():
        if INFERENCE in job:
            call, results, check = job[INFERENCE]
            checked = check and partial(promise.run, check)
            job[INFERENCE] = Work(partial(promise.run, call), results, checked)
    return found


class _Promise:
    """Runs calls in a context of their own, in which weights are constant as long as this lives."""

    def __init__(self) -> None:
        self._context = copy_context()
        block = dispatch.constant_weights()
        self._context.run(block.__enter__)
        finalize(self, self._context.run, block.__exit__, None, None, None)

    def run(self, call: Callable[[], Any]) -> Any:
        return self._context.run(call)


def _jobs(row: Row, arrays: Arrays) -> Jobs:
    if isinstance(row, RnnRow):
        whole = len(row.layers) > 1 or row.layers[0].bidirectional
        return {"layers": _layers(row, arrays)} if whole else {"op": _op(row, arrays)}
    if isinstance(row, ConvRow) and len(row.size) == 1:
        options = {"strides": row.stride, "padding": row.pad, "dilation": row.dilation}
        options["groups"] = row.groups
        return {"nlc": _conv(arrays, ops.conv1d_forward, ops.conv1d_backward, options, "")}
    if isinstance(row, ConvRow):
        return {short: _conv2d(row, arrays, long) for short, long in FORMATS.items()}
    if isinstance(row, PoolRow):
        return {short: _pool(row, arrays, long) for short, long in FORMATS.items()}
    if isinstance(row, DenseRow):
        return {"model": ours_networks.dense(row, arrays)}
    if isinstance(row, EpochRow):
        return {"fit": ours_networks.epoch(row, arrays)}
    raise Unsupported(f"rows like {type(row).__name__}")


# --------------------------------------------------------------------------- recurrent


def _op(row: RnnRow, arrays: Arrays) -> Job:
    """One layer in one direction: the functional kernel."""
    x, d_output, layer = arrays["x"], RnnOutput(arrays["dy"]), row.layers[0]
    names = [name for name in RnnWeights._fields if f"0.{name}" in arrays]
    weights = RnnWeights(*(arrays[f"0.{name}"] for name in names))
    options: dict[str, Any] = {"cell": layer.cell, "activation": layer.activation}
    if row.ragged:
        options["lengths"] = arrays["lengths"]
    seeds = iter(range(2**62))

    def infer() -> Any:
        return ops.rnn_forward(x, weights, keep=None, **options)[0].y

    def train(noise: bool = True) -> Any:
        dropout: dict[str, Any] = {}
        if noise and row.recurrent_dropout:
            dropout = {"recurrent_dropout": row.recurrent_dropout, "seed": next(seeds)}
        output, saved = ops.rnn_forward(x, weights, **dropout, **options)
        assert saved is not None  # keep is "gates"
        return output.y, ops.rnn_backward(d_output, saved)

    def trained(result: Any) -> Arrays:
        y, grads = result
        return {
            "y": y,
            "dx": grads.dx,
            **{f"d0.{name}": getattr(grads.weights, name) for name in names},
        }

    return {
        INFERENCE: Work(infer, lambda y: {"y": y}),
        TRAINING: Work(train, trained, lambda: train(noise=False)),
    }


def steps(row: Row, arrays: Arrays) -> dict[str, Step]:
    """One layer in one direction, with each of the two things to keep."""
    if not is_one_layer(row):
        raise Unsupported("one recurrent layer in one direction is what is measured")
    x, d_output, layer = arrays["x"], RnnOutput(arrays["dy"]), row.layers[0]
    weights = RnnWeights(*(arrays.get(f"0.{name}") for name in RnnWeights._fields))

    def step(keep: str) -> Step:
        def forward() -> Any:
            output, saved = ops.rnn_forward(
                x, weights, cell=layer.cell, activation=layer.activation, keep=keep
            )
            return output.y, saved

        def held(state: Any) -> int:
            """Whole allocations: rows are padded, so an array is a view of what is held."""
            _, saved = state
            arrays = [a for a in (saved.c, saved.gates) if a is not None]
            whole = [a if a.base is None else a.base for a in arrays]
            return sum(a.nbytes for a in {id(a): a for a in whole}.values())

        return Step(
            forward, held, lambda state: (state, ops.rnn_backward(d_output, saved=state[1]))
        )

    return {f'keep="{keep}"': step(keep) for keep in ("gates", "states")}


_LAYERS = {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


def _layers(row: RnnRow, arrays: Arrays) -> Job:
    """Several layers or two directions: the layer API."""
    x, dy = arrays["x"].swapaxes(0, 1), arrays["dy"].swapaxes(0, 1)
    stack = []
    shape: Any = x.shape
    for layer, names in zip(row.layers, prefixes(row), strict=True):
        options = {} if layer.cell != "simple_rnn" else {"activation": layer.activation}
        one: Any = _LAYERS[layer.cell](
            layer.units, return_sequences=True, dtype=row.dtype, **options
        )
        if layer.bidirectional:
            one = layers.Bidirectional(one)
        one.build(shape)
        shape = one.compute_output_shape(shape)
        one.set_weights([weight for name in names for weight in keras_weights(arrays, name)])
        stack.append(one)

    def forward(training: bool) -> Any:
        y = x
        for one in stack:
            y = one(y, training)
        return y

    def train() -> Any:
        y, dx = forward(True), dy
        for one in reversed(stack):
            dx = one.backward(dx)
        return y, dx

    def trained(result: Any) -> Arrays:
        y, dx = result
        found = {"y": y.swapaxes(0, 1), "dx": dx.swapaxes(0, 1)}
        for one, names in zip(stack, prefixes(row), strict=True):
            grads = one.gradients
            for k, name in enumerate(names):
                found |= keras_gradients(grads[3 * k : 3 * k + 3], name)
        return found

    return {
        INFERENCE: Work(lambda: forward(False), lambda y: {"y": y.swapaxes(0, 1)}),
        TRAINING: Work(train, trained),
    }


# --------------------------------------------------------------------------- windows


def _formats(arrays: Arrays, data_format: str) -> tuple[np.ndarray, np.ndarray, Callable[..., Any]]:
    """x and dy in a data format, and the way back."""
    if data_format == "channels_first":
        return to_first(arrays["x"]), to_first(arrays["dy"]), to_last
    return arrays["x"], arrays["dy"], lambda array: array


def _conv2d(row: ConvRow, arrays: Arrays, data_format: str) -> Job:
    options: dict[str, Any] = {
        "strides": row.stride,
        "padding": row.pad,
        "dilation": row.dilation,
    }
    options |= {"groups": row.groups, "data_format": data_format}
    return _conv(arrays, ops.conv2d_forward, ops.conv2d_backward, options, data_format)


def _conv(
    arrays: Arrays, forward: Any, backward: Any, options: dict[str, Any], data_format: str
) -> Job:
    x, dy, back = _formats(arrays, data_format)
    kernel, bias = arrays["kernel"], arrays["bias"]

    def train() -> Any:
        y, saved = forward(x, kernel, bias, **options)
        return y, backward(dy, saved)

    def trained(result: Any) -> Arrays:
        y, grads = result
        return {
            "y": back(y),
            "dx": back(grads.dx),
            "dkernel": grads.dkernel,
            "dbias": grads.dbias,
        }

    return {
        INFERENCE: Work(lambda: forward(x, kernel, bias, **options)[0], lambda y: {"y": back(y)}),
        TRAINING: Work(train, trained),
    }


def _pool(row: PoolRow, arrays: Arrays, data_format: str) -> Job:
    x, dy, back = _formats(arrays, data_format)
    options: dict[str, Any] = {"pool_size": row.pool, "strides": row.stride}
    options["data_format"] = data_format
    forward: Any = getattr(ops, f"{_POOL_OPS[row.kind]}_forward")
    backward: Any = getattr(ops, f"{_POOL_OPS[row.kind]}_backward")
    seeds = iter(range(2**62))
    unsaved = {} if row.kind == "average" else {"keep": False}

    def train(noise: bool = True) -> Any:
        random: dict[str, Any] = {}
        if noise and row.kind == "stochastic":
            random = {"training": True, "seed": next(seeds)}
        y, saved = forward(x, **random, **options)
        return y, backward(dy, saved)

    return {
        INFERENCE: Work(lambda: forward(x, **unsaved, **options)[0], lambda y: {"y": back(y)}),
        TRAINING: Work(
            train,
            lambda result: {"y": back(result[0]), "dx": back(result[1])},
            lambda: train(False),
        ),
    }


_POOL_OPS = {"max": "max_pool2d", "average": "avg_pool2d", "stochastic": "stochastic_pool2d"}
