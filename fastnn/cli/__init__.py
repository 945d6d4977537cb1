"""The command line: ``python -m fastnn <command>``.

A command is a module here with ``HELP``, ``add_arguments(parser)`` and ``run(args) -> exit code``,
and its name in `COMMANDS`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from fastnn import dispatch
from fastnn.cli.errors import UsageError

COMMANDS = ("info", "selftest", "demo", "examples", "bench")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code (0 good, 1 failed, 2 wrong usage, 130 interrupted)."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        _check_environment()
        return args.run(args)
    except UsageError as error:
        print(f"fastnn {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has enough, as in `info | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"fastnn {args.command}: interrupted", file=sys.stderr)
        return 130


def _check_environment() -> None:
    """FASTNN_ISA and FASTNN_NUM_THREADS are read when the kernels are imported."""
    try:
        dispatch.status()
    except ValueError as error:
        raise UsageError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastnn", description="Fast neural-network kernels for NumPy arrays."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name in COMMANDS:
        module = import_module(f"fastnn.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
