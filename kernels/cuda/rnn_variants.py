"""Which compiled variant of the recurrent kernels a call takes: arithmetic, no GPU needed.

Whoever launches a kernel and whoever compiles it ahead of time ask here, so they cannot differ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnn.kernels.cells import CELLS
from fastnn.kernels.cuda.loader import dtype_code
from fastnn.kernels.cuda.rnn_shapes import Plan, Work, defines_of

_TENSOR_CORES = 80  # the compute capability from which on rnn_tensor.cuh compiles


class Variant(NamedTuple):
    """A .cu file with its macros: what `loader.load` takes."""

    name: str
    defines: tuple[tuple[str, int], ...]
    cooperative: bool = False


def cell_code(cell: str, reset_after: bool) -> int:
    """``FNN_CELL`` of rnn_base.cuh."""
    if cell == "gru":
        return 2 if reset_after else 3
    return {"simple_rnn": 0, "lstm": 1}[cell]


def work(
    cell: str,
    reset_after: bool,
    H: int,
    B: int,
    dtype: Any,
    backward: bool,
    capability: int,
    tf32: bool = False,
) -> Work:
    """A call as `rnn_choice.choose` sees it; ``tf32``: products of float32 may round to it."""
    narrow = dtype.itemsize == 2 or (tf32 and dtype.name == "float32")
    tensor = narrow and capability >= _TENSOR_CORES
    code = cell_code(cell, reset_after)
    return Work(code, CELLS[cell].gates, H, B, dtype.itemsize, backward, tensor)


def defines(code: int, dtype: Any, relu: bool) -> dict[str, int]:
    """The macros of every recurrent file."""
    return {"FNN_DTYPE": dtype_code(dtype), "FNN_CELL": code, "FNN_RELU": int(relu)}


def of_steps(code: int, dtype: Any, relu: bool) -> Variant:
    """rnn_steps.cu: k3, and what goes before and after every recurrence."""
    return Variant("rnn_steps", tuple(defines(code, dtype, relu).items()))


def of_plan(work: Work, plan: Plan, dtype: Any, relu: bool) -> Variant:
    """The kernel of k0 to k2."""
    macros = defines(work.cell, dtype, relu) | defines_of(work, plan)
    name = "rnn_backward" if work.backward else "rnn_forward"
    return Variant(name, tuple(macros.items()), plan.kernel == "k2")
