"""Two pieces of work side by side: the second on a stream of its own.

    with Fork() as side:
        a()             # on the current stream
        with side:
            b()         # on the other stream, which waits for what came before the fork
    c()                 # after both

CuPy's memory pool gives what a stream frees to that stream alone. The side stream works between a
fork and its join only and each fork waits for all that came before, so memory that comes back to it
is no longer read. What the current stream made is not freed inside a fork by those who use this.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from types import TracebackType
from typing import Any

import cupy

_forked: ContextVar[bool] = ContextVar("fastnn_cuda_forked", default=False)


def sharing() -> int:
    """How many streams share the card now: kernels that would fill it take their part."""
    return 2 if _forked.get() else 1


@cache
def _side_stream(device: int) -> Any:
    return cupy.cuda.Stream(non_blocking=True)


class Fork:
    """A fork of the current stream; inside another fork, nothing."""

    def __enter__(self) -> _Side:
        self._nested = _forked.get()
        if self._nested:
            return _Side(None, None)
        self._token = _forked.set(True)
        self._main = cupy.cuda.get_current_stream()
        self._side = _side_stream(cupy.cuda.runtime.getDevice())
        return _Side(self._side, self._main.record())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._nested:
            self._main.wait_event(self._side.record())
            _forked.reset(self._token)


class _Side:
    """The other stream as a context, from the point of the fork on."""

    def __init__(self, stream: Any, begin: Any) -> None:
        self._stream, self._begin = stream, begin

    def __enter__(self) -> None:
        if self._stream is not None:
            self._stream.wait_event(self._begin)
            self._stream.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.__exit__(kind, error, trace)
