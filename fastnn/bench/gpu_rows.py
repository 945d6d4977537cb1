"""What ``python -m fastnn bench gpu`` measures: every row's shape, as data."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from fastnn.bench import rows as cpu_rows

# "tf32" is float32 in memory, with products that round to TF32: asked for, and named.
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


class RecurrentRow(NamedTuple):
    """One layer, trained: forward, and backward with a gradient at every step. I = H."""

    cell: str
    H: int
    B: int
    T: int
    precision: str

    @property
    def name(self) -> str:
        return f"{self.cell}-H{self.H}-B{self.B}-T{self.T}-{self.precision}"


class ConvRow(NamedTuple):
    """A row of the CPU benchmark, channels last, with a bias; trained."""

    shape: cpu_rows.ConvRow
    precision: str

    @property
    def name(self) -> str:
        return f"conv-{self.shape.name}-{self.precision}"


class MemoryRow(NamedTuple):
    """What memory bounds: pooling over windows, or one operation an element."""

    operation: str  # max, average, relu, gelu, dropout
    shape: tuple[int, int, int, int]  # B h w C
    pool: int  # window and stride; 0 for elementwise operations
    precision: str

    @property
    def name(self) -> str:
        window = f"{self.pool}x{self.pool}-" if self.pool else ""
        return f"{self.operation}-{window}{self.precision}"


Row = RecurrentRow | ConvRow | MemoryRow

_LARGE = (1024, 64, 64, 64)  # 1 GiB in float32: far beyond any L2


def rows() -> list[Row]:
    """All of them; the hard row of the anchors first, then the longer sequences last."""
    hard = RecurrentRow("lstm", 768, 16, 1024, "float16")
    recurrent = [
        RecurrentRow(cell, H, B, T, precision)
        for T, precision, cell, H, B in product(
            (256, 1024),
            PRECISIONS,
            ("lstm", "gru", "simple_rnn"),
            (64, 128, 256, 512, 768, 1024, 2048),
            (1, 16, 64, 256),
        )
    ]
    memory = [
        MemoryRow(operation, _LARGE, pool, precision)
        for precision in ("float32", "float16")
        for operation, pool in (
            ("max", 2),
            ("max", 3),
            ("average", 2),
            ("relu", 0),
            ("gelu", 0),
            ("dropout", 0),
        )
    ]
    images = [row for row in cpu_rows.CONV if len(row.size) == 2]
    conv = [ConvRow(row, precision) for row in images for precision in PRECISIONS]
    return [hard, *memory, *conv, *(row for row in recurrent if row != hard)]


def smallest() -> list[Row]:
    """One small row of each kind, to try the command itself."""
    image = cpu_rows.ConvRow("small", 2, 3, (6, 6), 4, 3, pad=1)
    return [
        RecurrentRow("lstm", 6, 2, 3, "float32"),
        RecurrentRow("gru", 5, 2, 3, "float16"),
        ConvRow(image, "float32"),
        MemoryRow("max", (2, 6, 6, 4), 2, "float32"),
        MemoryRow("gelu", (2, 6, 6, 4), 0, "float32"),
    ]


def chosen(patterns: tuple[str, ...], found: list[Row]) -> list[Row]:
    """The rows whose names contain one of the patterns; all, without patterns.

    Raises
    ------
    ValueError
        If there is none.
    """
    kept = [row for row in found if not patterns or any(p in row.name for p in patterns)]
    if not kept:
        raise ValueError(f"no GPU row is named like {', '.join(patterns)}")
    return kept
