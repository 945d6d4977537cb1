"""The recurrent cells: what each needs, by name.

The equations of a cell stand in ``<cell>.py`` (over NumPy arrays, or scalars under Numba) and in
``<cell>.h`` (over float, double or a SIMD vector). The table below is what drivers, checks, layers
and tests read, so a new cell is these two files and a line here.
"""

from typing import NamedTuple


class Cell(NamedTuple):
    """What a cell is made of."""

    gates: int  # G: blocks of H columns in kernel, recurrent_kernel and the biases
    planes: int  # S: activated gates that the forward pass saves (GRU reset_after: one more)
    states: tuple[str, ...]
    activations: tuple[str, ...]


CELLS: dict[str, Cell] = {
    "simple_rnn": Cell(1, 0, ("h",), ("tanh", "relu")),
    "lstm": Cell(4, 4, ("h", "c"), ("tanh",)),
    "gru": Cell(3, 3, ("h",), ("tanh",)),
}


def saved_planes(cell: str, reset_after: bool) -> int:
    """S, the planes of ``RnnSaved.gates_by_row`` ``[T, B, S, H]``; 0: no gates are saved."""
    return CELLS[cell].planes + (cell == "gru" and reset_after)
