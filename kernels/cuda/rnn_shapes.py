"""The shapes that a persistent recurrent kernel can take on a card: what lies where, in bytes.

This is the arithmetic of rnn_forward.cu and rnn_backward.cu once more, so that a launch asks for
exactly the shared memory that the kernel lays out: change both together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

GRU_BEFORE = 3
_CLUSTERS = (2, 4, 8, 16)
_UNITS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)  # of a block of a grid
_MOST_PAIRS = 4
_GRADIENT = 6  # numbers of `Gradient` in rnn_step.cuh


class Card(NamedTuple):
    """What the choice needs to know of a GPU."""

    capability: int  # 75, 80, 90, 100, ...
    processors: int  # multiprocessors
    shared: int  # bytes of shared memory that a block may ask for
    cooperative: bool = True
    cluster: int = 1  # the largest cluster

    @property
    def lanes(self) -> int:
        """Float32 multiply-adds a clock and multiprocessor."""
        return 128 if self.capability >= 86 else 64

    @property
    def double_lanes(self) -> int:
        """The same for float64; consumer cards have few."""
        return {80: 32, 90: 64, 100: 64}.get(self.capability, 2)


class Work(NamedTuple):
    """One recurrent call, forward or backward."""

    cell: int  # FNN_CELL
    gates: int
    H: int
    B: int
    itemsize: int
    backward: bool = False
    tensor: bool = (
        False  # by the tensor cores: float16, bfloat16, or float32 where tf32 is asked for
    )

    @property
    def wide(self) -> int:
        return max(4, self.itemsize)

    @property
    def chunk(self) -> int:
        """Numbers of k that a thread or a warp takes at once."""
        return 64 // self.itemsize if self.tensor else 4

    @property
    def Hp(self) -> int:
        """H in whole chunks, and at least 8."""
        unit = max(8, self.chunk)
        return -(-self.H // unit) * unit

    @property
    def K(self) -> int:
        """Length of the vectors that enter the product."""
        return self.gates * self.Hp if self.backward else self.Hp

    @property
    def stride(self) -> int:
        """Between them; `row_stride` of rnn_matrix.cuh."""
        pad = self.tensor and self.K * self.itemsize % 128 == 0
        return self.K + (64 // self.itemsize if pad else 0)

    @property
    def two_products(self) -> bool:
        return self.cell == GRU_BEFORE

    def products(self, units: int) -> tuple[tuple[int, int, int], ...]:
        """K, columns and columns of a unit of each product of a step."""
        if not self.two_products:
            width = 1 if self.backward else self.gates
            return ((self.K, units * width, width),)
        if self.backward:
            return ((2 * self.Hp, units, 1), (self.Hp, units, 1))
        return ((self.Hp, 2 * units, 2), (self.Hp, units, 1))


class Plan(NamedTuple):
    """How a call runs. All but ``kernel``, ``reasons`` and ``step_us`` are empty for k3."""

    kernel: str
    reasons: tuple[str, ...] = ()  # why others do not run, or why one was not obeyed
    blocks: int = 0  # of a team
    teams: int = 0
    rows: int = 0  # of a team
    pass_rows: int = 0  # FNN_ROWS
    units: int = 0  # of a block
    threads: int = 0
    pairs: int = 0  # rows of a thread in a pass
    widths: tuple[int, ...] = ()  # FNN_WIDTH, FNN_WIDTH_N
    registers: int = 0  # chunks of weights in registers, FNN_REGISTERS
    shared_chunks: tuple[int, ...] = ()
    shared_bytes: int = 0
    rest_bytes: tuple[int, ...] = ()  # of a block, weights in neither (tensor cores)
    # What a pass of a block does: multiply-adds or instructions, and bytes.
    arithmetic: int = 0
    shared_weights: int = 0
    rest_weights: int = 0
    vector_reads: int = 0
    step_us: float = 0.0

    def __str__(self) -> str:
        if self.kernel == "k3":
            return "k3"
        return f"{self.kernel}: {self.teams} x {self.blocks} blocks, {self.rows} rows each"


def defines_of(work: Work, plan: Plan) -> dict[str, int]:
    """The macros of rnn_forward.cu and rnn_backward.cu, besides dtype and cell."""
    return {
        "FNN_EXCHANGE": int(plan.kernel == "k2"),
        "FNN_CLUSTER": plan.blocks if plan.kernel == "k1" else 1,
        "FNN_TENSOR": int(work.tensor),
        "FNN_THREADS": plan.threads,
        "FNN_ROWS": plan.pass_rows,
        "FNN_PAIRS": plan.pairs,
        "FNN_REGISTERS": plan.registers,
        "FNN_WIDTH": plan.widths[0],
        "FNN_WIDTH_N": plan.widths[-1],
    }


class _Product(NamedTuple):
    """A product of a block, as `Product` of rnn_product.cuh or rnn_tiles.cuh lays it out."""

    width: int
    chunks: int
    chunk_bytes: int  # of all threads
    chunk_words: int  # 32-bit registers of a thread
    parts: int  # numbers
    sums: int  # registers of a thread
    arithmetic: int
    vector_reads: int


def shapes(kernel: str, card: Card, work: Work) -> Iterator[Plan]:
    """Every shape of k0, k1 or k2 that fits the card."""
    for blocks, units in sorted(_partitions(kernel, card, work)):
        for pass_rows in (8, 16) if work.tensor else (1, 2, 4, 8):
            if pass_rows > 1 and pass_rows >= 2 * work.B and (pass_rows > 8 or not work.tensor):
                continue
            for threads in (256, 512, 1024):
                if units > threads or -(-pass_rows // (threads // units)) > _MOST_PAIRS:
                    continue
                plan = _shape(kernel, card, work, blocks, units, threads, pass_rows)
                if plan is not None:
                    yield plan
                    break


def _partitions(kernel: str, card: Card, work: Work) -> set[tuple[int, int]]:
    """Pairs of the blocks of a team and the units of a block."""
    H = work.H
    if kernel == "k0":
        return {(1, H)}
    if kernel == "k1":
        return {(n, -(-H // n)) for n in _CLUSTERS if n <= min(H, card.cluster)}
    return {(-(-H // units), units) for units in _UNITS if -(-H // units) <= card.processors}


def _shape(
    kernel: str, card: Card, work: Work, blocks: int, units: int, threads: int, pass_rows: int
) -> Plan | None:
    most_teams = max(1, card.processors // blocks)
    rows = -(-max(1, -(-work.B // most_teams)) // pass_rows) * pass_rows
    teams = -(-work.B // rows)
    pairs = -(-pass_rows // (threads // units))
    layout = _tiles if work.tensor else _columns
    products = []
    for K, columns, of_unit in work.products(units):
        product = layout(work, K, columns, of_unit, threads, pass_rows)
        if product is None:
            return None
        products.append(product)

    # In shared memory: vectors, sums of the slices, states; what is left is for weights.
    buffers = 3 if work.two_products and not work.backward else 2
    stage = (pass_rows if kernel == "k2" else buffers * rows) * work.stride * work.itemsize
    parts = max(product.parts for product in products) * work.wide
    states = _GRADIENT if work.backward else 3 if work.two_products else 2
    fixed = stage + parts + rows * units * work.wide * states
    free = card.shared - 1024 - fixed
    if free < 0:
        return None
    words = _free_registers(work, threads, pairs) - products[0].sums
    registers = max(0, min(12, words // products[0].chunk_words, products[0].chunks))
    shared_chunks, rest = [], []
    for place, product in enumerate(products):
        left = product.chunks - (registers if place == 0 else 0)
        fit = min(left, free // product.chunk_bytes)
        free -= fit * product.chunk_bytes
        shared_chunks.append(fit)
        rest.append((left - fit) * product.chunk_bytes)
    weights = sum(n * p.chunk_bytes for n, p in zip(shared_chunks, products, strict=True))
    return Plan(
        kernel,
        blocks=blocks,
        teams=teams,
        rows=rows,
        pass_rows=pass_rows,
        units=units,
        threads=threads,
        pairs=pairs,
        widths=tuple(product.width for product in products),
        registers=registers,
        shared_chunks=tuple(shared_chunks),
        shared_bytes=fixed + weights,
        rest_bytes=tuple(rest) if work.tensor else (0,) * len(rest),
        arithmetic=sum(product.arithmetic for product in products),
        shared_weights=weights,
        rest_weights=sum(rest),
        vector_reads=sum(product.vector_reads for product in products),
    )


def _columns(
    work: Work, K: int, columns: int, of_unit: int, threads: int, rows: int
) -> _Product | None:
    """rnn_product.cuh: columns of a thread, numbers."""
    if of_unit > 1:
        width = of_unit  # all gates of a unit
    else:
        width = 4 if columns >= 4 and work.backward else min(columns, 2) if work.backward else 1
    lanes = -(-columns // width)
    if lanes > threads:
        return None
    slices = threads // lanes
    power = lanes < 32 and lanes & (lanes - 1) == 0
    fold = 32 // lanes if power and lanes * slices % 32 == 0 else 1
    chunks = -(-(K // 4) // slices)
    words = max(1, work.itemsize // 4)
    return _Product(
        width,
        chunks,
        4 * threads * width * work.itemsize,
        4 * width * words,
        slices // fold * rows * lanes * width,
        rows * width * words,
        rows * K * lanes * width,
        # The lanes of a warp share an access of 4 numbers: the bytes that it takes the time of.
        rows * chunks * (threads // 32) * 128,
    )


def _tiles(
    work: Work, K: int, columns: int, of_unit: int, threads: int, rows: int
) -> _Product | None:
    """rnn_tiles.cuh: tiles of 16 columns of a warp."""
    tiles, warps = -(-columns // 16), threads // 32
    found = []
    for width in (1, 2, 4, 8):
        groups = -(-tiles // width)
        if groups > warps or (width > 1 and width >= 2 * tiles):
            continue
        slices = warps // groups
        chunks = -(-(K // work.chunk) // slices)
        instructions = rows // 8 * groups * width * (K // work.chunk) * 2
        reads = rows * groups * K * work.itemsize
        parts = slices * rows * (groups * width * 16 + 4)
        product = _Product(
            width,
            chunks,
            width * 2 * threads * 16,
            8 * width,
            parts,
            rows // 8 * width * 4,
            instructions,
            reads + 8 * parts,
        )
        found.append((max(2 * instructions, product.vector_reads / 128), product))
    return min(found)[1] if found else None


def _free_registers(work: Work, threads: int, pairs: int) -> int:
    """Registers of a thread for weights and their sums; what ptxas -v left, with a margin."""
    words = max(1, work.itemsize // 4)
    others = 144 if work.tensor else 120
    return min(255, 65536 // threads) - others - 20 * (words - 1) - 14 * (pairs - 1) * words
