"""``python -m fastnn bench gpu-steps``: what a step of each recurrent kernel takes, and the model.

`fastnn.kernels.cuda.rnn_choice` chooses between the kernels k0 to k3 by a model of a step. Here
each kernel that can run a size runs it, is verified, and is timed: the recurrence alone, without
the large products before and after it, forward and backward. k3 runs in a CUDA graph and,
as k3-loop, launched from Python step by step. `fastnn.bench.gpu_fit` finds the
model's constants from the file.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastnn import dispatch
from fastnn.bench import gpu_compile, gpu_fit, gpu_jobs, gpu_verify
from fastnn.bench.gpu_results import Results
from fastnn.bench.gpu_rows import RecurrentRow
from fastnn.bench.gpu_timing import environment, release, set_tf32
from fastnn.kernels.cuda import rnn_variants
from fastnn.kernels.cuda.rnn_choice import KERNELS, choose
from fastnn.kernels.cuda.rnn_shapes import Card

_LOOP = "k3-loop"  # k3 without its graph
_STEPS = 256
_WARM_UP, _TIMES = 2, 7
_AHEAD = 64  # rows whose kernels are compiled at a time
_LONGEST = 60.0  # seconds of a row; more is a kernel that waits for ever


class StepRow(NamedTuple):
    """A recurrent row by a kernel."""

    plain: RecurrentRow
    kernel: str

    @property
    def code(self) -> str:
        """k0 to k3."""
        return self.kernel.partition("-")[0]

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.plain.name}"


def rows() -> list[StepRow]:
    """Every kernel, middle sizes and one cell first."""
    return [
        StepRow(RecurrentRow(cell, H, B, _STEPS, precision), kernel)
        for cells in (("lstm",), ("gru", "simple_rnn"))
        for B in (16, 64, 1, 256)
        for H in (512, 128, 1024, 256, 2048, 64, 768)
        for precision in ("float32", "bfloat16")
        for cell in cells
        for kernel in (*KERNELS, _LOOP)
    ]


def smallest() -> list[StepRow]:
    """One size, to try the command itself."""
    return [
        StepRow(RecurrentRow("gru", 6, 2, 3, "float32"), kernel) for kernel in (*KERNELS, _LOOP)
    ]


def chosen(patterns: tuple[str, ...]) -> list[StepRow]:
    """The rows whose names contain one of the patterns; all, without patterns.

    Raises
    ------
    ValueError
        If there is none.
    """
    kept = [row for row in rows() if not patterns or any(p in row.name for p in patterns)]
    if not kept:
        raise ValueError(f"no row of gpu-steps is named like {', '.join(patterns)}")
    return kept


def can_run(row: StepRow, card: Card) -> bool:
    """Whether the kernel has a shape for the row on the card, in both directions."""
    dtype, tf32 = gpu_jobs.dtype_of(row.plain.precision), row.plain.precision == "tf32"
    sizes = (row.plain.cell, True, row.plain.H, row.plain.B, dtype)
    works = (rnn_variants.work(*sizes, back, card.capability, tf32) for back in (False, True))
    return all(choose(card, work, row.code).kernel == row.code for work in works)


# --------------------------------------------------------------------------- measuring


@contextmanager
def _settings(**wanted: str) -> Iterator[None]:
    """Variables of the environment inside the block."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _marked(marks: list[tuple[Any, ...]]) -> Iterator[None]:
    """Events around every recurrence: (backward, begin, end, work, plan)."""
    from cupy.cuda import Event

    from fastnn.kernels.cuda import rnn, rnn_persistent

    inner = rnn.recurrence

    def outer(call: Any, arrays: tuple[Any, ...], recurrent: Any, backward: bool) -> None:
        begin, end = Event(), Event()
        begin.record()
        inner(call, arrays, recurrent, backward)
        end.record()
        marks.append((backward, begin, end, *rnn_persistent.plan_of(call, backward)))

    rnn.recurrence = outer
    try:
        yield
    finally:
        rnn.recurrence = inner


