"""What ``python -m fastnn bench gpu`` measures: every row as data, the most telling ones first."""

from __future__ import annotations

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


class OptionRow(NamedTuple):
    """A recurrent row with an option, beside the same row without it."""

    plain: RecurrentRow
    option: str  # lengths, recurrent_dropout, resets

    @property
    def precision(self) -> str:
        return self.plain.precision

    @property
    def name(self) -> str:
        return f"{self.option}-{self.plain.name}"


class ConvRow(NamedTuple):
    """A row of the CPU benchmark, channels last, with a bias; trained."""

    shape: cpu_rows.ConvRow
    precision: str

    @property
    def name(self) -> str:
        return f"conv-{self.shape.name}-{self.precision}"


class MemoryRow(NamedTuple):
    """What memory bounds: pooling over windows, im2col, or one operation an element."""

    operation: str  # max, average, im2col, relu, gelu, dropout
    shape: tuple[int, int, int, int]  # B h w C; for im2col B C h w
    pool: int  # the window, of stride 2 (im2col: 1); 0 for elementwise operations
    precision: str

    @property
    def name(self) -> str:
        window = f"{self.pool}x{self.pool}-" if self.pool else ""
        return f"{self.operation}-{window}{self.precision}"


Row = RecurrentRow | OptionRow | ConvRow | MemoryRow

CELLS = ("lstm", "gru", "simple_rnn")
UNITS = (512, 128, 1024, 256, 2048, 64, 768)  # a spread of sizes first
BATCHES = (16, 64, 256, 1)
OPTIONS = ("lengths", "recurrent_dropout", "resets")
_HARD = RecurrentRow("lstm", 768, 16, 1024, "float16")  # of the anchors
_LARGE = (1024, 64, 64, 64)  # 1 GiB in float32: far beyond any L2
_COLUMNS = (64, 16, 128, 128)  # whose patches of 3 x 3 are nine times as much


def rows() -> list[Row]:
    """All of them, so that a run that ends early has the widest view.

    The hard row; 256 steps at B 16, every cell, precision and size; what memory bounds; options;
    convolutions; the other batches of 256 steps; then 1,024 steps.
    """
    short, long = (
        [
            RecurrentRow(cell, H, B, T, precision)
            for B in BATCHES
            for H in UNITS
            for precision in PRECISIONS
            for cell in CELLS
        ]
        for T in (256, 1024)
    )
    first = short[: len(short) // len(BATCHES)]  # of the first batch size
    memory = [
        MemoryRow(operation, shape, pool, precision)
        for precision in ("float32", "float16")
        for operation, shape, pool in (
            ("max", _LARGE, 2),
            ("max", _LARGE, 3),
            ("average", _LARGE, 2),
            ("im2col", _COLUMNS, 3),
            ("relu", _LARGE, 0),
            ("gelu", _LARGE, 0),
            ("dropout", _LARGE, 0),
        )
    ]
    options = [
        OptionRow(RecurrentRow(cell, H, B, 256, precision), option)
        for H, B in ((256, 64), (512, 16), (1024, 64))
        for precision in ("float32", "bfloat16")
        for cell in ("lstm", "gru")
        for option in OPTIONS
    ]
    images = [row for row in cpu_rows.CONV if len(row.size) == 2]
    conv = [ConvRow(row, precision) for precision in PRECISIONS for row in images]
    rest = short[len(first) :]
    return [_HARD, *first, *memory, *options, *conv, *rest, *(r for r in long if r != _HARD)]


def smallest() -> list[Row]:
    """One small row of each kind, to try the command itself."""
    image = cpu_rows.ConvRow("small", 2, 3, (6, 6), 4, 3, pad=1)
    return [
        RecurrentRow("lstm", 6, 2, 3, "float32"),
        RecurrentRow("gru", 5, 2, 3, "float16"),
        ConvRow(image, "float32"),
        MemoryRow("max", (2, 6, 6, 4), 2, "float32"),
        MemoryRow("gelu", (2, 6, 6, 4), 0, "float32"),
        MemoryRow("im2col", (2, 3, 6, 6), 3, "float16"),
        *(OptionRow(RecurrentRow("lstm", 6, 3, 5, "float32"), option) for option in OPTIONS),
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
