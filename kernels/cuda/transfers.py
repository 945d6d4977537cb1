"""What `fastnn.prefetch` needs of CuPy: streams, events, page-locked memory, copies."""

from __future__ import annotations

from typing import Any

import cupy

event = cupy.cuda.Event
empty = cupy.empty
page_locked = cupy.cuda.alloc_pinned_memory


def compute_stream() -> Any:
    """The stream that kernels run on."""
    return cupy.cuda.get_current_stream()


def copy_stream() -> Any:
    """A stream that waits for no other unless it is told to."""
    return cupy.cuda.Stream(non_blocking=True)


def wait(stream: Any, event: Any) -> None:
    """What is asked of the stream from here on comes after the event."""
    stream.wait_event(event)


def copy(host: Any, target: Any, stream: Any) -> None:
    """Start copying page-locked memory to an array of its shape and dtype."""
    target.set(host, stream=stream)
