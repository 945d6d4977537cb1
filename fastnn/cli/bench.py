"""``python -m fastnn bench``: fastnn against the other libraries that are installed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli import options
from fastnn.cli.errors import UsageError

if TYPE_CHECKING:
    from fastnn.bench.busy import BusyCores
    from fastnn.bench.measure import Measurement

HELP = "time fastnn against PyTorch, JAX, TensorFlow and ONNX Runtime, where they are installed"

ON_GPU = ("gpu", "gpu-steps")
GROUPS = ("recurrent", "conv", "pool", "dense", "epoch", "all", "options", "memory", *ON_GPU)
DEFAULT_SECONDS = 0.4
CHOICES = ("FASTNN_BACKEND", "FASTNN_ISA", "FASTNN_WINOGRAD")  # what decides which kernels run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bench``."""
    parser.add_argument(
        "group",
        nargs="?",
        choices=GROUPS,
        default="all",
        help="which rows (default: all, on the CPU; options: what each option of a recurrent layer "
        "costs; memory: what a training step of one holds; gpu: against cuDNN through PyTorch; "
        "gpu-steps: a step of each recurrent kernel beside the model that chooses)",
    )
    parser.add_argument("--rows", type=_names, default=(), help="only these, by name: a,b")
    parser.add_argument(
        "--threads", type=_counts, default=(1, 2), help="numbers of threads (default: 1,2)"
    )
    parser.add_argument(
        "--peers",
        type=_names,
        help="torch,jax,tensorflow,onnxruntime, or none (default: those found)",
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="[PEER=]PATH",
        help="the Python of an environment with the peers, or with one of them; may be repeated",
    )
    parser.add_argument(
        "--time-per-row",
        type=_seconds,
        default=DEFAULT_SECONDS,
        metavar="SECONDS",
        help=f"for each row, mode and number of threads (default: {DEFAULT_SECONDS})",
    )
    parser.add_argument(
        "--busy",
        type=options.positive,
        default=0,
        metavar="N",
        help="repeat every turn while N cores are kept busy by another process each, and tell how "
        "much longer it takes",
    )
    parser.add_argument(
        "--limit",
        type=_seconds,
        metavar="SECONDS",
        help="gpu, gpu-steps: start no row after this time (default: none); rows that are in the "
        "file of --json are not measured again, and --rows takes parts of names there",
    )
    parser.add_argument(
        "--compile",
        type=_workers,
        metavar="N",
        help="gpu, gpu-steps: compile kernels ahead in N processes (default: one a core, at most "
        "16; 0: each kernel when it is needed)",
    )
    parser.add_argument("--json", type=Path, help="the file (default: runs/bench/GROUP.json)")
    parser.add_argument("--png", type=Path, help="the picture (default: runs/bench/GROUP.png)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(options.positive(part) for part in _names(text))
    if not counts:
        raise argparse.ArgumentTypeError(f"{text!r}; numbers of threads such as 1,2 are needed")
    return counts


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}; a positive number of seconds is needed")
    return value


def _workers(text: str) -> int:
    return 0 if text.strip() == "0" else options.positive(text)


def run(args: argparse.Namespace) -> int:
    """Verify, time, tell; 1 if a peer's results differ from fastnn's."""
    if args.group in ON_GPU:
        return _run_gpu(args)
    if args.group in ("options", "memory"):
        return _run_recurrent(args)
    # Here and not above: the other commands need none of it.
    from fastnn.bench import inputs, report
    from fastnn.bench.busy import BusyCores
    from fastnn.bench.process import WorkerError, usable_cores
    from fastnn.bench.rows import select

    try:
        chosen = select(args.group, args.rows)
    except ValueError as error:
        raise UsageError(str(error)) from None
    _check_threads(args.threads)
    peers = find_peers(args.peers, args.python)
    outputs = {
        suffix: _target(getattr(args, suffix) or Path("runs/bench") / f"{args.group}.{suffix}")
        for suffix in ("json", "png")
    }
    print(f"cpu      {report.cpu_model()}, {len(usable_cores())} cores")
    if any(group == "epoch" for group, _ in chosen):
        print(f"epochs   on {inputs.epoch_data()}")
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        cores = usable_cores()[: args.busy]
        busy = stack.enter_context(BusyCores(cores)) if cores else None
        found: list[Measurement] = []
        failed = False
        try:
            for measurement in _measure(args, chosen, peers, versions, busy):
                found.append(measurement)
        except WorkerError as error:
            failed = True
            print(f"fastnn bench: {error}", file=sys.stderr)
    print()
    print(report.tables(found))
    document = report.document(found, versions, _settings(args))
    _write(outputs["json"], outputs["png"], found, document)
    differing = [(m.row, name) for m in found for name, t in m.peers.items() if _differs(t)]
    for row, name in differing:
        print(f"fastnn bench: {name} differs from fastnn on {row}", file=sys.stderr)
    return 1 if differing or failed else 0


