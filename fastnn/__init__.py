"""Neural-network kernels for NumPy arrays, and a thin layer API with Keras 3's names.

Nothing is imported before it is asked for: ``import fastnn`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn import dispatch as dispatch  # an unknown FASTNN_BACKEND is refused right here

if TYPE_CHECKING:
    from fastnn.dispatch import *  # noqa: F403
    from fastnn.ops import *  # noqa: F403
    from fastnn.types import *  # noqa: F403

_MODULES = (
    "callbacks",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "plotting",
    "saving",
    "threads",
    "types",
)
_NAMES = {
    "Sequential": "fastnn.models",
    "get_num_threads": "fastnn.threads",
    "gradcheck": "fastnn.gradient_check",
    "load_model": "fastnn.saving",
    "set_num_threads": "fastnn.threads",
    "set_random_seed": "fastnn.seeding",
    "use_num_threads": "fastnn.threads",
}
_FLAT = ("fastnn.dispatch", "fastnn.ops", "fastnn.types")  # every public name of these


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULES:
        return import_module(f"fastnn.{name}")
    elif name in _NAMES:
        value = getattr(import_module(_NAMES[name]), name)
    elif name.startswith("_"):
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    else:
        value = _flat(name)
    globals()[name] = value  # asked for once
    return value


def _flat(name: str) -> Any:
    for path in _FLAT:
        module = import_module(path)
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fastnn")
    except PackageNotFoundError:  # a source tree on sys.path that was never installed
        return "0+unknown"


def __dir__() -> list[str]:
    names = {"__version__", *_MODULES, *_NAMES}
    for path in _FLAT:
        names.update(import_module(path).__all__)
    return sorted(names)
