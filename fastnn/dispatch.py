"""Which backend runs an operation.

In this order: the saved record's backend (backward), the innermost ``use_backend``,
``set_backend``, the environment variable ``FASTNN_BACKEND``, and ``"auto"``. Auto takes the first
backend that is available and owns every array. A named choice never falls back and never copies
between devices.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any

from fastnn.backends import DEVICES, MODULES, constant

__all__ = [
    "BackendUnavailableError",
    "asarray",
    "constant_weights",
    "get_backend",
    "set_backend",
    "use_backend",
]

NAMES = ("auto", *sorted(MODULES))


class BackendUnavailableError(RuntimeError):
    """A backend was asked for by name and cannot run here; the message has the reason."""


def _checked(origin: str, name: str) -> str:
    if name not in NAMES:
        raise ValueError(
            f"[{origin}] {name!r} is not a backend; one of {', '.join(NAMES)} is needed"
        )
    return name


_selected: str = _checked("FASTNN_BACKEND", os.environ.get("FASTNN_BACKEND") or "auto")
_scoped: ContextVar[str | None] = ContextVar("fastnn_backend", default=None)
_loaded: dict[str, ModuleType] = {}  # those that are available
_auto_by_type: dict[type, str] = {}  # array type -> what auto takes for it


def set_backend(name: str) -> None:
    """Choose the backend of this process, for every thread.

    Parameters
    ----------
    name : str
        ``"auto"``, ``"numpy"``, ``"cython"``, ``"cupy"`` or ``"numba"``.

    Raises
    ------
    ValueError
        If there is no backend of that name. A backend that is known but cannot run here is told
        at its first use, by `BackendUnavailableError`.
    """
    global _selected
    _selected = _checked("set_backend", name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the backend inside a ``with`` block, for this thread or asyncio task alone.

    Parameters
    ----------
    name : str
        As in `set_backend`.
    """
    token = _scoped.set(_checked("use_backend", name))
    try:
        yield
    finally:
        _scoped.reset(token)


def get_backend() -> str:
    """Name of the backend chosen now: ``"auto"`` or the named one."""
    return _scoped.get() or _selected


def constant_weights() -> AbstractContextManager[None]:
    """Promise that weights do not change inside a ``with`` block.

    Backends then keep what they make of weights for inference from one call to the next: packed
    panels, where the backend is ``"cython"``. It pays where calls are short::

        with fastnn.constant_weights():
            for x in stream:  # [1, 1, features], one step at a time
                y = lstm(x)

    `Sequential.predict` and `evaluate` make the promise themselves. It holds for this thread or
    asyncio task alone, until the end of the block. An optimizer's step and ``set_weights`` are
    noticed inside the block, changing an array in place by hand is not.

    Returns
    -------
    context manager
    """
    return constant.promise()


def weights_changed() -> None:
    """Tell backends that they must forget what they keep under `constant_weights`."""
    constant.broken()


def on_device() -> bool:
    """Whether the backend chosen by name keeps its arrays on a device."""
    return (_scoped.get() or _selected) in DEVICES


def asarray(x: Any) -> Any:
    """``x`` as an array of the backend chosen now; the explicit way to move data to a device.

    With ``"auto"``, an array that some backend owns is returned as it is, anything else becomes a
    NumPy array.
    """
    name = get_backend()
    if name == "auto":
        name = _auto_for(x) or "numpy"
    return _placed(load("asarray", name), x)


def _placed(module: ModuleType, x: Any) -> Any:
    # A backend that owns the host's arrays too has a function that moves them.
    return getattr(module, "to_device", module.asarray)(x)


def asarray_like(x: Any, like: Any) -> Any:
    """``x`` as an array of the backend that owns ``like``."""
    return _placed(load("asarray_like", _auto_name("asarray_like", ("like",), (like,))), x)


def choose(
    op: str, names: Sequence[str], arrays: Sequence[Any], optional: Sequence[Any] = ()
) -> tuple[str, ModuleType]:
    """The backend for a call: its name and its module.

    Refuses what the backend does not own. ``optional`` arrays may be None. ``names`` are the
    arguments' names, for the messages.
    """
    name = _scoped.get() or _selected
    if name == "auto":
        name = _auto_name(op, names, arrays)
    module = _loaded.get(name) or load(op, name)
    owns = module.owns
    for x in arrays:
        if not owns(x) or not _aligned(x):
            raise _refused(op, _argument(names, (*arrays, *optional), x), x, name, module)
    for x in optional:
        if x is not None and (not owns(x) or not _aligned(x)):
            raise _refused(op, _argument(names, (*arrays, *optional), x), x, name, module)
    return name, module


