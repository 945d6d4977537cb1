"""Processes that keep cores busy when they are told to."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

# Pinned to a core; computes between a line "1" and a line "0", ends when the pipe is closed.
_CODE = """
import os, select, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [int(sys.argv[1])])
at_work = False
while True:
    if not at_work or select.select([0], [], [], 0)[0]:
        order = os.read(0, 1)
        if not order:
            break
        at_work = order == b"1"
        os.write(1, order)
    else:
        sum(range(20_000))
"""


class BusyCores:
    """One process for each of some cores; a context manager that ends them.

    Parameters
    ----------
    cores : sequence of int
    """

    def __init__(self, cores: Sequence[int]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-S", "-c", _CODE, str(core)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
            for core in cores
        ]

    def __enter__(self) -> BusyCores:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """All of them compute for as long as the ``with`` block lasts."""
        self._order(b"1")
        try:
            yield
        finally:
            self._order(b"0")

    def _order(self, order: bytes) -> None:
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(order)
            if process.stdout.read(1) != order:
                raise RuntimeError(f"a busy process ended with code {process.wait()}")
