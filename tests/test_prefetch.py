"""Batches fetched ahead, on a machine whose streams may run in any order that the waits allow."""

from __future__ import annotations

import os
from collections import deque
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn import prefetch
from fastnn.batches import Data

COPIES, COMPUTE = "copies", "compute"
WAITS = {
    "step": "a step waits for its copy",
    "copy": "a copy waits for the step that used the slot",
    "host": "the host waits for the copy before it writes the buffer",
    "end": "at the end the host waits for copies on their way",
    "before": "the first copy waits for what was asked before",
}


class Machine:
    """The functions of a module of transfers; what they ask for is done later.

    Parameters
    ----------
    eager : stream, or None
        The one that does its work as soon as it may; the other only when somebody waits for it.
    without : key of WAITS, optional
        A wait that is not done.
    """

    def __init__(self, eager=None, without=None):
        self.eager, self.without = eager, without
        self.queues = {COPIES: deque(), COMPUTE: deque()}
        self.log, self.errors = [], []

    # ----------------------------------------------------------- what prefetch calls

    def compute_stream(self):
        return COMPUTE

    def copy_stream(self):
        return SimpleNamespace(synchronize=self._end)

    def event(self):
        return Event(self)

    def wait(self, stream, event):
        name = self.name(stream)
        if self.without != {COMPUTE: "step", COPIES: "copy"}[name]:
            self.ask(name, ("wait", event, event.asked))

    def page_locked(self, size):
        return bytearray(size)

    def empty(self, shape, dtype):
        # Memory that is used again: what was asked before still reads it.
        array = np.full(shape, 77, dtype)
        self.ask(COMPUTE, ("do", lambda: self.check("old", (array == 77).all())))
        return array

    def copy(self, host, target, stream):
        assert host.shape == target.shape and host.dtype == target.dtype
        self.log.append("copy")
        self.ask(self.name(stream), ("do", lambda: target.__setitem__(..., host)))

    # ----------------------------------------------------------- how it works

    def name(self, stream):
        return stream if stream == COMPUTE else COPIES

    def _end(self):
        if self.without != "end":
            while self.queues[COPIES]:
                self.force(COPIES)

    def check(self, what, good):
        if not good:
            self.errors.append(what)

    def ask(self, name, work):
        self.queues[name].append(work)
        if self.eager is not None:
            while self._ready(self.eager):
                self._do(self.eager)

    def _ready(self, name):
        queue = self.queues[name]
        return queue and (queue[0][0] != "wait" or queue[0][1].done >= queue[0][2])

    def _do(self, name):
        kind, work, *number = self.queues[name].popleft()
        if kind == "do":
            work()
        elif kind == "record":
            work.done = number[0]

    def force(self, name):
        """Do the next thing of a stream, and first what it waits for."""
        kind, event, *number = self.queues[name][0]
        if kind == "wait":
            event.reach(number[0])
        self._do(name)


class Event:
    """An event: how often it was recorded, and how many of the recordings are reached."""

    def __init__(self, machine):
        self.machine, self.asked, self.done, self.stream = machine, 0, 0, None

    def record(self, stream):
        name = self.machine.name(stream)
        if self.machine.without == "before" and name == COMPUTE and self.stream is None:
            self.stream = name
            return
        self.asked, self.stream = self.asked + 1, name
        self.machine.ask(name, ("record", self, self.asked))

    def synchronize(self):
        if self.machine.without != "host":
            self.reach(self.asked)

    def reach(self, number):
        while self.done < number:
            self.machine.force(self.stream)


ROWS, SIZE = 11, 2


