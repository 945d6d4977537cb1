"""Who takes turns, what the turns took, and what that says.

Only one process computes at a time. In each round every participant has a turn of a few calls, in
an order that is reversed from round to round, so that neither drift nor place favours anyone; a
ratio is formed inside a round.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np

from fastnn.bench import ceiling, compare, inputs, rows
from fastnn.bench.busy import BusyCores
from fastnn.bench.peers import OURS, PEERS
from fastnn.bench.process import UnsupportedError, Worker, WorkerError, usable_cores
from fastnn.bench.rows import Row

FASTNN, CEILING = "fastnn", "ceiling"
LEAST_ROUNDS, MOST_ROUNDS = 4, 11
LONG_CALL = 0.05  # seconds; a longer call needs none before it that warms up
SETTLE = 0.004  # seconds that idle threads of the last turn get to stop spinning
SETTLE_AFTER = {"onnxruntime": 0.025}  # its threads were seen to spin for 21 ms after a call
SLOW_TURN = 3  # so many times its share of the time a turn may take before it ends early


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


class Timing(NamedTuple):
    """One participant (or one variant of it) on one row."""

    variant: str
    seconds: Spread | None = None  # of the medians of its turns
    ratio: Spread | None = None  # its time over fastnn's, in the same round
    difference: float | None = None  # of its results from fastnn's, relative
    trials: dict[str, float] = {}  # about how long each of its variants takes  # noqa: RUF012
    reason: str | None = None  # why there is no time
    growth: Spread | None = None  # its time beside busy processes over its time alone


class Measurement(NamedTuple):
    """One row, one mode, one number of threads."""

    group: str
    row: str
    mode: str
    threads: int
    plain: bool
    flops: float | None
    bytes: float | None
    ours: Timing
    peers: dict[str, Timing]
    fraction: Spread | None  # of the ceiling, in the same round
    ceiling: str
    ceiling_rate: float | None  # operations or bytes a second


class Turn(NamedTuple):
    """Calls of one turn."""

    seconds: float  # of a call: the median
    growth: float | None  # the mean beside busy processes over the mean without


class Setup(NamedTuple):
    """Who takes part, with how many threads, for how long."""

    threads: int
    peers: Mapping[str, str]  # name in PEERS -> interpreter
    seconds: float  # for one row in one mode
    busy: BusyCores | None = None  # whether every turn is repeated beside busy processes


def median_and_quartiles(values: Sequence[float]) -> Spread:
    """Of the values."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return Spread(float(middle), float(low), float(high))


