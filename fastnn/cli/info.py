"""``python -m fastnn info``: what this installation can run, and why not the rest."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import import_module, metadata

import fastnn
from fastnn import datasets, dispatch

HELP = "show the backends, the instruction set, threads, versions and settings"

PACKAGES = (
    "numpy",
    "safetensors",
    "matplotlib",
    "tqdm",
    "scikit-learn",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "numba",
    "numba-cuda",
)
VARIABLES = (
    "FASTNN_BACKEND",
    "FASTNN_NUM_THREADS",
    "FASTNN_ISA",
    "FASTNN_CUDA_RNN",
    "FASTNN_CUDA_GRAPH",
    "FASTNN_DATA",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--verbose``."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="also what a backend says of its choices, such as the recurrent kernels of a GPU",
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; always succeeds."""
    print(f"fastnn {fastnn.__version__}")
    print(f"  Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print("\nbackends")
    for name, reason in dispatch.status().items():
        print(f"  {name:<8} {'available' if reason is None else 'not available: ' + reason}")
        if reason is None:
            backend = dispatch.load("info", name)
            facts = backend.describe()
            if args.verbose and hasattr(backend, "DETAILS"):
                facts |= import_module(backend.DETAILS).details()
            for key, value in facts.items():
                print(f"  {'':<8}   {key}: {_text(value)}")
    print(f"  chosen: {dispatch.get_backend()}")
    print("\npackages")
    for package in PACKAGES:
        print(f"  {package:<14} {_version(package) or 'not installed'}")
    print("\nsettings")
    for variable in VARIABLES:
        print(f"  {variable:<20} {os.environ.get(variable) or '(not set)'}")
    print(f"  {'data cache':<20} {datasets.cache_dir()}")
    return 0


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