def run(machine, stop=None):
    """An epoch of reading: what is wrong with it."""
    own = np.empty((SIZE, 3)), np.empty(SIZE, "int64")
    x, y = np.arange(3.0 * ROWS).reshape(ROWS, 3), np.arange(ROWS)

    def source():
        for start in range(0, ROWS, SIZE):
            n = min(SIZE, ROWS - start)
            for array, buffer in zip((x, y), own, strict=True):
                buffer[:n] = array[start : start + n]
            yield Data(own[0][:n], own[1][:n])

    def step(i, batch):
        rows = slice(i * SIZE, i * SIZE + SIZE)
        machine.ran += 1
        machine.check(i, np.array_equal(batch.x, x[rows]) and np.array_equal(batch.y, y[rows]))

    machine.ran, steps = 0, 0
    batches = iter(prefetch.Prefetched(source(), machine))
    for i, batch in enumerate(batches):
        machine.log.append(("step", i))
        machine.ask(COMPUTE, ("do", lambda i=i, batch=batch: step(i, batch)))
        steps += 1
        if steps == stop:
            break
    batches.close()
    machine.check("copies on their way", not machine.queues[COPIES])
    for name in (COMPUTE, COPIES):
        while machine.queues[name]:
            machine.force(name)
    assert machine.ran == steps == (stop or -(-ROWS // SIZE))
    return machine.errors


@pytest.mark.parametrize("eager", [None, COPIES, COMPUTE])
@pytest.mark.parametrize("stop", [None, 1, 2, 3])
def test_every_step_reads_its_batch_in_any_order_of_work(eager, stop):
    assert run(Machine(eager), stop) == []


@pytest.mark.parametrize("without", WAITS)
def test_without_one_of_its_waits_it_goes_wrong(without):
    found = [
        run(Machine(eager, without), stop)
        for eager in (None, COPIES, COMPUTE)
        for stop in (None, 2)
    ]
    assert any(found), WAITS[without]


def test_the_next_copy_is_asked_for_before_a_step():
    machine = Machine()
    run(machine)
    batches = -(-ROWS // SIZE)
    for i in range(batches):
        before = machine.log[: machine.log.index(("step", i))]
        assert before.count("copy") == 2 * min(i + 2, batches)  # of x and y; never two ahead


def test_a_batch_without_targets_and_one_of_another_byte_order():
    machine = Machine(COPIES)
    (batch,) = prefetch.Prefetched([Data(np.arange(4, dtype=">f4"), None)], machine)
    assert batch.y is None and batch.weight is None
    assert batch.x.dtype.isnative and batch.x.tolist() == [0, 1, 2, 3]


def test_no_batches_are_no_batches():
    assert list(prefetch.Prefetched([], Machine())) == []


# --------------------------------------------------------------------------- Numba's stream

numba_driver = pytest.mark.skipif(
    find_spec("numba") is None or os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"),
    reason="numba is not installed (pip install 'fastnn[test]'), or it is the simulator",
)


@pytest.fixture
def numba_transfers(monkeypatch):
    """The module, a driver that tells what it is asked for, and a context that keeps things."""
    from numba.cuda.cudadrv import driver

    from fastnn.kernels.numba import transfers

    context = SimpleNamespace(extras={})
    asked = []

    def create(*args):
        asked.append(args[-1])
        if len(args) == 2:  # ctypes: the handle is written to the first
            args[0]._obj.value = 1234
        return 1234

    stand_in = SimpleNamespace(cuStreamCreate=create)
    monkeypatch.setattr(transfers.cuda, "current_context", lambda: context)
    monkeypatch.setattr(transfers.cuda, "external_stream", lambda address: ("ours", address))
    monkeypatch.setattr(transfers.cuda, "stream", lambda: "blocking")
    monkeypatch.setattr(driver, "driver", stand_in)
    return SimpleNamespace(module=transfers, driver=driver, stand_in=stand_in, asked=asked)


@numba_driver
@pytest.mark.filterwarnings("ignore:Importing from numba:DeprecationWarning")
@pytest.mark.parametrize("binding", [True, False])
def test_numbas_stream_does_not_wait_for_kernels(numba_transfers, monkeypatch, binding):
    monkeypatch.setattr(numba_transfers.driver, "USE_NV_BINDING", binding, raising=False)
    if not binding:
        from numba.cuda.cudadrv import drvapi

        if not hasattr(drvapi, "cu_stream"):
            pytest.skip("this numba-cuda has one binding")
    for _ in range(2):  # one for each context
        assert numba_transfers.module.copy_stream() == ("ours", 1234)
    assert numba_transfers.asked == [1]  # CU_STREAM_NON_BLOCKING


@numba_driver
def test_numbas_own_stream_serves_where_the_driver_is_another(numba_transfers):
    del numba_transfers.stand_in.cuStreamCreate
    assert numba_transfers.module.copy_stream() == "blocking"