def measure(row: StepRow, result: dict[str, Any]) -> None:
    """Verify and time a row into ``result``."""
    import cupy

    plain = row.plain
    asked = {"FASTNN_CUDA_RNN": row.code, "FASTNN_CUDA_GRAPH": str(int(row.kernel != _LOOP))}
    result |= {"kernel": row.kernel, "plain": plain.name, "precision": plain.precision}
    set_tf32(plain.precision == "tf32")
    try:
        with dispatch.use_backend("cupy"), _settings(**asked):
            small = gpu_verify.small(plain)
            result["error_to_reference"] = gpu_verify.against_reference(small)
            normal = gpu_jobs.device_normal(gpu_jobs.dtype_of(plain.precision))
            job = gpu_jobs.job(plain, [gpu_jobs.inputs(plain, normal)])
            for _ in range(_WARM_UP):
                job(0)
            marks: list[tuple[Any, ...]] = []
            with _marked(marks):
                for _ in range(_TIMES):
                    job(0)
            cupy.cuda.get_current_stream().synchronize()
    finally:
        set_tf32(False)
        release()
    for name, back in (("forward", False), ("backward", True)):
        own = [mark for mark in marks if mark[0] == back]
        times = [cupy.cuda.get_elapsed_time(begin, end) for _, begin, end, _, _ in own]
        work, plan = own[-1][3:]
        if plan.kernel != row.code:
            raise RuntimeError(f"{plan.kernel} ran: {'; '.join(plan.reasons)}")
        result[name] = {
            "us": statistics.median(times) * 1e3 / plain.T,
            "model_us": plan.step_us,
            "work": work._asdict(),
            "plan": plan._replace(reasons=())._asdict(),
        }


# --------------------------------------------------------------------------- the report


def run(asked: list[StepRow], path: Path, limit: float | None = None, workers: int = 1) -> int:
    """Measure the rows that the card can run and the file has not; 1 if a row failed.

    Raises
    ------
    ValueError
        If the file is there and cannot be continued.
    """
    import cupy

    from fastnn.kernels.cuda import rnn_persistent

    card = rnn_persistent.card(cupy.cuda.runtime.getDevice())
    facts = environment() | {"card": card._asdict(), "steps": _STEPS}
    for key, value in facts.items():
        print(f"{key:<20} {value}")
    results = Results(path, "gpu-steps", facts, limit)
    able = [row for row in asked if can_run(row, card)]
    left = results.missing(able)
    print(
        f"{len(asked) - len(able)} rows do not fit the card, {len(able) - len(left)} are in {path}"
    )
    for i, row in enumerate(left):
        if not results.in_time():
            print(f"{len(left) - i} rows not run: the limit of {limit:.0f} s is reached")
            break
        if workers and i % _AHEAD == 0:
            print(gpu_compile.ahead(_variants(left[i : i + _AHEAD], card), workers), flush=True)
        with results.row(row.name, _LONGEST) as result:
            measure(row, result)
        print(_line(result), flush=True)
    print(gpu_fit.report(results.document))
    print(f"numbers  {path}")
    names = {row.name for row in asked}
    return int(any("error" in row for row in results.rows if row["name"] in names))


def _variants(chunk: list[StepRow], card: Card) -> list[rnn_variants.Variant]:
    return [v for row in chunk for v in gpu_compile.variants(row.plain, card, row.code)]


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['name']:<40} {row['error']}"
    words = [f"{row['name']:<40}"]
    for name in ("forward", "backward"):
        plan = row[name]["plan"]
        shape = f"{plan['teams']}x{plan['blocks']} blocks, {plan['rows']} rows"
        words.append(
            f"{name} {row[name]['us']:.2f} us, model {row[name]['model_us']:.2f} ({shape})"
        )
    return "  ".join(words)
