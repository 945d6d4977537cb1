"""Neural-network kernels for NumPy arrays, and a thin layer API with Keras 3's names.

Kernels are functions (`fastnn.ops`); forward gives what backward needs::

    y, saved = fastnn.conv2d_forward(x, kernel, padding="same")
    grads = fastnn.conv2d_backward(dy, saved)

Layers (`fastnn.layers`) hold weights, and a model trains them::

    model = fastnn.Sequential([fastnn.layers.LSTM(64), fastnn.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=5)

`set_backend` chooses who computes, `set_num_threads` on how many cores; ``python -m fastnn`` lists
the commands. Nothing is imported before it is asked for.
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
    "memory",
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
    "Model": "fastnn.functional",
    "Sequential": "fastnn.models",
    "empty_cache": "fastnn.memory",
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
    elif name == "__all__":
        value = __dir__()
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
