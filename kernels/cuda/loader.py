"""Compiles the .cu files of this folder at their first use, for the card in hand.

A .cu file is a family of kernels with ``extern "C"`` names; what changes between variants (the
dtype, a tile's size) is a macro. ``load("pool", {"FNN_DTYPE": 32})`` gives its module. CuPy
compiles by NVRTC for the architecture of the current device (machine code, no PTX), keeps the
result on disk for later processes, and one module for each device in memory.

CuPy's disk cache knows a kernel by its source and options but not by its headers, so a hash of them
is among the options. It adds ``-ftz=true``: float32 denormals count as zero, as contract.md has it.

Nothing is compiled, and CuPy is not imported, before the first call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
CELLS = FOLDER.parent / "cells"

# FNN_DTYPE of device.cuh, by the name of the dtype.
DTYPE_CODES = {"float16": 16, "bfloat16": 17, "float32": 32, "float64": 64}


def load(
    name: str, defines: Mapping[str, int | str] | None = None, *, cooperative: bool = False
) -> Any:
    """The module of ``<name>.cu``.

    Parameters
    ----------
    name : str
        A file of this folder, without ``.cu``.
    defines : mapping, optional
        Macros. ``FNN_DTYPE`` is needed by every file that includes ``device.cuh``.
    cooperative : bool
        Launch its kernels so that all blocks of a grid are on the card at once.

    Returns
    -------
    cupy.RawModule
    """
    return _module(name, tuple(sorted((defines or {}).items())), cooperative)


def kernel(
    name: str,
    function: str,
    defines: Mapping[str, int | str] | None = None,
    *,
    cooperative: bool = False,
) -> Any:
    """One kernel of `load`, as a `cupy.RawKernel`."""
    return _kernel(name, function, tuple(sorted((defines or {}).items())), cooperative)


@cache
def typed(name: str, function: str, dtype: Any) -> Any:
    """One kernel of `load` for a dtype, with no other macro."""
    return kernel(name, function, {"FNN_DTYPE": dtype_code(dtype)})


def dtype_code(dtype: Any) -> int:
    """The value of ``FNN_DTYPE`` for a dtype."""
    return DTYPE_CODES[dtype.name]


def source(name: str) -> str:
    """The text of ``<name>.cu``."""
    return (FOLDER / f"{name}.cu").read_text(encoding="utf-8")


def options(defines: Mapping[str, int | str]) -> tuple[str, ...]:
    """What the compiler is told, but for the architecture."""
    return (
        "-std=c++17",
        f"-I{FOLDER}",
        f"-I{CELLS}",
        f"-DFNN_HEADERS={_headers_hash()}",
        *(f"-D{name}={value}" for name, value in sorted(defines.items())),
    )


@cache
def _headers_hash() -> str:
    digest = sha256()
    for path in sorted([*FOLDER.glob("*.cuh"), *CELLS.glob("*.h")]):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return f"0x{digest.hexdigest()[:15]}"


@cache
def _module(name: str, defines: tuple[tuple[str, int | str], ...], cooperative: bool) -> Any:
    import cupy

    return cupy.RawModule(
        code=source(name),
        options=options(dict(defines)),
        backend="nvrtc",
        enable_cooperative_groups=cooperative,
    )


@cache
def _kernel(
    name: str, function: str, defines: tuple[tuple[str, int | str], ...], cooperative: bool
) -> Any:
    return _module(name, defines, cooperative).get_function(function)
