"""``python -m fastnn bench memory``: what a training step holds, in fastnn and in PyTorch.

Beyond inputs, weights, outputs and gradients, in bytes:

========  ==========================================================================================
held      between forward and backward, as the library itself counts it (a tape's saved tensors)
resident  the same, as the system sees the process grow
peak      at most during the whole step
========  ==========================================================================================

Each participant and variant has a process of its own, which has done a small step before: code and
threads are no part of a step, but a work area that is kept for the next call is. Linux alone can
tell the peak.
"""

from __future__ import annotations

import gc
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.bench import inputs, rows
from fastnn.bench.jobs import Step, Unsupported
from fastnn.bench.peers import OURS, PEERS
from fastnn.bench.process import UnsupportedError, Worker, usable_cores
from fastnn.bench.rows import RnnRow

RESET = Path("/proc/self/clear_refs")
WARM_UP = 2
SMALL = (4, 20, 3, 5)  # T, B, I, H of the step before

# Each block of some size by itself: what is freed is given back, and what was freed is not used.
_GLIBC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Held(NamedTuple):
    """Bytes of one participant, of one variant, on one row."""

    row: str
    participant: str
    variant: str
    held: int
    resident: int
    peak: int
    outputs: int  # y and the gradients of x and the weights: what `peak` leaves out


# --------------------------------------------------------------------------- in the worker


def process_memory(field: str) -> int:
    """Bytes of a line of this process's status: "VmRSS" now, "VmHWM" at most."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def of_step(small: Step, step: Step, outputs: tuple[int, int]) -> dict[str, int]:
    """Run the steps; ``outputs``: bytes of y, and of y and all gradients."""
    for _ in range(WARM_UP):
        small.backward(small.forward())
    gc.collect()
    before = process_memory("VmRSS")
    RESET.write_text("5")  # the peak starts from here
    state = step.forward()
    resident = process_memory("VmRSS") - before - outputs[0]
    held = step.held(state)
    gradients = step.backward(state)
    peak = process_memory("VmHWM") - before - outputs[1]
    del gradients
    return {"held": held, "resident": resident, "peak": peak}


def of_row(participant: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's answer: the names of the variants, or the bytes of one."""
    if not hasattr(participant, "steps"):
        raise Unsupported("no way to tell what it holds")
    with np.load(request["path"], allow_pickle=False) as file:
        arrays = dict(file)
    row, variant = rows.from_json(request["row"]), request["variant"]
    steps = participant.steps(row, arrays)
    if variant is None:
        return {"variants": list(steps)}
    assert isinstance(row, RnnRow)  # who has steps for it knows no other
    T, B, I, H = SMALL
    small = row._replace(T=T, B=B, I=I, layers=(row.layers[0]._replace(units=H),))
    warm = participant.steps(small, inputs.make(small))[variant]
    return of_step(warm, steps[variant], _outputs(arrays))


def _outputs(arrays: inputs.Arrays) -> tuple[int, int]:
    y = arrays["dy"].nbytes
    made = sum(array.nbytes for name, array in arrays.items() if name not in ("dy", "lengths"))
    return y, y + made


# --------------------------------------------------------------------------- the command


def unavailable() -> str | None:
    """Why nothing can be measured here, or None."""
    if not os.access(RESET, os.W_OK):
        return f"{RESET} cannot be written; Linux is needed"
    return None


def measure(
    row: RnnRow, threads: int, peers: Mapping[str, str], versions: dict[str, str] | None = None
) -> Iterator[Held]:
    """Each variant of fastnn, then of the peers that can tell.

    Parameters
    ----------
    row : RnnRow
    threads : int
    peers : mapping
        Name in `PEERS` -> interpreter.
    versions : dict, optional
        Gets what each participant calls itself.

    Raises
    ------
    WorkerError
        A process that failed.
    """
    everyone = {"fastnn": (OURS.module, sys.executable)} | {
        name: (PEERS[name].module, python) for name, python in peers.items()
    }
    arrays = inputs.make(row)
    outputs = _outputs(arrays)[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, allow_pickle=False, **arrays)
        request = {"row": rows.to_json(row), "path": str(path)}
        for name, (module, python) in everyone.items():
            variants: list[Any] = [None]  # whose answer is the names of the others
            while variants:
                variant = variants.pop(0)
                cores = usable_cores()[:threads]
                log = Path(folder) / "log"
                worker = Worker(module, threads, cores, log, python, _GLIBC)
                try:
                    version = worker.ask("prepare")["version"]
                    answer = worker.ask("memory", variant=variant, **request)
                except UnsupportedError:
                    break
                finally:
                    worker.close()
                if variant is None:
                    variants = list(answer["variants"])
                else:
                    if versions is not None:
                        versions[name] = version
                    yield Held(row.name, name, variant, **answer, outputs=outputs)


def run(
    chosen: list[RnnRow], threads: int, peers: Mapping[str, str], head: dict[str, Any], path: Path
) -> int:
    """Measure, print a table, and write the file, which begins with ``head``."""
    from fastnn.files import write_whole

    found: list[Held] = []
    print("\nMB beyond inputs, weights, outputs and gradients; in brackets: over fastnn's first\n")
    print(f"{'row':<14}{'participant':<24}{'held':>18}{'resident':>18}{'peak':>18}")
    for row in chosen:
        first = None
        for one in measure(row, threads, peers, head["versions"]):
            found.append(one)
            first = first or one
            print(_line(one, first), flush=True)
    document = {**head, "results": [one._asdict() for one in found]}
    write_whole(path, (json.dumps(document, indent=1) + "\n").encode())
    print(f"\nnumbers  {path}")
    return 0


def _line(one: Held, first: Held) -> str:
    cells = ""
    for value, own in zip(one[3:6], first[3:6], strict=True):
        ratio = value / own if own > 0 else math.nan
        cells += f"{value / 1e6:.2f} [{ratio:.2f}]".rjust(18)
    return f"{one.row:<14}{f'{one.participant} {one.variant}':<24}{cells}"
