"""Compiles the kernels that GPU rows need before they are timed, in several processes.

NVRTC takes a second or so for a variant, and the rows have hundreds. Each process compiles into
CuPy's cache on disk, from which the one that times loads them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from fastnn.bench import gpu_jobs
from fastnn.bench.gpu_rows import ConvRow, OptionRow, RecurrentRow, Row
from fastnn.kernels.cuda import loader, rnn_variants
from fastnn.kernels.cuda.rnn_choice import choose
from fastnn.kernels.cuda.rnn_shapes import Card
from fastnn.kernels.cuda.rnn_variants import Variant

_LONGEST = 120  # seconds for a variant; NVRTC takes about one
_TILES = (16, 32, 64)  # of conv_implicit.cu
_CONV = ("conv_columns", "conv_depthwise", "pointwise")


def variants(row: Row, card: Card, wanted: str | None = None) -> list[Variant]:
    """What a row launches on a card, or may: of a convolution, the files of every method.

    Parameters
    ----------
    row : Row
    card : Card
    wanted : "k0" to "k3", optional
        The recurrent kernel that was asked for.
    """
    if isinstance(row, OptionRow):
        row = row.plain
    dtype = gpu_jobs.dtype_of(row.precision)
    if isinstance(row, RecurrentRow):
        return _recurrent(row, dtype, card, wanted)
    base = (("FNN_DTYPE", loader.dtype_code(dtype)),)
    if isinstance(row, ConvRow):
        tiles = [Variant("conv_implicit", (*base, ("FNN_TILE", tile))) for tile in _TILES]
        return [*(Variant(name, base) for name in _CONV), *tiles]
    name = {"max": "pool", "average": "pool", "im2col": "conv_columns"}.get(row.operation)
    return [Variant(name or "pointwise", base)]


def _recurrent(row: RecurrentRow, dtype: object, card: Card, wanted: str | None) -> list[Variant]:
    code = rnn_variants.cell_code(row.cell, True)
    found = [rnn_variants.of_steps(code, dtype, False)]
    for backward in (False, True):
        tf32 = row.precision == "tf32"
        work = rnn_variants.work(
            row.cell, True, row.H, row.B, dtype, backward, card.capability, tf32
        )
        plan = choose(card, work, wanted)
        if plan.kernel != "k3":
            found.append(rnn_variants.of_plan(work, plan, dtype, False))
    return found


def compile_all(found: Iterable[Variant], workers: int) -> list[str]:
    """Compile each variant once; what went wrong, in words. With one worker, in this process."""
    once = list(dict.fromkeys(found))
    workers = min(workers, len(once))
    if workers <= 1:
        return [words for variant in once if (words := _compile(variant))]
    # Not by fork: a CUDA context does not survive it.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        return [words for words in pool.map(_compile, once, timeout=_LONGEST) if words]
    except Exception as error:  # a process that died; the rows say what is missing
        return [f"{type(error).__name__}: {error}"]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ahead(found: list[Variant], workers: int) -> str:
    """`compile_all`, and a line that says how long it took."""
    begin = time.monotonic()
    failures = compile_all(found, workers)
    words = f"compiled             {len(set(found))} kernels in {time.monotonic() - begin:.1f} s"
    return "\n  ".join([words, *failures])


def _compile(variant: Variant) -> str | None:
    try:
        module = loader.load(variant.name, dict(variant.defines), cooperative=variant.cooperative)
        module.compile()
    except Exception as error:  # one variant must not end the others
        return f"{variant.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None
