"""Which of the recurrent kernels runs a call, and in what shape: pure arithmetic, no GPU needed.

    k0   one block a slice of the batch
    k1   a cluster of blocks a slice, over distributed shared memory (compute capability 9.0 and up)
    k2   the whole grid, with flags (a cooperative launch)
    k3   one cuBLAS product and one pointwise kernel a step: any size, any card

Each shape of k0 to k2 that fits the card (`rnn_shapes`) is given a time by a rough model of a
step, and the least wins. The model's constants (`Model`) are estimates from data sheets, not
measurements; only their order decides. ``python -m fastnn bench gpu-steps`` measures what they
predict. ``FASTNN_CUDA_RNN=k0`` .. ``k3`` names a kernel; where it cannot run, the next one that can
does, with the reason in ``Plan.reasons``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from fastnn.kernels.cuda.rnn_shapes import Card, Plan, Work, shapes

KERNELS = ("k0", "k1", "k2", "k3")


class Model(NamedTuple):
    """The constants of the model of a step: to replace by measured ones, all together or one."""

    launch_us: float = 9.0  # of one step of k3: a product and a kernel that do little
    block_us: float = 0.05  # the barrier of k0
    cluster_us: float = 0.6  # the exchange of k1, with its barrier
    grid_us: float = 1.3  # the exchange of k2, through flags
    pointwise_us: float = 0.25  # the cell, a row of a thread
    gigahertz: float = 1.5
    # Of float32 and float64 lanes, the part that the product of numbers keeps busy; of cuBLAS.
    lanes_used: float = 0.5
    lanes_used_k3: float = 0.6
    tensor_lanes: float = 8.0  # of cuBLAS on tensor cores, times the lanes
    tensor_clocks: float = 2.0  # of one instruction of 16 x 8 numbers, a multiprocessor
    shared_bytes: float = 128.0  # a clock and multiprocessor
    l2_bytes: float = 48.0  # the same, while few ask
    l2_readers: float = 80.0  # multiprocessors that together exhaust L2
    cluster_processors: float = 0.9  # of the card: a cluster lies within a group of them

    def exchange_us(self, kernel: str) -> float:
        """Of a kernel's step, what the model counts for its blocks to meet."""
        return {"k0": self.block_us, "k1": self.cluster_us, "k2": self.grid_us}[kernel]


MODEL = Model()


class Refusal(NamedTuple):
    """A launch that the driver refused: not to be tried again with so many blocks a team."""

    kernel: str
    blocks: int
    why: str


def choose(
    card: Card,
    work: Work,
    wanted: str | None = None,
    refusals: tuple[Refusal, ...] = (),
    model: Model = MODEL,
) -> Plan:
    """The plan for a call.

    Parameters
    ----------
    card : Card
    work : Work
    wanted : "k0" to "k3", optional
        A kernel to take if it can run.
    refusals : tuple of Refusal
        What the driver did not launch.
    model : Model

    Raises
    ------
    ValueError
        If ``wanted`` is no kernel.
    """
    if wanted is not None and wanted not in KERNELS:
        raise ValueError(
            f"[rnn_forward] FASTNN_CUDA_RNN is {wanted!r}; one of {', '.join(KERNELS)} is needed"
        )
    return _choose(card, work, wanted, refusals, model)


@lru_cache(maxsize=1024)
def _choose(
    card: Card, work: Work, wanted: str | None, refusals: tuple[Refusal, ...], model: Model
) -> Plan:
    reasons = [f"{r.kernel} of {r.blocks} blocks was refused: {r.why}" for r in refusals]
    refused = {(r.kernel, r.blocks) for r in refusals}
    best: dict[str, Plan] = {}
    for kernel in KERNELS[:3]:
        reason = _why_not(kernel, card)
        found = () if reason else shapes(kernel, card, work)
        plans = [timed(card, work, p, model) for p in found if (kernel, p.blocks) not in refused]
        if plans:
            best[kernel] = min(plans, key=lambda plan: plan.step_us)
        else:
            reasons.append(f"{kernel}: {reason or _too_large(kernel, card, work)}")
    best["k3"] = timed(card, work, Plan("k3"), model)
    if wanted is not None:
        order = KERNELS[KERNELS.index(wanted) :]
        chosen = next(best[kernel] for kernel in order if kernel in best)
        if chosen.kernel == wanted:
            reasons = []
    else:
        chosen = min(best.values(), key=lambda plan: plan.step_us)
        reasons += [
            f"{kernel}: {plan.step_us:.1f} us a step expected, "
            f"{chosen.step_us:.1f} with {chosen.kernel}"
            for kernel, plan in best.items()
            if plan is not chosen
        ]
    return chosen._replace(reasons=tuple(reasons))


def _why_not(kernel: str, card: Card) -> str | None:
    if kernel == "k1" and card.cluster < 2:
        return f"compute capability {card.capability / 10} has no clusters; 9.0 is needed"
    if kernel == "k2" and not card.cooperative:
        return "the card has no cooperative launch"
    return None


def _too_large(kernel: str, card: Card, work: Work) -> str:
    where = {"k0": "one block", "k1": "a cluster", "k2": f"{card.processors} blocks"}[kernel]
    return f"H {work.H} does not fit {where} of {card.shared >> 10} KiB shared memory"


# --------------------------------------------------------------------------- the model of a step


def timed(card: Card, work: Work, plan: Plan, model: Model = MODEL) -> Plan:
    """A plan with the microseconds of a step, times the rounds that it takes to run all teams."""
    if plan.kernel == "k3":
        return plan._replace(step_us=_step_us_k3(card, work, model))
    passes = plan.rows // plan.pass_rows
    everywhere = min(plan.blocks * plan.teams, card.processors)
    crowd = max(1.0, everywhere / model.l2_readers)
    shared = passes * (plan.shared_weights + plan.vector_reads)
    l2 = passes * plan.rest_weights
    if plan.kernel == "k2":
        l2 += plan.rows * work.K * work.itemsize
    arithmetic: float = passes * plan.arithmetic
    if work.tensor:
        arithmetic *= model.tensor_clocks
    else:
        arithmetic /= model.lanes_used * (card.double_lanes if work.itemsize == 8 else card.lanes)
    clocks = max(arithmetic, shared / model.shared_bytes) + l2 / model.l2_bytes * crowd
    products = 2 if work.two_products else 1
    us = clocks / model.gigahertz / 1e3
    us += products * (passes * plan.pairs * model.pointwise_us + model.exchange_us(plan.kernel))
    resident = int(card.processors * (model.cluster_processors if plan.kernel == "k1" else 1.0))
    return plan._replace(step_us=us * -(-plan.blocks * plan.teams // resident))


def _step_us_k3(card: Card, work: Work, model: Model) -> float:
    lanes: float = card.double_lanes if work.itemsize == 8 else card.lanes
    if work.tensor:
        lanes *= model.tensor_lanes
    each = model.lanes_used_k3 * lanes * card.processors
    multiplies = work.B * work.H * work.H * work.gates / each
    weights = work.H * work.H * work.gates * work.itemsize / (model.l2_bytes * card.processors)
    products = 2 if work.two_products else 1
    return products * (model.launch_us + max(multiplies, weights) / model.gigahertz / 1e3)
