"""The process of one participant: it answers requests, and computes only when asked.

A request is a line of JSON on standard input, the answer a line on what was standard output. What
the library prints goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from fastnn.bench import memory
from fastnn.bench.jobs import Jobs, Unsupported, Work
from fastnn.bench.rows import from_json

TRIAL_CALLS, TRIAL_SECONDS = 5, 0.1


def serve(module: str, threads: int) -> None:
    """Prepare the participant, then answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    participant: Any = None
    jobs: Jobs = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                participant = import_module(module)
                answer({"version": participant.prepare(threads)})
            elif request["do"] == "load":
                jobs = {}  # frees those of the last row before there are new ones
                jobs = load(participant, request)
                answer({"variants": {name: list(job) for name, job in jobs.items()}})
            elif request["do"] == "results":
                work = jobs[request["variant"]][request["mode"]]
                save(request["path"], work.checked())
                answer({})
            elif request["do"] == "memory":
                answer(memory.of_row(participant, request))
            elif request["do"] == "try":
                answer({"seconds": attempt(jobs[request["variant"]][request["mode"]])})
            else:
                work = jobs[request["variant"]][request["mode"]]
                most = request.get("most", math.inf)
                answer({"seconds": timed(work.call, request["calls"], request["warm_up"], most)})
        except Unsupported as reason:
            answer({"unsupported": str(reason)})
        except Exception as error:
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {str(error)[:500]}"})


def load(participant: Any, request: dict[str, Any]) -> Jobs:
    """The participant's jobs for a row whose arrays are in a file."""
    with np.load(request["path"], allow_pickle=False) as file:
        arrays = dict(file)
    return participant.jobs(from_json(request["row"]), arrays)


def save(path: str, results: dict[str, np.ndarray]) -> None:
    """Results for the process that compares them."""
    np.savez(path, allow_pickle=False, **results)


def attempt(work: Work) -> float:
    """About how long a call takes: the least of a few, after one that warms up."""
    first = timed(work.call, 1, 0)
    if first[0] > 5 * TRIAL_SECONDS:  # an epoch, or a first call that compiles
        return min(timed(work.call, 1, 0))
    found = timed(work.call, 1, 0)
    while len(found) < TRIAL_CALLS and sum(found) < TRIAL_SECONDS:
        found += timed(work.call, 1, 0)
    return min(found)


def timed(call: Callable[[], Any], calls: int, warm_up: int, most: float = math.inf) -> list[float]:
    """Seconds of each of so many calls; none starts when there was one and ``most`` is over."""
    for _ in range(warm_up):
        call()
    seconds: list[float] = []
    while len(seconds) < calls and not (seconds and sum(seconds) > most):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds
