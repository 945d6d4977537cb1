"""Options that several commands share, and what they do."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastnn import dispatch, threads
from fastnn.cli.errors import UsageError


def add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=dispatch.NAMES,
        help="which kernels run (default: FASTNN_BACKEND, else auto)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=positive,
        help="CPU threads (default: FASTNN_NUM_THREADS, else one a core)",
    )


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; an integer of at least 1 is needed")
    return int(text)


def seed(text: str) -> int:
    """An argparse type: an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; a non-negative integer is needed")
    return int(text)


def folder(text: str) -> Path:
    """An argparse type: a path that is a folder or does not exist yet."""
    path = Path(text).expanduser()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a file; a folder is needed")
    return path


def choose_backend(name: str | None) -> str:
    """Make ``name`` the process's backend where it is given; return the one that will run.

    "auto" is resolved to what it takes for NumPy arrays, which is what the commands feed.
    """
    try:
        if name is not None:
            dispatch.set_backend(name)
        chosen = dispatch.get_backend()
        if chosen == "auto":
            chosen = next(key for key, reason in dispatch.status().items() if reason is None)
        dispatch.load("backend", chosen)
    except dispatch.BackendUnavailableError as error:
        raise UsageError(str(error)) from None
    return chosen


def choose_threads(count: int | None, backend: str) -> None:
    """Set the number of CPU threads where it is given; only the compiled kernels have threads."""
    if count is None:
        return
    if backend != "cython":
        raise UsageError(
            f"--threads {count} with the backend {backend!r}; the backend 'cython' is needed"
        )
    try:
        threads.set_num_threads(count)
    except ValueError as error:
        raise UsageError(str(error)) from None
