"""``python -m fastnn selftest``: are the gradients of this installation right?"""

from __future__ import annotations

import argparse
import math
import time

from fastnn.cli import options

HELP = "check the gradient of every operation against differences of its output"

TOLERANCE = 1e-7
ELEMENTS = 40  # compared of each array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``selftest``."""
    options.add_backend(parser)
    options.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line for each case; 0 if all are right, 1 if not."""
    backend = options.choose_backend(args.backend)
    options.choose_threads(args.threads, backend)

    import numpy as np

    from fastnn import dispatch
    from fastnn.cli.selftest_cases import cases
    from fastnn.gradient_check import gradcheck

    print(f"backend {backend}, float64; relative error of gradients, at most {TOLERANCE:.0e}\n")
    failed = count = 0
    started = time.perf_counter()
    with dispatch.use_backend(backend):
        for case in cases(np.random.default_rng(0)):
            error = gradcheck(
                case.op, *case.inputs, tolerance=math.inf, samples=ELEMENTS, **case.options
            )
            good = error <= TOLERANCE
            failed += not good
            count += 1
            print(f"  {case.op:<18} {case.detail:<34} {error:8.1e}  {'ok' if good else 'FAIL'}")
    seconds = time.perf_counter() - started
    print(f"\n{count - failed} of {count} right, {failed} failed, in {seconds:.1f} s")
    return 1 if failed else 0
