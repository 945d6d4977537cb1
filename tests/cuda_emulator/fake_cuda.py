"""``cupy.cuda`` of the stand-in: a device with the numbers of an H100, streams that do nothing.

While a stream is captured, kernels and products are kept instead of run; whatever else CuPy would
do at once (an allocation, a product through CuPy) is refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

ATTRIBUTES = {
    # fake_cupy.settings.resident: grids whose blocks wait for each other fit.
    "MultiProcessorCount": 32,
    "MaxThreadsPerBlock": 1024,
    "MaxThreadsPerMultiProcessor": 2048,
    "MaxSharedMemoryPerBlock": 48 << 10,
    "MaxSharedMemoryPerBlockOptin": 227 << 10,
    "MaxSharedMemoryPerMultiprocessor": 228 << 10,
    "ReservedSharedMemoryPerBlock": 1 << 10,
    "MaxRegistersPerBlock": 1 << 16,
    "MaxRegistersPerMultiprocessor": 1 << 16,
    "WarpSize": 32,
    "L2CacheSize": 50 << 20,
    "CooperativeLaunch": 1,
    "ComputeCapabilityMajor": 9,
    "ComputeCapabilityMinor": 0,
}


class CUDARuntimeError(RuntimeError):
    """What the runtime refuses."""


class Device:
    """The one device."""

    def __init__(self, device: int = 0) -> None:
        self.id = int(device)

    compute_capability = "90"
    mem_info = (64 << 30, 80 << 30)

    @property
    def attributes(self) -> dict[str, int]:
        return dict(ATTRIBUTES)

    def synchronize(self) -> None:
        _counts["synchronizations"] += 1

    def use(self) -> None:
        pass

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *details: Any) -> None:
        pass

    def __int__(self) -> int:
        return self.id


_captured: list[Callable[[], None]] | None = None


def submit(work: Callable[[], None]) -> None:
    """Do it, or keep it for the graph that is captured."""
    if _captured is None:
        work()
    else:
        _captured.append(work)


def refuse_in_capture(what: str) -> None:
    """What a captured stream cannot hold."""
    if _captured is not None:
        raise NotImplementedError(f"{what} during stream capture is currently unsupported")


class Graph:
    """What was captured."""

    def __init__(self, work: list[Callable[[], None]]) -> None:
        self._work = work

    def launch(self, stream: Stream | None = None) -> None:
        _counts["graphs"] += 1
        for item in self._work:
            submit(item)


class Stream:
    """A stream: everything is done when it is asked for."""

    null: Stream
    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        pass

    def synchronize(self) -> None:
        _counts["synchronizations"] += 1

    def use(self) -> Stream:
        return self

    def wait_event(self, event: Event) -> None:
        pass

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def begin_capture(self, mode: int | None = None) -> None:
        global _captured
        refuse_in_capture("another capture")
        if self is Stream.null:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: the legacy stream")
        _captured = []

    def end_capture(self) -> Graph:
        global _captured
        work, _captured = _captured, None
        assert work is not None
        return Graph(work)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *details: Any) -> None:
        pass


Stream.null = Stream()


class Event:
    """A point in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.time = 0.0

    def record(self, stream: Stream | None = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        _counts["synchronizations"] += 1


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds."""
    return (end.time - start.time) * 1e3


_counts: Counter[str] = Counter()


def _no_cublas() -> int:
    raise RuntimeError("the stand-in has no cuBLAS; fake_cublas.py is one for tests")


def make_cuda(counts: Counter[str]) -> ModuleType:
    """The module; ``counts`` is told of everything that waits."""
    global _counts
    _counts = counts
    module = ModuleType("cupy.cuda")
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        getDeviceProperties=lambda device: {
            "name": b"CUDA emulator of the tests",
            "major": 9,
            "minor": 0,
            "multiProcessorCount": ATTRIBUTES["MultiProcessorCount"],
            "totalGlobalMem": 80 << 30,
            "l2CacheSize": ATTRIBUTES["L2CacheSize"],
        },
        deviceSynchronize=lambda: None,
    )
    module.__dict__.update(
        Device=Device,
        Stream=Stream,
        Event=Event,
        Graph=Graph,
        device=SimpleNamespace(get_cublas_handle=_no_cublas),
        runtime=runtime,
        get_elapsed_time=get_elapsed_time,
        get_current_stream=lambda: Stream.null,
        is_available=lambda: True,
        alloc_pinned_memory=lambda size: memoryview(bytearray(size)),
    )
    return module
