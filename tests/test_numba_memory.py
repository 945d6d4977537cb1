"""The pool of device memory, on a context that only counts: no driver is needed."""

from __future__ import annotations

import gc
import os
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

if find_spec("numba") is None:
    pytest.skip("numba is not installed: pip install 'fastnn[test]'", allow_module_level=True)
if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
    pytest.skip("the simulator has no memory of its own", allow_module_level=True)


class Context:
    """Addresses that are not there; a block is free when nobody holds it."""

    def __init__(self, room: int) -> None:
        self.extras: dict = {}
        self.room = room  # bytes
        self.given: list[int] = []
        self._next = 1 << 20

    def memalloc(self, size):
        if size > self.room:
            raise MemoryError
        self.room -= size
        self.given.append(size)
        self._next += size
        block = _Block()
        block.device_pointer = self._pointer(self._next)
        block.context, block.size = self, size
        return block

    @staticmethod
    def _pointer(address):
        try:
            from numba.cuda.cudadrv.driver import binding

            return binding.CUdeviceptr(address)
        except (ImportError, AttributeError):
            from ctypes import c_void_p

            return c_void_p(address)

    def get_memory_info(self):
        return SimpleNamespace(free=self.room)


class _Block:
    def __del__(self):
        self.context.room += self.size


@pytest.fixture
def memory(monkeypatch):
    from fastnn.kernels.numba import memory

    context = Context(1 << 20)
    monkeypatch.setattr(memory.cuda, "current_context", lambda: context)
    memory.context = context
    yield memory
    del memory.context


def address(array):
    return array.device_ctypes_pointer.value


def test_memory_is_used_again_once_nothing_refers_to_it(memory):
    one = memory.allocate(100, np.float32)
    assert one.shape == (100,) and one.dtype == np.float32 and one.is_c_contiguous()
    other = memory.allocate(100, np.float32)
    assert address(one) != address(other)
    view = one._do_getitem(slice(10, 20))
    assert address(view) == address(one) + 40
    where = address(one)
    del one
    gc.collect()
    assert address(memory.allocate(100, np.float32)) != where  # the view holds it
    del view
    gc.collect()
    again = memory.allocate(55, np.float64)  # another dtype, nearly the same size
    assert address(again) == where
    assert len(memory.context.given) == 3


def test_a_view_of_a_view_holds_the_memory(memory):
    view = memory.allocate(64, np.float64)._do_getitem(slice(8, 40))._do_getitem(slice(8, 16))
    gc.collect()
    assert address(view) not in {address(memory.allocate(64, np.float64)) + 128 for _ in range(3)}


def test_what_is_kept_is_given_back_where_memory_is_short(memory):
    context = memory.context
    first = memory.allocate(1 << 19, "u1")
    assert context.room == 1 << 19
    del first
    gc.collect()
    assert context.room == 1 << 19 and memory.free_bytes() == 1 << 20
    memory.allocate(3 << 18, "u1")  # more than what the driver has, less than what there is
    gc.collect()
    assert context.given == [1 << 19, 3 << 18]
    memory.empty()
    gc.collect()
    assert context.room == 1 << 20 == memory.free_bytes()
    with pytest.raises(MemoryError):
        memory.allocate(1 << 21, "u1")


def test_a_block_is_little_larger_than_its_array(memory):
    for n in (1, 511, 512, 513, 5000, 123457, 10**9 + 7):
        size = memory._block_size(n)
        assert n <= size <= max(512, n + n // 8 + 512) and size % 512 == 0
    assert memory._block_size(1000 * 4) == memory._block_size(1001 * 4)
