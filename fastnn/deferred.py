"""Answers that a device can give later, so that a training step never waits for it.

A check of values (labels inside the classes, say) needs an answer of the device, and so does a
loss as a float. Inside `deferred` the checks gather as flags on the device and the loss stays
there; the flags are looked at by `Deferred.settle`, once an epoch. The kernels themselves read and
write nothing outside their arrays, whatever the values are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_HOMES = ("cupy", "fastnn.kernels.numba.")  # modules of such arrays; none is imported here

_current: ContextVar[Deferred | None] = ContextVar("fastnn_deferred", default=None)


class Deferred:
    """The checks that wait: message -> a flag on the device."""

    def __init__(self) -> None:
        self._flags: dict[str, Any] = {}

    def add(self, message: str, bad: Any) -> None:
        """Remember that ``message`` is to be raised if ``bad``, an array without axes, is true."""
        earlier = self._flags.get(message)
        self._flags[message] = bad if earlier is None else earlier | bad

    def settle(self) -> None:
        """Wait for the device; raise what was found.

        Raises
        ------
        ValueError
        """
        flags, self._flags = self._flags, {}
        for message, bad in flags.items():
            if bool(bad):
                raise ValueError(message)


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Put checks of values on a device off, until ``settle`` is called."""
    own = Deferred()
    token = _current.set(own)
    try:
        yield own
    finally:
        _current.reset(token)


def waits(x: Any) -> bool:
    """Whether checks of ``x`` are to be put off: it lies on a device, and a block says so."""
    return _current.get() is not None and on_device(x)


def put_off(message: str, bad: Any) -> None:
    """`Deferred.add` of the innermost block."""
    current = _current.get()
    assert current is not None  # the caller has asked `waits`
    current.add(message, bad)


def on_device(x: Any) -> bool:
    """Whether ``x`` is an array whose own arithmetic runs on a device: CuPy's, or Numba's."""
    return type(x).__module__.startswith(_HOMES)
