"""Batches of data that do not fit on the device: the next one goes there while this one is used.

A data set stays on the device where it takes at most half of the memory that is free. A larger one
stays on the host, and its batches go through two slots, each a page-locked buffer and one on the
device:

    copies     | batch 1 -> slot 0 | batch 2 -> slot 1 | batch 3 -> slot 0 |
    training                       |  step on slot 0   |  step on slot 1   |

A copy into a slot waits, on the device, for the step that used it; a step for the copy that it
needs; the host, before it writes a page-locked buffer, for the copy that reads it. Streams, events
and memory are the backend's, in the module that it names as ``TRANSFERS``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib import import_module
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
    backend = dispatch.load("fit", dispatch.get_backend())
    return iter(Prefetched(source, import_module(backend.TRANSFERS)))


class Prefetched:
    """Batches of host arrays, as arrays on the device.

    A batch lies in a buffer that a later one uses again: keep nothing of it.

    Parameters
    ----------
    source : iterable of Data
        May use its own buffers again for the next batch. No batch is larger than the first two.
    transfers : module
        ``fastnn.kernels.cuda.transfers``, or another with its functions.
    """

    def __init__(self, source: Iterable[Data], transfers: Any) -> None:
        self.source = source
        self._transfers = transfers
        self._slots = [_Slot(transfers), _Slot(transfers)]

    def __iter__(self) -> Iterator[Data]:
        copies = self._transfers.copy_stream()
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
            # Who stops early leaves a copy on its way, between memory that is soon another array's.
            copies.synchronize()

    def _used(self, slot: _Slot, batch: Data) -> Data:
        self._transfers.wait(self._transfers.compute_stream(), slot.copied)
        return batch


class _Slot:
    """One batch's buffers, and the events that say when they may be written and read."""

    def __init__(self, transfers: Any) -> None:
        self._transfers = transfers
        self._pinned: list[Any] = []
        self._device: list[Any] = []
        self.copied: Any = None
        self._free: Any = None

    def upload(self, batch: Data, stream: Any) -> Data:
        """Start copying; the result may be read after ``copied``."""
        if self.copied is None:
            self.copied = self._transfers.event()
            self._make(batch)
        else:
            self.copied.synchronize()  # two batches ago: the host's buffer is to be written
        self._transfers.wait(stream, self._free)
        parts: list[Any] = []
        for source, pinned, target in zip(batch, self._pinned, self._device, strict=True):
            if source is None:
                parts.append(None)
                continue
            n = len(source)
            pinned[:n] = source
            self._transfers.copy(pinned[:n], target[:n], stream)
            parts.append(target[:n])
        self.copied.record(stream)
        return Data(*parts)

    def release(self) -> None:
        """Everything that reads the batch has been asked of the stream that computes."""
        if self._free is None:
            self._free = self._transfers.event()
        self._free.record(self._transfers.compute_stream())

    def _make(self, batch: Data) -> None:
        for a in batch:
            if a is None:
                self._pinned.append(None)
                self._device.append(None)
                continue
            dtype = a.dtype.newbyteorder("=")
            memory = self._transfers.page_locked(max(a.nbytes, 1))
            flat = np.frombuffer(memory, dtype, math.prod(a.shape))
            self._pinned.append(flat.reshape(a.shape))
            self._device.append(self._transfers.empty(a.shape, dtype))
        # The memory of the new arrays may still be read by what was asked of the device before.
        self.release()
