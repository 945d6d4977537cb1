"""``python -m fastnn examples``: the programs of examples/, listed and run.

They are installed with the package, as ``fastnn/examples``; in a source tree they lie beside it.
Each runs in a Python of its own, as ``python examples/<name>.py`` does.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import fastnn
from fastnn.cli import options
from fastnn.cli.errors import UsageError

HELP = "list the example programs, or run some of them"


class Example(NamedTuple):
    """A program: its file, its number as in ``03_row_rnn.py``, its title."""

    path: Path
    number: int
    title: str

    @property
    def name(self) -> str:
        """The file's name without number and ending."""
        return self.path.stem.partition("_")[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "which",
        nargs="*",
        metavar="example",
        help="numbers or names, or 'all'; without any the list is printed",
    )
    parser.add_argument("--quick", action="store_true", help="smaller: seconds instead of minutes")
    parser.add_argument("--out", type=options.folder, help="folder for pictures and results")
    parser.add_argument("--seed", type=options.seed, help="of weights, order and noise")
    options.add_backend(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list, or run what is asked for; 1 if any of it failed."""
    known = find(folder())
    if not args.which:
        if args.quick or args.out or args.seed is not None or args.backend:
            raise UsageError("options without an example; a number, a name or 'all' is needed")
        for example in known:
            print(f"{example.number:3}  {example.name:<22} {example.title}")
        print(f"\npython -m fastnn examples <number> [--quick]; the programs are in {folder()}")
        return 0
    chosen = choose(known, args.which)
    flags = ["--quick"] if args.quick else []
    for flag in ("out", "seed"):
        value = getattr(args, flag)
        flags += [] if value is None else [f"--{flag}", str(value)]
    environment = child_environment()
    if args.backend:
        options.choose_backend(args.backend)  # refuses what cannot run here, before any of them
        environment["FASTNN_BACKEND"] = args.backend
    failed = []
    for i, example in enumerate(chosen):
        print(f"{'' if i == 0 else chr(10)}--- {example.path.name}", flush=True)
        start = time.perf_counter()
        code = subprocess.run([sys.executable, str(example.path), *flags], env=environment)
        print(f"--- {time.perf_counter() - start:.1f} s", flush=True)
        if code.returncode:
            failed.append(example.path.name)
    if failed:
        print(f"{len(failed)} of {len(chosen)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def folder() -> Path:
    """Where the programs are."""
    package = Path(fastnn.__file__).resolve().parent
    for place in (package / "examples", package.parent / "examples"):
        if any(place.glob("[0-9]*_*.py")):
            return place
    raise UsageError(
        f"no example programs in {package / 'examples'}; an installation of the whole package is "
        "needed"
    )


def find(place: Path) -> list[Example]:
    """The programs of a folder, in the order of their numbers."""
    found = []
    for path in place.glob("[0-9]*_*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        number = int(path.stem.partition("_")[0])
        title = text.partition("\n")[0].removeprefix(f"{number}.").strip()
        found.append(Example(path, number, title))
    return sorted(found, key=lambda example: example.number)


def choose(known: list[Example], which: list[str]) -> list[Example]:
    """The programs of these numbers and names, each once."""
    if which == ["all"]:
        return known
    chosen = []
    for word in which:
        stem = word.removesuffix(".py")
        fitting = [
            example
            for example in known
            if stem in (example.name, example.path.stem)
            or (stem.isdecimal() and int(stem) == example.number)
        ]
        if not fitting:
            raise UsageError(
                f"example {word!r}; one of {', '.join(str(e.number) for e in known)}, a name "
                "(see the list), or 'all' alone is needed"
            )
        chosen += [example for example in fitting if example not in chosen]
    return chosen


def child_environment() -> dict[str, str]:
    """The environment for a child, which finds the fastnn that runs here."""
    environment = dict(os.environ)
    root = Path(fastnn.__file__).resolve().parents[1]
    # An installed package is found anyway, and its neighbours must not hide modules of Python's.
    if root.name not in ("site-packages", "dist-packages"):
        others = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *others])
    return environment