class Session:
    """The workers for one number of threads; a context manager that ends them.

    Parameters
    ----------
    setup : Setup
    say : callable
        Gets a line about what happens now.

    Attributes
    ----------
    versions : dict
        What each participant calls itself.
    """

    def __init__(self, setup: Setup, say: Callable[[str], None]) -> None:
        self.setup = setup
        self.say = say
        self.versions: dict[str, str] = {}
        self._stack = contextlib.ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._cores = usable_cores()[: setup.threads]
        self._workers: dict[str, Worker] = {}
        self._last = ""  # who had the last turn

    def __enter__(self) -> Session:
        try:
            self._start(FASTNN, OURS.module)
            self._start(CEILING, ceiling.__name__)
            for name, python in self.setup.peers.items():
                self._start(name, PEERS[name].module, python)
            for name in list(self._workers):
                self._greet(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()
        self._stack.close()

    def _start(self, name: str, module: str, python: str | None = None) -> None:
        log = self._folder / f"{name}.log"
        python = python or sys.executable
        worker = Worker(module, self.setup.threads, self._cores, log, python)
        self._workers[name] = worker

    def _greet(self, name: str) -> None:
        self.versions[name] = self._workers[name].ask("prepare")["version"]

    def _revive(self, name: str) -> None:
        """A worker that died on the last row starts again."""
        if not self._workers[name].alive():
            python = self.setup.peers.get(name)
            module = {FASTNN: OURS.module, CEILING: ceiling.__name__}.get(name)
            self._start(name, module or PEERS[name].module, python)
            self._greet(name)

    # ------------------------------------------------------------------ one row

    def measure(self, group: str, row: Row) -> Iterator[Measurement]:
        """Verify and time a row, one mode after the other.

        Raises
        ------
        WorkerError
            If fastnn fails; what happens to peers is in their timings.
        """
        self.say(f"{row.name}: loading")
        arrays = inputs.make(row)
        path = self._folder / "inputs.npz"
        np.savez(path, allow_pickle=False, **arrays)
        steps = int(arrays["lengths"].sum()) if "lengths" in arrays else None
        del arrays
        loaded, reasons = self._load(row, path)
        for mode in row.modes:
            self.say(f"{row.name}: {mode}")
            yield self._mode(group, row, mode, loaded, reasons, steps)

    def _load(
        self, row: Row, path: Path
    ) -> tuple[dict[str, Mapping[str, list[str]]], dict[str, str]]:
        """Everyone builds the row, at the same time: this is not timed."""
        loaded, reasons = {}, {}
        for name in list(self._workers):
            try:
                self._revive(name)
                self._workers[name].send("load", row=rows.to_json(row), path=str(path))
            except WorkerError as error:
                if name in (FASTNN, CEILING):
                    raise
                reasons[name] = str(error)
        for name, worker in self._workers.items():
            try:
                if name not in reasons:
                    loaded[name] = worker.receive()["variants"]
            except (UnsupportedError, WorkerError) as error:
                if name in (FASTNN, CEILING):
                    raise WorkerError(f"{name} on {row.name}: {error}") from None
                reasons[name] = str(error)
        return loaded, reasons

    def _mode(
        self,
        group: str,
        row: Row,
        mode: str,
        loaded: Mapping[str, Mapping[str, list[str]]],
        reasons: Mapping[str, str],
        steps: int | None,
    ) -> Measurement:
        variants = {
            name: [variant for variant, modes in found.items() if mode in modes]
            for name, found in loaded.items()
        }
        timings = {name: Timing("", reason=reason) for name, reason in reasons.items()}
        expected = self._results(FASTNN, variants[FASTNN][0], mode)
        entries: dict[str, tuple[str, str, float]] = {}  # label -> worker, variant, about how long
        for name in variants:
            try:
                right, timings[name] = self._verify(name, variants[name], mode, row, expected)
                if right:
                    self._choose(name, right, mode, row, timings, entries)
            except WorkerError as error:
                if name in (FASTNN, CEILING):
                    raise
                timings[name] = Timing("", reason=str(error))
        turns = self._turns(mode, entries, timings)
        return self._summary(group, row, mode, steps, timings, entries, turns)

    def _results(self, name: str, variant: str, mode: str) -> inputs.Arrays:
        path = self._folder / f"results-{name}.npz"
        self._workers[name].ask("results", variant=variant, mode=mode, path=str(path))
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    def _verify(
        self, name: str, variants: list[str], mode: str, row: Row, expected: inputs.Arrays
    ) -> tuple[list[str], Timing]:
        """The variants whose results are right, and what to say if none is."""
        if name == CEILING:
            return variants, Timing("")
        if not variants:
            return [], Timing("", reason=f"no {mode}")
        right, worst, where = [], 0.0, ""
        for variant in variants:
            gap, array = compare.difference(self._results(name, variant, mode), expected)
            if gap <= compare.tolerance(row):
                right.append(variant)
            if gap >= worst:
                worst, where = gap, f"{variant} {array}"
        if not right:
            reason = f"differs by {worst:.1e} in {where}"
            if name == FASTNN:
                raise WorkerError(f"fastnn's variants of {row.name} disagree: {reason}")
            return [], Timing("", difference=worst, reason=reason)
        return right, Timing("", difference=worst)

    def _choose(
        self,
        name: str,
        variants: list[str],
        mode: str,
        row: Row,
        timings: dict[str, Timing],
        entries: dict[str, tuple[str, str, float]],
    ) -> None:
        """Try the variants; the fastest takes part, or each of them on its own."""
        worker = self._workers[name]
        trials = {v: worker.ask("try", variant=v, mode=mode)["seconds"] for v in variants}
        base = timings.pop(name)._replace(trials=trials)
        if name in getattr(row, "apart", ()):
            for variant, seconds in trials.items():
                entries[f"{name}:{variant}"] = (name, variant, seconds)
                timings[f"{name}:{variant}"] = base._replace(variant=variant)
            return
        best = min(
            trials, key=lambda v: ceiling.cost(v, trials[v]) if name == CEILING else trials[v]
        )
        entries[name] = (name, best, trials[best])
        timings[name] = base._replace(variant=best)

    # ------------------------------------------------------------------ turns

    def _turns(
        self,
        mode: str,
        entries: dict[str, tuple[str, str, float]],
        timings: dict[str, Timing],
    ) -> dict[str, list[Turn]]:
        """What a call takes, for each entry and round. Who fails drops out of entries."""
        whole = sum(seconds for _, _, seconds in entries.values())
        count = int(min(max(self.setup.seconds / whole, LEAST_ROUNDS), MOST_ROUNDS))
        share = self.setup.seconds / count / len(entries)
        turns: dict[str, list[Turn]] = {label: [] for label in entries}
        for turn in range(count):
            for label in list(entries)[:: -1 if turn % 2 else 1]:
                name, variant, about = entries[label]
                request = {
                    "variant": variant,
                    "mode": mode,
                    "calls": max(1, int(share / about)),
                    "warm_up": int(about < LONG_CALL),
                }
                try:
                    turns[label].append(self._turn(name, request, share))
                except WorkerError as error:
                    if name in (FASTNN, CEILING):
                        raise
                    timings[label] = timings[label]._replace(reason=str(error))
                    del entries[label], turns[label]
        return turns

    def _turn(self, name: str, request: Mapping[str, Any], share: float) -> Turn:
        """A few calls; then, where that is asked for, some more beside busy processes."""
        worker, most = self._workers[name], SLOW_TURN * share
        time.sleep(SETTLE_AFTER.get(self._last, SETTLE))
        self._last = name
        alone = worker.ask("time", **request, most=most)["seconds"]
        if self.setup.busy is None or name == CEILING:
            return Turn(median(alone), None)
        with self.setup.busy.at_work():
            time.sleep(SETTLE_AFTER.get(name, SETTLE))
            busy = worker.ask("time", **request, most=most)["seconds"]
        # A short call is either not delayed at all or for a whole time slice: means, not medians.
        return Turn(median(alone), mean(busy) / mean(alone))

    def _summary(
        self,
        group: str,
        row: Row,
        mode: str,
        steps: int | None,
        timings: dict[str, Timing],
        entries: dict[str, tuple[str, str, float]],
        turns: dict[str, list[Turn]],
    ) -> Measurement:
        ours = [turn.seconds for turn in turns[FASTNN]]
        for label in entries:
            theirs = [turn.seconds for turn in turns[label]]
            ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
            growth = [turn.growth for turn in turns[label] if turn.growth is not None]
            timings[label] = timings[label]._replace(
                seconds=median_and_quartiles(theirs),
                ratio=None if label == FASTNN else median_and_quartiles(ratios),
                growth=median_and_quartiles(growth) if growth else None,
            )
        peak = timings.pop(CEILING)
        flops, moved = rows.flops(row, mode, steps), rows.traffic(row, mode)
        work = flops or moved
        rates = [ceiling.amount(peak.variant) / turn.seconds for turn in turns[CEILING]]
        fraction = None
        if work is not None:
            reached = [work / own / rate for own, rate in zip(ours, rates, strict=True)]
            fraction = median_and_quartiles(reached)
        return Measurement(
            group,
            row.name,
            mode,
            self.setup.threads,
            row.plain,
            flops,
            moved,
            timings.pop(FASTNN),
            timings,
            fraction,
            peak.variant,
            median(rates),
        )
