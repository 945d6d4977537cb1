"""``python -m fastnn bench options``: what an option of a recurrent layer costs.

fastnn against itself, alternating in one process: ``keep="states"``, ``mask``, ``resets``,
recurrent dropout, zoneout and ``lengths``, each over the call without it. With lengths less is
computed, so its time is divided by the share of the steps that count.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from fastnn import dispatch, ops
from fastnn.bench import compare, inputs, ours, rows
from fastnn.bench.jobs import Jobs, Unsupported, Work
from fastnn.bench.measure import LEAST_ROUNDS, MOST_ROUNDS, Spread, median_and_quartiles
from fastnn.bench.process import Worker, usable_cores
from fastnn.bench.rows import INFERENCE, TRAINING, RnnRow, Row
from fastnn.types import RnnOutput, RnnWeights

PLAIN, LENGTHS = "plain", "lengths"
MASKED, RESET, DROPPED, ZONED = 0.25, 0.05, 0.25, 0.1  # shares and rates
CHECKED_STEPS, CHECKED_ROWS = 6, 16

prepare = ours.prepare


class Cost(NamedTuple):
    """One option of one row."""

    row: str
    mode: str
    threads: int
    option: str
    seconds: Spread
    share: float  # of the steps, that are computed
    ratio: Spread  # its time over the plain call's in the same round, for an equal number of steps


# --------------------------------------------------------------------------- in the worker


def _options(row: RnnRow) -> dict[str, dict[str, Any]]:
    """Option -> arguments of `rnn_forward`; in training a seed is added where there is noise."""
    rng = np.random.default_rng(7)
    shape = (row.T, row.B)
    return {
        PLAIN: {},
        'keep="states"': {"keep": "states"},
        "mask": {"mask": rng.random(shape) >= MASKED},
        "resets": {"resets": rng.random(shape) < RESET},
        "recurrent_dropout": {"recurrent_dropout": DROPPED},
        "zoneout": {"zoneout": ZONED},
        LENGTHS: {"lengths": _lengths(row)},
    }


def _lengths(row: RnnRow) -> np.ndarray:
    """Uniform in 1 .. T."""
    return np.random.default_rng(8).integers(1, row.T + 1, row.B)


def share(row: RnnRow, option: str) -> float:
    """Of the row's steps, how many are computed."""
    return float(_lengths(row).sum()) / (row.T * row.B) if option == LENGTHS else 1.0


def jobs(row: Row, arrays: inputs.Arrays) -> Jobs:
    """The row with each option, as a variant."""
    if not rows.is_one_layer(row):
        raise Unsupported("one plain recurrent layer in one direction is what is measured")
    layer = row.layers[0]
    weights = RnnWeights(*(arrays.get(f"0.{name}") for name in RnnWeights._fields))
    cell = {"cell": layer.cell, "activation": layer.activation}
    return {
        name: _job(arrays["x"], arrays["dy"], weights, cell, options)
        for name, options in _options(row).items()
    }


def _job(
    x: Any, dy: Any, weights: RnnWeights, cell: dict[str, Any], options: dict[str, Any]
) -> dict[str, Work]:
    seeds = iter(range(2**62))
    noisy = not options.keys().isdisjoint(("recurrent_dropout", "zoneout"))

    def infer(x: Any = x, options: dict[str, Any] = options) -> Any:
        return ops.rnn_forward(x, weights, keep=None, **options, **cell)[0].y

    def train(
        x: Any = x,
        dy: Any = dy,
        options: dict[str, Any] = options,
        seed: int | None = None,
    ) -> Any:
        if noisy:
            options = {**options, "seed": next(seeds) if seed is None else seed}
        output, saved = ops.rnn_forward(x, weights, **options, **cell)
        assert saved is not None  # keep is "gates" or "states"
        return output.y, ops.rnn_backward(RnnOutput(dy), saved)

    def cut(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array[:CHECKED_STEPS, :CHECKED_ROWS])

    small = {
        key: cut(value) if key in ("mask", "resets") else value for key, value in options.items()
    }
    if LENGTHS in small:
        small[LENGTHS] = np.minimum(small[LENGTHS][:CHECKED_ROWS], min(CHECKED_STEPS, len(x)))

    def of_inference(y: np.ndarray) -> inputs.Arrays:
        return {"y": y}

    def of_training(result: Any) -> inputs.Arrays:
        y, grads = result
        return {
            "y": y,
            "dx": grads.dx,
            "dkernel": grads.weights.kernel,
            "drecurrent_kernel": grads.weights.recurrent_kernel,
        }

    def checked(call: Callable[[], Any], results: Callable[[Any], inputs.Arrays]) -> Any:
        """The results of some rows and steps, once the numpy backend has the same."""
        found = call()
        with dispatch.use_backend("numpy"):
            gap, where = compare.difference(results(found), results(call()))
        if not gap <= compare.TOLERANCE[x.dtype.name]:
            raise ArithmeticError(f"{where} differs from the numpy backend by {gap:.1e}")
        return found

    def check_inference() -> Any:
        return checked(lambda: infer(cut(x), small), of_inference)

    def check_training() -> Any:
        return checked(lambda: train(cut(x), cut(dy), small, seed=5), of_training)

    job = {TRAINING: Work(train, of_training, check_training)}
    if "keep" not in options and "recurrent_dropout" not in options:
        job[INFERENCE] = Work(infer, of_inference, check_inference)
    return job


