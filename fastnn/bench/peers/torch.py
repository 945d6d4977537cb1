"""PyTorch: `torch.nn` modules and autograd."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.bench.inputs import Arrays, prefixes
from fastnn.bench.jobs import Job, Jobs, Step, Unsupported, Work
from fastnn.bench.layouts import (
    TORCH_GATES,
    conv_to_first,
    conv_to_last,
    reorder,
    restore,
    to_first,
    to_last,
)
from fastnn.bench.peers import torch_networks
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
    layer_inputs,
)

torch: Any = None


def prepare(threads: int) -> str:
    """Import PyTorch with so many threads inside an operation, and one between operations."""
    global torch
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    return str(torch.__version__)


def jobs(row: Row, arrays: Arrays) -> Jobs:
    """Both memory layouts, where there are two."""
    if isinstance(row, RnnRow):
        if row.recurrent_dropout:
            raise Unsupported("no recurrent dropout")
        if row.ragged:
            return {"packed": _recurrent(row, arrays, batch_first=False)}
        return {
            "time_major": _recurrent(row, arrays, batch_first=False),
            "batch_first": _recurrent(row, arrays, batch_first=True),
        }
    if isinstance(row, ConvRow):
        formats = ("nchw", "channels_last") if len(row.size) == 2 else ("ncl",)
        return {name: _conv(row, arrays, name) for name in formats}
    if isinstance(row, PoolRow):
        return {name: _pool(row, arrays, name) for name in ("nchw", "channels_last")}
    if isinstance(row, DenseRow):
        return {"module": torch_networks.dense(row, arrays)}
    if isinstance(row, EpochRow):
        return {"loop": torch_networks.epoch(row, arrays)}
    raise Unsupported(f"rows like {type(row).__name__}")


def _job(
    forward: Any, x: Any, dy: Any, parameters: dict[str, Any], of_y: Any, of_gradients: Any
) -> Job:
    """Inference without a tape, training with one."""
    x.requires_grad_()
    leaves = [x, *parameters.values()]

    def infer() -> Any:
        with torch.inference_mode():
            return forward(x)

    def train() -> Any:
        for leaf in leaves:
            leaf.grad = None
        y = forward(x)
        y.backward(dy)
        return y

    def trained(y: Any) -> Arrays:
        grads = {name: p.grad.numpy() for name, p in parameters.items()}
        return {"y": of_y(y.detach().numpy()), **of_gradients(x.grad.numpy(), grads)}

    return {
        INFERENCE: Work(infer, lambda y: {"y": of_y(y.numpy())}),
        TRAINING: Work(train, trained),
    }


# --------------------------------------------------------------------------- recurrent


def _recurrent(row: RnnRow, arrays: Arrays, batch_first: bool) -> Job:
    modules, parameters = _modules(row, arrays, batch_first)

    def order(array: Any) -> Any:
        return array.swapaxes(0, 1) if batch_first else array

    x, dy = (_tensor(order(arrays[name])) for name in ("x", "dy"))

    def plain(y: Any) -> Any:
        for module in modules:
            y = module(y)[0]
        return y

    def packed(y: Any) -> Any:
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        y = pack_padded_sequence(y, lengths, enforce_sorted=False)
        for module in modules:
            y = module(y)[0]
        return pad_packed_sequence(y, total_length=row.T)[0]

    lengths = torch.from_numpy(arrays["lengths"]) if row.ragged else None

    def gradients(dx: np.ndarray, grads: Arrays) -> Arrays:
        found = {"dx": order(dx)}
        for name, grad in grads.items():
            gates = TORCH_GATES[row.layers[int(name.partition(".")[0].strip("r"))].cell]
            grad = restore(grad, gates, axis=0)
            found[f"d{name}"] = grad.T if grad.ndim == 2 else grad
        return found

    forward = packed if row.ragged else plain
    return _job(forward, x, dy, parameters, order, gradients)


def steps(row: Row, arrays: Arrays) -> dict[str, Step]:
    """A module and its tape."""
    if not is_one_layer(row):
        raise Unsupported("one plain recurrent layer in one direction is what is measured")
    (module,) = _modules(row, arrays, batch_first=False)[0]
    x, dy = _tensor(arrays["x"]).requires_grad_(), _tensor(arrays["dy"])
    leaves = [x, *module.parameters()]

    def forward() -> Any:
        """y, and the storages that the tape holds, by address."""
        storages: dict[int, int] = {}

        def pack(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        for leaf in leaves:
            leaf.grad = None
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = module(x)
        return output, storages

    def held(state: Any) -> int:
        (y, final), storages = state
        outside = [*leaves, y, *(final if isinstance(final, tuple) else (final,))]
        known = {tensor.untyped_storage().data_ptr() for tensor in outside}
        return sum(size for at, size in storages.items() if at not in known)

    def backward(state: Any) -> Any:
        (y, _), _ = state
        y.backward(dy)
        return state, [leaf.grad for leaf in leaves]

    return {"module": Step(forward, held, backward)}


_MODULES = {"simple_rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
_WEIGHTS = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
_THEIRS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _modules(row: RnnRow, arrays: Arrays, batch_first: bool) -> tuple[list[Any], dict[str, Any]]:
    """Modules with the row's weights (one for all layers where they are alike), and parameters."""
    alike = len(set(row.layers)) == 1
    sizes = layer_inputs(row)
    modules: list[Any] = []
    parameters: dict[str, Any] = {}
    for i in range(1 if alike else len(row.layers)):
        layer = row.layers[i]
        options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": layer.bidirectional}
        if layer.cell == "simple_rnn":
            options["nonlinearity"] = layer.activation
        module = getattr(torch.nn, _MODULES[layer.cell])(
            sizes[i], layer.units, len(row.layers) if alike else 1, **options
        ).to(getattr(torch, row.dtype))
        inside = range(len(row.layers)) if alike else [i]
        for depth, number in enumerate(inside):
            for prefix in prefixes(row)[number]:
                end = f"_l{depth}{'_reverse' if 'r' in prefix else ''}"
                parameters |= _fill(module, end, layer.cell, arrays, prefix)
        modules.append(module)
    return modules, parameters


def _fill(module: Any, end: str, cell: str, arrays: Arrays, prefix: str) -> dict[str, Any]:
    """One direction's weights into a module; its parameters by our names."""
    parameters = {}
    for ours, theirs in zip(_WEIGHTS, _THEIRS, strict=True):
        parameter = getattr(module, theirs + end)
        array = arrays.get(prefix + ours)
        with torch.no_grad():
            if array is None:  # their second bias
                parameter.zero_()
                continue
            array = reorder(array, TORCH_GATES[cell])
            parameter.copy_(torch.from_numpy(array.T.copy()))
        parameters[prefix + ours] = parameter
    return parameters


# --------------------------------------------------------------------------- windows


def _tensor(array: np.ndarray) -> Any:
    return torch.from_numpy(np.array(array, order="C"))


def _formatted(array: np.ndarray, name: str) -> Any:
    tensor = _tensor(to_first(array))
    if name == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _conv(row: ConvRow, arrays: Arrays, name: str) -> Job:
    kind = torch.nn.Conv2d if len(row.size) == 2 else torch.nn.Conv1d
    module = kind(row.C, row.filters, row.kernel, row.stride, row.pad, row.dilation, row.groups).to(
        getattr(torch, row.dtype)
    )
    with torch.no_grad():
        module.weight.copy_(_tensor(conv_to_first(arrays["kernel"])))
        module.bias.copy_(_tensor(arrays["bias"]))
    if name == "channels_last":
        module = module.to(memory_format=torch.channels_last)

    def gradients(dx: np.ndarray, grads: Arrays) -> Arrays:
        kernel = conv_to_last(grads["kernel"])
        return {"dx": to_last(dx), "dkernel": kernel, "dbias": grads["bias"]}

    return _job(
        module,
        _formatted(arrays["x"], name),
        _formatted(arrays["dy"], name),
        {"kernel": module.weight, "bias": module.bias},
        to_last,
        gradients,
    )


def _pool(row: PoolRow, arrays: Arrays, name: str) -> Job:
    F = torch.nn.functional
    forward: Any
    if row.kind == "stochastic":
        return _stochastic(row, arrays, name)
    if row.kind == "max":
        forward = lambda x: F.max_pool2d(x, row.pool, row.stride)  # noqa: E731
    else:
        forward = lambda x: F.avg_pool2d(x, row.pool, row.stride)  # noqa: E731
    return _pool_job(forward, arrays, name)


def _pool_job(forward: Any, arrays: Arrays, name: str) -> Job:
    x, dy = (_formatted(arrays[key], name) for key in ("x", "dy"))
    return _job(forward, x, dy, {}, to_last, lambda dx, _: {"dx": to_last(dx)})


def _stochastic(row: PoolRow, arrays: Arrays, name: str) -> Job:
    """PyTorch has none: put together from its operations."""
    F = torch.nn.functional

    def expected(x: Any) -> Any:
        total = F.avg_pool2d(x, row.pool, row.stride)
        squares = F.avg_pool2d(x * x, row.pool, row.stride)
        return torch.where(total > 0, squares / torch.where(total > 0, total, 1), 0)

    def sampled(x: Any) -> Any:
        windows = x.unfold(2, row.pool, row.stride).unfold(3, row.pool, row.stride).flatten(4)
        running = windows.detach().cumsum(-1)
        total = running[..., -1:]
        chosen = (running > torch.rand_like(total) * total).to(torch.uint8).argmax(-1, True)
        return windows.gather(-1, chosen)[..., 0]

    job = _pool_job(expected, arrays, name)
    random = _pool_job(sampled, arrays, name)[TRAINING]
    exact = job[TRAINING]
    return {**job, TRAINING: random._replace(check=exact.call, results=exact.results)}
