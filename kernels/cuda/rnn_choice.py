"""Which of the recurrent kernels runs a call, and in what shape: pure arithmetic, no GPU needed.

    k0   one block a slice of the batch
    k1   a cluster of blocks a slice, over distributed shared memory (compute capability 9.0 and up)
    k2   the whole grid, with flags (a cooperative launch)
    k3   one cuBLAS product and one pointwise kernel a step: any size, any card

Each shape of k0 to k2 that fits the card is given a time by a rough model of a step, and the least
wins. The model's constants are estimates from data sheets, not measurements; only their order
decides. `FASTNN_CUDA_RNN=k0` .. `k3` names a kernel; where it cannot run, the next one that can does,
with the reason in ``Plan.reasons``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

KERNELS = ("k0", "k1", "k2", "k3")
_GRU_BEFORE = 3
_THREADS = 256
_PASSES = (8, 4, 2, 1)  # rows that a weight in a register serves, FNN_ROWS
_CLUSTERS = (2, 4, 8, 16)
_LAUNCH_US = 9.0  # of one step of k3 from Python: a product and a kernel
_EXCHANGE_US = {"k0": 0.05, "k1": 0.6, "k2": 1.3}
_POINTWISE_US = 0.25


class Card(NamedTuple):
    """What the choice needs to know of a GPU."""

    capability: int  # 75, 80, 90, 100, ...
    processors: int  # multiprocessors
    shared: int  # bytes of shared memory that a block may ask for
    cooperative: bool = True

    @property
    def gigahertz(self) -> float:
        return 1.5

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

    @property
    def wide(self) -> int:
        return max(4, self.itemsize)

    @property
    def Hp(self) -> int:
        return (self.H + 7) // 8 * 8

    @property
    def K(self) -> int:
        """Length of the vectors that enter the product."""
        return self.gates * self.Hp if self.backward else self.Hp

    @property
    def two_products(self) -> bool:
        return self.cell == _GRU_BEFORE


class Plan(NamedTuple):
    """How a call runs. All but ``kernel`` and ``reasons`` are empty for k3."""

    kernel: str
    reasons: tuple[str, ...] = ()  # why others do not run, or why one was not obeyed
    blocks: int = 0  # of a team
    teams: int = 0
    rows: int = 0  # of a team
    pass_rows: int = 0  # FNN_ROWS
    units: int = 0  # of a block
    threads: int = 0
    columns: int = 0  # of a thread, backward
    slices: int = 0
    registers: int = 0  # chunks of weights in registers, FNN_REGISTERS
    shared_chunks: int = 0
    shared_bytes: int = 0
    step_us: float = 0.0

    def __str__(self) -> str:
        if self.kernel == "k3":
            return "k3"
        return f"{self.kernel}: {self.teams} x {self.blocks} blocks, {self.rows} rows each"


def choose(card: Card, work: Work, wanted: str | None = None) -> Plan:
    """The plan for a call.

    Parameters
    ----------
    card : Card
    work : Work
    wanted : "k0" to "k3", optional
        A kernel to take if it can run.

    Raises
    ------
    ValueError
        If ``wanted`` is no kernel.
    """
    if wanted is not None and wanted not in KERNELS:
        raise ValueError(
            f"[rnn_forward] FASTNN_CUDA_RNN is {wanted!r}; one of {', '.join(KERNELS)} is needed"
        )
    return _choose(card, work, wanted)


@lru_cache(maxsize=1024)
def _choose(card: Card, work: Work, wanted: str | None) -> Plan:
    reasons: list[str] = []
    best: dict[str, Plan] = {}
    for kernel in KERNELS[:3]:
        reason = _why_not(kernel, card)
        plans = [] if reason else list(_shapes(kernel, card, work))
        if plans:
            best[kernel] = min(plans, key=lambda plan: plan.step_us)
        else:
            reasons.append(f"{kernel}: {reason or _too_large(kernel, card, work)}")
    best["k3"] = Plan("k3", step_us=_step_us_k3(card, work))
    if wanted is not None:
        order = KERNELS[KERNELS.index(wanted) :]
        chosen = next(best[kernel] for kernel in order if kernel in best)
        if chosen.kernel == wanted:
            reasons = []
    else:
        chosen = min(best.values(), key=lambda plan: plan.step_us)
        reasons += [
            f"{kernel}: {plan.step_us:.1f} us a step expected, {chosen.step_us:.1f} with {chosen.kernel}"
            for kernel, plan in best.items()
            if plan is not chosen
        ]
    return chosen._replace(reasons=tuple(reasons))


def _why_not(kernel: str, card: Card) -> str | None:
    if kernel == "k1" and card.capability < 90:
        return f"compute capability {card.capability / 10} has no clusters; 9.0 is needed"
    if kernel == "k2" and not card.cooperative:
        return "the card has no cooperative launch"
    return None


def _too_large(kernel: str, card: Card, work: Work) -> str:
    where = {"k0": "one block", "k1": "a cluster", "k2": f"{card.processors} blocks"}[kernel]
    return f"H {work.H} does not fit {where} of {card.shared >> 10} KiB shared memory"


# --------------------------------------------------------------------------- shapes


def _shapes(kernel: str, card: Card, work: Work) -> Iterator[Plan]:
    """Every shape of a kernel that fits the card."""
    for blocks, units in sorted(_partitions(kernel, card, work)):
        threads = _THREADS
        while threads < units:
            threads *= 2
        if threads > 1024:
            continue
        for pass_rows in _PASSES:
            if pass_rows * units > threads or (pass_rows > 1 and pass_rows >= 2 * work.B):
                continue
            plan = _shape(kernel, card, work, blocks, units, threads, pass_rows)
            if plan is not None:
                yield plan


def _partitions(kernel: str, card: Card, work: Work) -> set[tuple[int, int]]:
    """Pairs of the blocks of a team and the units of a block."""
    H = work.H
    if kernel == "k0":
        return {(1, H)}
    if kernel == "k1":
        return {(n, -(-H // n)) for n in _CLUSTERS if n <= H}
    found = set()
    for units in (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128):
        blocks = -(-H // units)
        if blocks <= card.processors:
            found.add((blocks, units))
    return found


def _shape(
    kernel: str, card: Card, work: Work, blocks: int, units: int, threads: int, pass_rows: int
) -> Plan | None:
    most_teams = max(1, card.processors // blocks)
    rows = -(-work.B // most_teams)
    if kernel == "k0":
        # More rows a block where it has to be, not more blocks: what they share is read once.
        rows = max(rows, 1)
    rows = -(-rows // pass_rows) * pass_rows
    teams = -(-work.B // rows)

    # As in rnn_forward.cu and rnn_backward.cu.
    if work.backward:
        columns = 4 if units >= 4 else units if units in (1, 2) else 1
        lanes = -(-units // columns)
        sets = ((2 * work.Hp, columns), (work.Hp, columns)) if work.two_products else ((work.K, columns),)
    else:
        columns = 2 if work.two_products else work.gates
        lanes = units
        sets = ((work.K, 2), (work.K, 1)) if work.two_products else ((work.K, columns),)
    slices = threads // lanes
    chunks = [-(-(K // 4) // slices) for K, _ in sets]
    fold = 32 // lanes if lanes < 32 and lanes & (lanes - 1) == 0 and lanes * slices % 32 == 0 else 1

    # In shared memory: vectors, sums of the slices, states; what is left is for weights.
    buffers = 3 if work.two_products and not work.backward else 2
    stage = (pass_rows if kernel == "k2" else buffers * rows) * work.K * work.itemsize
    parts = slices // fold * pass_rows * lanes * columns * work.wide
    state = rows * units * work.wide * (6 if work.backward else 3 if work.two_products else 2)
    free = card.shared - 1024 - stage - parts - state
    if free < 0:
        return None
    registers = 0
    if not work.two_products:
        registers = min(_register_chunks(work, columns, threads, pass_rows), chunks[0])
    a_chunk = sum(4 * threads * n * work.itemsize for _, n in sets)
    shared_chunks = min(max(chunks) - registers, free // a_chunk)
    rest = sum(
        max(0, n - registers - shared_chunks) * 4 * threads * width * work.itemsize
        for n, (_, width) in zip(chunks, sets, strict=True)
    )
    passes = rows // pass_rows
    plan = Plan(
        kernel,
        blocks=blocks,
        teams=teams,
        rows=rows,
        pass_rows=pass_rows,
        units=units,
        threads=threads,
        columns=columns,
        slices=slices,
        registers=registers,
        shared_chunks=shared_chunks,
        shared_bytes=stage + parts + state + shared_chunks * a_chunk,
    )
    return plan._replace(step_us=_step_us(card, work, plan, rest * passes))


def _register_chunks(work: Work, columns: int, threads: int, pass_rows: int) -> int:
    """Chunks of weights that fit the registers beside everything else; ptxas -v says so."""
    words = 2 if work.itemsize == 8 else 1
    free = min(255, 65536 // threads) - 120 - 20 * (words - 1) - pass_rows * columns * words
    return min(8, max(0, free // (4 * columns * words)))


# --------------------------------------------------------------------------- the model of a step


def _step_us(card: Card, work: Work, plan: Plan, again: int) -> float:
    """Microseconds of a step times the rounds that it takes to run all teams.

    ``again``: bytes of weights that a block reads from L2 in every step.
    """
    lanes = card.double_lanes if work.itemsize == 8 else card.lanes
    width = 1 if work.backward else work.gates
    fma = plan.rows * work.K * plan.units * width / (0.5 * lanes)
    in_registers = plan.registers * plan.slices * 4 / work.K
    weights = (1 - min(1.0, in_registers)) * work.K * plan.units * width * work.itemsize
    shared = weights * (plan.rows / plan.pass_rows) / 128
    everywhere = min(plan.blocks * plan.teams, card.processors)
    l2 = again / 48 * max(1.0, everywhere / 80)
    if plan.kernel == "k2":
        l2 += plan.rows * work.K * work.itemsize / 48 * max(1.0, everywhere / 80)
    clocks = max(fma, shared) + l2
    passes = plan.rows // plan.pass_rows
    products = 2 if work.two_products else 1
    us = clocks / card.gigahertz / 1e3
    us += products * (passes * _POINTWISE_US + _EXCHANGE_US[plan.kernel])
    # Clusters need a processing cluster of their own: count a tenth of the card as lost to them.
    resident = card.processors * (0.9 if plan.kernel == "k1" else 1.0)
    rounds = -(-plan.blocks * plan.teams // int(resident))
    return us * rounds


def _step_us_k3(card: Card, work: Work) -> float:
    lanes = card.double_lanes if work.itemsize == 8 else card.lanes
    fma = work.B * work.H * work.H * work.gates / (0.6 * lanes * card.processors)
    weights = work.H * work.H * work.gates * work.itemsize / (48 * card.processors)
    products = 2 if work.two_products else 1
    return products * (_LAUNCH_US + max(fma, weights) / card.gigahertz / 1e3)
