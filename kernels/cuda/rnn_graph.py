"""Steps of kernel K3 in a CUDA graph: one launch from Python for many steps.

The graph of `CHUNK` steps of one direction and size is captured once and kept with its buffers; a
call copies its weights there, says in device memory where its arrays are, and launches the graph as
often as its steps need. What is left over is launched step by step.

`FASTNN_CUDA_GRAPH=0` switches this off. Where the first capture for a device fails, the steps go
one by one from then on, and `python -m fastnn info --verbose` says why.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import cupy

from fastnn.kernels.cuda import blas
from fastnn.kernels.cuda.rnn_call import Call

if TYPE_CHECKING:
    from fastnn.kernels.cuda.rnn_steps import Steps

CHUNK = 32
VARIABLE = "FASTNN_CUDA_GRAPH"
_MOST_KEPT = 16  # graphs of a thread, each with its weights
_failures: dict[int, str] = {}  # of each device
_own = threading.local()  # graphs: a thread's steps are queued between no other thread's


class _Kept:
    """The steps of one size, and their graph."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.graph: Any = None


def why_not(device: int) -> str | None:
    """Why the steps on a device are launched one by one, or None."""
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE} is 0"
    return _failures.get(device)


def run(kind: type[Steps], call: Call, arrays: tuple[Any, ...], recurrent: Any) -> bool:
    """All steps of a call; False where there is no graph."""
    device = cupy.cuda.runtime.getDevice()
    if why_not(device) is not None:
        return False
    stream = cupy.cuda.get_current_stream()
    try:
        handle = blas.here()
        kept = _kept(kind, call, device, stream)
        handle.use(stream, stream)
        done = _begin(kept, call, arrays, recurrent, handle, stream)
    except Exception as error:  # whatever a driver or a library says that cannot do this
        if type(error).__name__ != "OutOfMemoryError":  # there may be memory the next time
            _failures[device] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return False
    steps = kept.steps
    while call.T - done >= CHUNK:
        kept.graph.launch(stream)
        done += CHUNK
    for k in range(call.T - done):
        steps.step(k, handle.product)
    steps.finish(call.T - done)
    return True


def _begin(
    kept: _Kept, call: Call, arrays: tuple[Any, ...], recurrent: Any, handle: Any, stream: Any
) -> int:
    """Begin a call; how many of its steps are done: with a new graph, the first ones."""
    steps = kept.steps
    steps.begin(call, arrays, recurrent)
    if kept.graph is not None or call.T < CHUNK:
        return 0
    # Before the capture, so that nothing is loaded or set up inside it.
    for k in range(CHUNK):
        steps.step(k, handle.product)
    steps.advance(CHUNK)
    kept.graph = _captured(steps, handle, stream)
    return CHUNK


def _captured(steps: Steps, handle: Any, stream: Any) -> Any:
    side = cupy.cuda.Stream(non_blocking=True)
    handle.use(side, stream)
    with side:
        side.begin_capture()
        try:
            for k in range(CHUNK):
                steps.step(k, handle.product)
            steps.advance(CHUNK)
        finally:  # also where it failed: a stream must not stay in capture
            graph = side.end_capture()
    handle.use(stream, stream)
    return graph


def _kept(kind: type[Steps], call: Call, device: int, stream: Any) -> _Kept:
    if not hasattr(_own, "kept"):
        _own.kept = OrderedDict()
    kept: OrderedDict[Any, _Kept] = _own.kept
    tf32 = os.environ.get("CUPY_TF32") == "1"
    key = (kind, device, stream.ptr, call.B, call.H, tf32, *call.defines.values())
    found = kept.pop(key, None) or _Kept(kind(call))
    kept[key] = found  # the last used is the last to go
    while len(kept) > _MOST_KEPT:
        kept.popitem(last=False)
    return found
