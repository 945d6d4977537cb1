"""The other end of a worker's pipe, and how one is started."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Of this interpreter, fastnn is found as here; another one gets this package alone, and not what
# lies beside it in site-packages.
_START = """
import importlib.util, json, os, sys
config = json.loads(sys.argv[1])
if config["cores"] and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, config["cores"])
if config["path"]:
    sys.path[:] = config["path"]
else:
    spec = importlib.util.spec_from_file_location(
        "fastnn", config["root"] + "/__init__.py", submodule_search_locations=[config["root"]]
    )
    sys.modules["fastnn"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["fastnn"])
from fastnn.bench.worker import serve
serve(config["module"], config["threads"])
"""

# Every library's own way to be told; the affinity bounds those that have none.
_LIMITS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "FASTNN_NUM_THREADS",
)

PATIENCE = 600.0  # seconds for an answer; compiling a graph can take long on a busy machine


class WorkerError(RuntimeError):
    """A worker that died, or answered with an error."""


class UnsupportedError(Exception):
    """The participant has nothing for the row; the text is its reason."""


class Worker:
    """One participant in a process of its own, limited to so many threads and cores.

    Parameters
    ----------
    module : str
        The participant, as `fastnn.bench.jobs.Participant` describes it.
    threads : int
    cores : list of int
        The process may use these alone.
    log : Path
        Where its standard error goes.
    python : str
        The interpreter, of an environment that has the participant's library.
    environment : mapping, optional
        Variables beside those of this process.
    """

    def __init__(
        self,
        module: str,
        threads: int,
        cores: list[int],
        log: Path,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        config = {
            "module": module,
            "threads": threads,
            "cores": cores,
            "root": str(ROOT),
            "path": sys.path if python == sys.executable else [],
        }
        variables = {**os.environ, **{name: str(threads) for name in _LIMITS}}
        # An idle OpenBLAS would spin beside the next participant for a long while.
        variables |= {"OPENBLAS_THREAD_TIMEOUT": "4", **(environment or {})}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-c", _START, json.dumps(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=variables,
            )

    def send(self, do: str, **request: Any) -> None:
        """A request, whose answer `receive` brings."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None

    def receive(self) -> Mapping[str, Any]:
        """The answer.

        Raises
        ------
        UnsupportedError
            The participant cannot do the row.
        WorkerError
            It failed, with what it said.
        """
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], PATIENCE)[0]:
            self.kill()
            raise WorkerError(f"no answer in {PATIENCE:.0f} s")
        line = out.readline()
        if not line:
            raise WorkerError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        if "unsupported" in answer:
            raise UnsupportedError(answer["unsupported"])
        return answer

    def ask(self, do: str, **request: Any) -> Mapping[str, Any]:
        """A request and its answer."""
        self.send(do, **request)
        return self.receive()

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Let it end."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Make it end."""
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        self._process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"died with code {self._process.returncode}: {lines[-1] if lines else 'silent'}"


def usable_cores() -> list[int]:
    """The cores of this process, from the last: the first ones serve interrupts."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0), reverse=True)
    return list(range(os.cpu_count() or 1))[::-1]
