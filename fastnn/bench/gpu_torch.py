"""The work of a GPU row in PyTorch, that is cuDNN: on the same memory, with the same results."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.bench.gpu_jobs import GATES, Job, dtype_of
from fastnn.bench.gpu_rows import ConvRow, MemoryRow, OptionRow, RecurrentRow, Row


def available() -> bool:
    """Whether PyTorch is here and sees the GPU."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def versions() -> dict[str, Any]:
    """PyTorch, cuDNN and what they were told about TF32."""
    import torch

    return {
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "torch_cuda": torch.version.cuda,
    }


def set_tf32(on: bool) -> None:
    """Let products of float32 round to TF32, or not."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cudnn.benchmark = True


def tensor(a: Any) -> Any:
    """A CuPy array as a tensor over the same memory."""
    import torch

    if a.dtype.name == "bfloat16":  # which not every DLPack of CuPy's knows
        return torch.from_dlpack(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_dlpack(a)


def array(t: Any) -> Any:
    """A tensor as a CuPy array over the same memory."""
    import cupy
    import torch

    t = t.detach()
    if t.dtype == torch.bfloat16:
        return cupy.from_dlpack(t.view(torch.int16)).view(dtype_of("bfloat16"))
    return cupy.from_dlpack(t)


def release() -> None:
    """Give the memory that PyTorch keeps back to the device."""
    import torch

    torch.cuda.empty_cache()


def jobs(row: Row, copies: list[dict[str, Any]]) -> dict[str, Job]:
    """One job a memory format that PyTorch has a kernel for; none for an option of ours.

    Parameters
    ----------
    row : Row
    copies : list of dict
        CuPy arrays, in the row's dtype; the tensors share their memory.
    """
    import torch

    if isinstance(row, OptionRow):
        return {}
    device = [{key: tensor(a) for key, a in one.items()} for one in copies]
    if isinstance(row, RecurrentRow):
        return {"torch": _recurrent(row, device)}
    if isinstance(row, ConvRow):
        return {
            "torch": _conv(row, device, torch.contiguous_format),
            "torch_nhwc": _conv(row, device, torch.channels_last),
        }
    return {"torch": _memory(row, device)}


def _gates(cell: str, a: Any, H: int) -> Any:
    """Keras's columns as PyTorch's rows: GRU has r z n there, z r h here."""
    order = (1, 0, 2) if cell == "gru" else range(GATES[cell])
    parts = [a[..., n * H : (n + 1) * H] for n in order]
    import torch

    return torch.cat(parts, dim=-1)


def _recurrent(row: RecurrentRow, copies: list[dict[str, Any]]) -> Job:
    import torch

    H = row.H
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "simple_rnn": torch.nn.RNN}
    layers = []
    for a in copies:
        layer = kinds[row.cell](H, H, device=a["x"].device, dtype=a["x"].dtype)
        with torch.no_grad():
            layer.weight_ih_l0.copy_(_gates(row.cell, a["kernel"], H).T)
            layer.weight_hh_l0.copy_(_gates(row.cell, a["recurrent_kernel"], H).T)
            layer.bias_ih_l0.copy_(_gates(row.cell, a["bias"], H))
            second = a.get("recurrent_bias")
            if second is None:
                layer.bias_hh_l0.zero_()
            else:
                layer.bias_hh_l0.copy_(_gates(row.cell, second, H))
        layer.flatten_parameters()
        a["x"].requires_grad_()
        layers.append(layer)

    def run(k: int) -> tuple[Any, ...]:
        a, layer = copies[k], layers[k]
        a["x"].grad = None
        layer.zero_grad(set_to_none=True)
        y, _ = layer(a["x"])
        y.backward(a["dy"])
        return y, a["x"].grad

    return run


def _conv(row: ConvRow, copies: list[dict[str, Any]], memory_format: Any) -> Job:
    import torch

    s = row.shape

    def images(a: Any) -> Any:
        return a.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

    prepared = []
    for a in copies:
        kernel = a["kernel"].permute(3, 2, 0, 1).contiguous(memory_format=memory_format)
        leaves = [images(a["x"]), kernel, a["bias"].clone()]
        prepared.append(([leaf.detach().requires_grad_() for leaf in leaves], images(a["dy"])))

    def run(k: int) -> tuple[Any, ...]:
        (x, kernel, bias), dy = prepared[k]
        y = torch.nn.functional.conv2d(x, kernel, bias, s.stride, s.pad, s.dilation, s.groups)
        dx, dkernel, dbias = torch.autograd.grad(y, (x, kernel, bias), dy)
        last = y.permute(0, 2, 3, 1), dx.permute(0, 2, 3, 1)
        return *last, dkernel.permute(2, 3, 1, 0), dbias

    return run


def _memory(row: MemoryRow, copies: list[dict[str, Any]]) -> Job:
    import torch

    f = torch.nn.functional
    if row.operation == "im2col":
        # [B, C*fh*fw, oh*ow], turned without a copy
        return lambda k: (f.unfold(copies[k]["x"], row.pool).swapaxes(1, 2),)
    images = [a["x"].permute(0, 3, 1, 2) for a in copies]  # channels last, as it lies

    def run(k: int) -> tuple[Any, ...]:
        x = images[k]
        if row.operation == "max":
            y, _ = f.max_pool2d(x, row.pool, 2, return_indices=True)
        elif row.operation == "average":
            y = f.avg_pool2d(x, row.pool, 2)
        elif row.operation == "dropout":
            return (f.dropout(x, 0.5),)
        else:
            y = getattr(f, row.operation)(x)
        return (y.permute(0, 2, 3, 1),)

    return run