# --------------------------------------------------------------------------- the command


def measure(
    row: RnnRow, threads: int, seconds: float, versions: dict[str, str] | None = None
) -> Iterator[Cost]:
    """Every option in every mode, each checked first; ``versions`` gets fastnn's.

    Raises
    ------
    WorkerError
        What an option computes is not what the numpy backend computes, or the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, allow_pickle=False, **inputs.make(row))
        worker = Worker(__name__, threads, usable_cores()[:threads], Path(folder) / "log")
        try:
            version = worker.ask("prepare")["version"]
            if versions is not None:
                versions["fastnn"] = version
            variants = worker.ask("load", row=rows.to_json(row), path=str(path))["variants"]
            for mode in (INFERENCE, TRAINING):
                names = [name for name, modes in variants.items() if mode in modes]
                for name in names:
                    worker.ask(
                        "results", variant=name, mode=mode, path=str(Path(folder) / "results.npz")
                    )
                yield from _mode(worker, row, mode, names, threads, seconds)
        finally:
            worker.close()


def _mode(
    worker: Worker, row: RnnRow, mode: str, names: list[str], threads: int, seconds: float
) -> Iterator[Cost]:
    about = {name: worker.ask("try", variant=name, mode=mode)["seconds"] for name in names}
    count = int(min(max(seconds / sum(about.values()), LEAST_ROUNDS), MOST_ROUNDS))
    turns: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(count):
        for name in names[:: -1 if turn % 2 else 1]:
            calls = max(1, int(seconds / count / len(names) / about[name]))
            request = {"variant": name, "mode": mode, "calls": calls, "warm_up": 0}
            turns[name].append(median(worker.ask("time", **request)["seconds"]))
    for name in names:
        part = share(row, name)
        ratios = [own / part / plain for own, plain in zip(turns[name], turns[PLAIN], strict=True)]
        spread = median_and_quartiles(ratios)
        yield Cost(row.name, mode, threads, name, median_and_quartiles(turns[name]), part, spread)


def run(
    chosen: list[RnnRow],
    counts: tuple[int, ...],
    seconds: float,
    head: dict[str, Any],
    path: Path,
) -> int:
    """Measure, print a table, and write the file, which begins with ``head``."""
    from fastnn.files import write_whole

    found: list[Cost] = []
    print("\ntime over that of the plain call [quartiles]; lengths: for an equal number of steps")
    for threads in counts:
        for row in chosen:
            for cost in measure(row, threads, seconds, head["versions"]):
                found.append(cost)
                print(_line(cost), flush=True)
    print()
    for name in dict.fromkeys(cost.option for cost in found if cost.option != PLAIN):
        ratios = [cost.ratio.median for cost in found if cost.option == name]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"{name:<20}geometric mean {mean:.2f}, at most {max(ratios):.2f}")
    results = [
        {**cost._asdict(), "seconds": cost.seconds._asdict(), "ratio": cost.ratio._asdict()}
        for cost in found
    ]
    write_whole(path, (json.dumps({**head, "results": results}, indent=1) + "\n").encode())
    print(f"\nnumbers  {path}")
    return 0


def _line(cost: Cost) -> str:
    middle, low, high = cost.ratio
    threads = f"{cost.threads} thread{'s' if cost.threads > 1 else ' '}"
    return (
        f"{cost.row:<14}{cost.mode:<11}{threads}  {cost.option:<20}"
        f"{cost.seconds.median * 1e3:10.3f} ms  {middle:6.2f} [{low:.2f} {high:.2f}]"
    )