def owner(op: str, name: str, dy: Any) -> ModuleType:
    """The backend of a saved record, which must own the upstream gradient."""
    module = _loaded.get(name) or load(op, name)
    if not module.owns(dy) or not _aligned(dy):
        raise _refused(op, "dy", dy, name, module)
    return module


def owner_of(op: str, x: Any) -> ModuleType | None:
    """The backend that a call with ``x`` would go to; None where it does not own ``x``."""
    name = _scoped.get() or _selected
    found = _auto_for(x) if name == "auto" else name
    module = None if found is None else load(op, found)
    return module if module is not None and module.owns(x) else None


def check_aligned(op: str, argument: str, x: Any) -> None:
    """Refuse addresses that are no multiple of the element's size, as in packed records."""
    if not _aligned(x):
        raise ValueError(
            f"[{op}] {argument} is not aligned in memory; an aligned array (a copy) is needed"
        )


def _aligned(x: Any) -> bool:
    return getattr(x.flags, "aligned", True)


def load(op: str, name: str) -> ModuleType:
    """The backend's module, or the reason why it cannot run as `BackendUnavailableError`."""
    module = _loaded.get(name)
    if module is not None:
        return module
    module, reason = _try(_checked(op, name))
    if module is None:
        raise BackendUnavailableError(f"[{op}] the backend {name!r} is not available: {reason}")
    return module


@contextmanager
def side_by_side(x: Any) -> Iterator[Any]:
    """A block for two independent pieces of work on arrays like ``x``.

    The value is a context manager; what runs in it may run beside what ran in the block before it,
    where the backend has streams. After the block both are done, as far as later work can see.
    """
    for module in list(_loaded.values()):
        if hasattr(module, "STREAMS") and module.owns(x):
            with import_module(module.STREAMS).Fork() as side:
                yield side
            return
    yield nullcontext()


def status() -> dict[str, str | None]:
    """For each backend, why it is not available, or None if it is."""
    return {name: _try(name)[1] for name in MODULES}


def _try(name: str) -> tuple[ModuleType | None, str | None]:
    if name in _loaded:
        return _loaded[name], None
    try:
        module = import_module(MODULES[name])
    except ImportError as error:
        return None, f"its module cannot be imported: {error}"
    reason = module.unavailable()
    if reason is not None:
        return None, reason
    _loaded[name] = module
    return module, None


def _auto_name(op: str, names: Sequence[str], arrays: Sequence[Any]) -> str:
    # The first array decides by its type; choose() then sees that the backend owns the others too.
    if not arrays:
        return next(name for name in MODULES if _try(name)[0] is not None)
    first = arrays[0]
    name = _auto_by_type.get(type(first)) or _auto_for(first)
    if name is None:
        raise _unowned(op, names[0], first)
    _auto_by_type[type(first)] = name
    return name


def _auto_for(x: Any) -> str | None:
    for name in MODULES:
        module, _ = _try(name)
        if module is not None and module.owns(x):
            return name
    return None


# --------------------------------------------------------------------------- messages


def _is(x: Any) -> str:
    kind = type(x)
    if kind.__module__ == "builtins":
        return "is None" if x is None else f"is a {kind.__qualname__}"
    return f"is a {kind.__module__}.{kind.__qualname__}"


def _argument(names: Sequence[str], arrays: Sequence[Any], x: Any) -> str:
    return next(name for name, array in zip(names, arrays, strict=True) if array is x)


def _refused(op: str, argument: str, x: Any, backend: str, module: ModuleType) -> Exception:
    if module.owns(x):
        check_aligned(op, argument, x)
    return TypeError(
        f"[{op}] {argument} {_is(x)}; an array of the backend {backend!r} is needed "
        "(fastnn.asarray makes one)"
    )


def _unowned(op: str, argument: str, x: Any) -> Exception:
    for name, path in MODULES.items():
        module, reason = _try(name)
        if module is None and _claims(path, x):
            return BackendUnavailableError(
                f"[{op}] {argument} {_is(x)}, for the backend {name!r}, which is not available: "
                f"{reason}"
            )
    return TypeError(f"[{op}] {argument} {_is(x)}; an array is needed (fastnn.asarray makes one)")


def _claims(path: str, x: Any) -> bool:
    try:
        return bool(import_module(path).owns(x))
    except ImportError:
        return False