def _run_recurrent(args: argparse.Namespace) -> int:
    """What options cost, or what a training step holds: rows of one recurrent layer."""
    from fastnn.bench import memory, options, report
    from fastnn.bench.process import WorkerError
    from fastnn.bench.rows import is_one_layer, select

    of_memory = args.group == "memory"
    reason = memory.unavailable() if of_memory else None
    if reason is not None:
        raise UsageError(f"bench memory: {reason}")
    try:
        chosen = [row for _, row in select("recurrent", args.rows) if is_one_layer(row)]
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not chosen:
        raise UsageError(
            f"--rows {','.join(args.rows)}; one plain layer in one direction is needed"
        )
    _check_threads(args.threads)
    if of_memory:
        args.threads = (max(args.threads),)
    target = _target(args.json or Path("runs/bench") / f"{args.group}.json")
    head = report.circumstances({}, _settings(args))
    print(f"cpu      {head['cpu']}, {head['cores']} cores")
    print(f"fastnn   {', '.join(f'{k} {v}' for k, v in head['settings']['running'].items())}")
    try:
        if of_memory:
            peers = find_peers(args.peers, args.python)
            return memory.run(chosen, max(args.threads), peers, head, target)
        return options.run(chosen, args.threads, args.time_per_row, head, target)
    except WorkerError as error:
        print(f"fastnn bench: {error}", file=sys.stderr)
        return 1


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """How this command was called, and what of fastnn runs."""
    from fastnn.bench import ours

    return {
        "group": args.group,
        "seconds": args.time_per_row,
        "busy": args.busy,
        "threads": list(args.threads),
        "running": ours.running(),
        "environment": {name: os.environ[name] for name in CHOICES if name in os.environ},
    }


def _check_threads(counts: tuple[int, ...]) -> None:
    from fastnn.bench.process import usable_cores

    most = len(usable_cores())
    if max(counts) > most:
        raise UsageError(f"--threads {max(counts)} on {most} cores; at most {most} is needed")


def _run_gpu(args: argparse.Namespace) -> int:
    from fastnn.bench import gpu, gpu_rows, gpu_steps
    from fastnn.bench.process import usable_cores

    reason = gpu.unavailable()
    if reason is not None:
        raise UsageError(f"bench {args.group}: {reason}")
    workers = min(16, len(usable_cores())) if args.compile is None else args.compile
    target = _target(args.json or Path("runs/bench") / f"{args.group}.json")
    smallest = args.rows == ("smallest",)
    try:
        if args.group == "gpu-steps":
            steps = gpu_steps.smallest() if smallest else gpu_steps.chosen(args.rows)
            return gpu_steps.run(steps, target, args.limit, workers)
        found = gpu_rows.smallest() if smallest else gpu_rows.chosen(args.rows, gpu_rows.rows())
        return gpu.run(found, target, args.time_per_row, args.limit, workers)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _differs(timing: Any) -> bool:
    return timing.ratio is None and timing.difference is not None


def _measure(
    args: argparse.Namespace,
    chosen: Any,
    peers: dict[str, str],
    versions: dict[str, str],
    busy: BusyCores | None,
) -> Iterable[Measurement]:
    from fastnn.bench.measure import CEILING, Session, Setup

    for threads in args.threads:
        progress = _Progress(threads, len(chosen))
        with Session(Setup(threads, peers, args.time_per_row, busy), progress.say) as session:
            for name, version in session.versions.items():
                if name not in versions and name != CEILING:
                    versions[name] = version
                    progress.clear()
                    print(f"{name:<8} {version}")
            for group, row in chosen:
                yield from session.measure(group, row)
                progress.done += 1
        progress.clear()


class _Progress:
    """One line on a terminal that is written over; nothing elsewhere."""

    def __init__(self, threads: int, count: int) -> None:
        self.threads, self.count, self.done = threads, count, 0
        self.terminal = sys.stderr.isatty()

    def say(self, text: str) -> None:
        if self.terminal:
            words = f"{self.threads} threads, {self.done + 1} of {self.count}  {text}"
            print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


# --------------------------------------------------------------------------- peers, files


def find_peers(names: tuple[str, ...] | None, pythons: list[str]) -> dict[str, str]:
    """Which peers take part, and the interpreter of each.

    Raises
    ------
    UsageError
        A name that is none, an interpreter that does not start, or a peer that was asked for and
        is not installed.
    """
    from fastnn.bench.peers import PEERS

    asked = tuple(PEERS) if names is None else () if names == ("none",) else names
    general, own = sys.executable, {}
    for text in pythons:
        name, equals, path = text.partition("=")
        if equals:
            own[name] = path
        else:
            general = text
    for name in (*asked, *own):
        if name not in PEERS:
            raise UsageError(f"{name!r} is not a peer; one of {', '.join(PEERS)} is needed")
    found = {}
    for name in asked:
        python = own.get(name, general)
        missing = _missing(python, PEERS[name].packages)
        if not missing:
            found[name] = python
        elif names is not None or name in own:
            raise UsageError(
                f"{PEERS[name].title}: {python} has no {' and no '.join(missing)}; "
                f"{PEERS[name].install} is needed"
            )
    return found


def _missing(python: str, packages: tuple[str, ...]) -> list[str]:
    code = (
        "import sys; from importlib.util import find_spec; "
        "print(*(p for p in sys.argv[1:] if find_spec(p) is None))"
    )
    try:
        # -P: a folder here that is called like a package is not that package.
        done = subprocess.run(
            [python, "-P", "-c", code, *packages], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"--python {python}: {error}; an interpreter of Python 3.11 or newer is needed"
        ) from None
    return done.stdout.split()


def _target(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; a folder to write is needed") from None
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file is needed")
    return path


def _write(target: Path, picture: Path, found: list[Measurement], document: dict[str, Any]) -> None:
    from fastnn.bench import chart
    from fastnn.files import write_whole

    write_whole(target, (json.dumps(document, indent=1) + "\n").encode())
    print(f"\nnumbers  {target}")
    subtitle = (
        f"{document['cpu']}, {document['cores']} cores, {document['date'][:10]}; "
        + ", ".join(
            f"{name} {version.partition(',')[0]}" for name, version in document["versions"].items()
        )
    )
    try:
        chart.draw(picture, found, "The peers' time over fastnn's: more than 1 is slower", subtitle)
        print(f"picture  {picture}")
    except (ImportError, ValueError) as error:
        print(f"no picture: {error}")
