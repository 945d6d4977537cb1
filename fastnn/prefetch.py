"""Batches of data that do not fit on the device: the next one goes there while this one is used.

A data set stays on the device where it takes at most half of the memory that is free. A larger one
stays on the host, and its batches go through two slots, each a page-locked buffer and one on the
device:

    copies     | batch 1 -> slot 0 | batch 2 -> slot 1 | batch 3 -> slot 0 |
    training                       |  step on slot 0   |  step on slot 1   |

A copy into a slot waits, on the device, for the step that used it; a step for the copy that it
needs. That is CuPy; on Numba a batch is copied when its step begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastnn import dispatch
from fastnn.batches import Data
from fastnn.deferred import on_device

_SHARE = 0.5  # of the free memory, that a data set may take


def stays_on_host(arrays: Iterable[Any], dtype: Any) -> bool:
    """Whether host arrays are too large for the device, each counted in the wider of its dtypes."""
    size = 0
    for a in arrays:
        there = on_device(a) or hasattr(a, "__cuda_array_interface__")
        if a is not None and not there:
            host = np.asarray(a)
            size += host.size * max(host.dtype.itemsize, np.dtype(dtype).itemsize)
    return size > _SHARE * dispatch.load("fit", dispatch.get_backend()).free_memory()


def fetched(source: Iterable[Data]) -> Iterator[Data]:
    """Batches of host arrays, as arrays on the device of the chosen backend."""
    if dispatch.get_backend() == "cupy":
        yield from Prefetched(source)
        return
    for batch in source:
        yield Data(*(None if a is None else dispatch.asarray(a) for a in batch))


class Prefetched:
    """Batches of host arrays, as arrays on the device.

    A batch lies in a buffer that a later one uses again: keep nothing of it.

    Parameters
    ----------
    source : iterable of Data
        May use its own buffers again for the next batch.
    """

    def __init__(self, source: Iterable[Data]) -> None:
        self.source = source
        self._slots = [_Slot(), _Slot()]

    def __iter__(self) -> Iterator[Data]:
        import cupy

        copies = cupy.cuda.Stream(non_blocking=True)
        ready: tuple[_Slot, Data] | None = None
        try:
            for i, batch in enumerate(self.source):
                slot = self._slots[i % 2]
                following = slot, slot.upload(batch, copies)
                if ready is not None:
                    yield self._used(*ready)
                    ready[0].release()
                ready = following
            if ready is not None:
                yield self._used(*ready)
                ready[0].release()
        finally:
            # Who stops early leaves a copy on its way, into memory that is soon another array's.
            for slot in self._slots:
                if slot.copied is not None:
                    cupy.cuda.get_current_stream().wait_event(slot.copied)

    @staticmethod
    def _used(slot: _Slot, batch: Data) -> Data:
        import cupy

        cupy.cuda.get_current_stream().wait_event(slot.copied)
        return batch


class _Slot:
    """One batch's buffers, and the events that say when they may be written and read."""

    def __init__(self) -> None:
        self._pinned: list[Any] = []
        self._device: list[Any] = []
        self.copied: Any = None
        self._free: Any = None

    def upload(self, batch: Data, stream: Any) -> Data:
        """Start copying; the result may be read after ``copied``."""
        import cupy

        if self.copied is None:
            self.copied = cupy.cuda.Event()
        else:
            self.copied.synchronize()  # two batches ago: the host's buffer is to be written
        if not self._device:
            self._make(batch)
        stream.wait_event(self._free)
        parts: list[Any] = []
        for source, pinned, target in zip(batch, self._pinned, self._device, strict=True):
            if source is None:
                parts.append(None)
                continue
            n = len(source)
            pinned[:n] = source
            target[:n].set(pinned[:n], stream=stream)
            parts.append(target[:n])
        self.copied.record(stream)
        return Data(*parts)

    def release(self) -> None:
        """Everything that reads the batch has been asked of the current stream."""
        import cupy

        if self._free is None:
            self._free = cupy.cuda.Event()
        self._free.record(cupy.cuda.get_current_stream())

    def _make(self, batch: Data) -> None:
        import cupy

        for a in batch:
            if a is None:
                self._pinned.append(None)
                self._device.append(None)
                continue
            memory = cupy.cuda.alloc_pinned_memory(max(a.nbytes, 1))
            flat = np.frombuffer(memory, a.dtype, math.prod(a.shape))
            self._pinned.append(flat.reshape(a.shape))
            self._device.append(cupy.empty(a.shape, a.dtype))
        # The memory of the new arrays may still be read by what the current stream did before.
        self.release()
