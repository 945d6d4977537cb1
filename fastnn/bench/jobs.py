"""What a participant offers for a row, and how it says no."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from fastnn.bench.inputs import Arrays
from fastnn.bench.rows import Row

Results = Callable[[Any], Arrays]


class Unsupported(Exception):
    """The participant has nothing for this row; the text says what is missing."""


class Work(NamedTuple):
    """One thing to time: ``call()`` is timed, ``results`` makes its return value comparable.

    Results are NumPy arrays in fastnn's layouts under the names of `fastnn.bench.inputs`: ``y``
    (time-major, channels last), and in training ``dx`` and ``d`` + the name of each weight.
    ``check`` replaces the call when results are compared, where a call trains on or has noise.
    """

    call: Callable[[], Any]
    results: Results
    check: Callable[[], Any] | None = None

    def checked(self) -> Arrays:
        """The results, for comparison."""
        return self.results((self.check or self.call)())


class Step(NamedTuple):
    """A training step in two halves, for what lives between them.

    ``forward()`` gives what the library keeps for ``backward``; ``held`` counts the bytes of that,
    without inputs, weights and y. ``backward`` gives its argument and all gradients: nothing that
    the step makes is freed before it returns.
    """

    forward: Callable[[], Any]
    held: Callable[[Any], int]
    backward: Callable[[Any], Any]


Job = Mapping[str, Work]  # mode -> work
Jobs = Mapping[str, Job]  # variant -> job; the fastest variant of each mode is what counts


class Participant(Protocol):
    """A module with these; imported in the worker alone."""

    def prepare(self, threads: int) -> str:
        """Import the library, limit its threads, give its version."""

    def jobs(self, row: Row, arrays: Arrays) -> Jobs:
        """What it offers for a row. Raises `Unsupported`."""

    def steps(self, row: Row, arrays: Arrays) -> Mapping[str, Step]:
        """The training steps whose memory can be measured, by variant. May be missing."""
