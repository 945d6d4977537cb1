"""Layers with Keras 3 names, arguments, defaults and weight layouts."""

from fastnn.layers import conv, core, function, merging, pooling, recurrent, shaping, wrappers
from fastnn.layers.base import Layer
from fastnn.layers.conv import *  # noqa: F403
from fastnn.layers.core import *  # noqa: F403
from fastnn.layers.function import *  # noqa: F403
from fastnn.layers.merging import *  # noqa: F403
from fastnn.layers.pooling import *  # noqa: F403
from fastnn.layers.recurrent import *  # noqa: F403
from fastnn.layers.shaping import *  # noqa: F403
from fastnn.layers.wrappers import *  # noqa: F403
from fastnn.registry import Table

_MODULES = (core, conv, function, merging, pooling, recurrent, shaping, wrappers)

__all__ = ["Layer", *(name for module in _MODULES for name in module.__all__)]

TABLE = Table(
    "layer",
    tuple(
        c
        for module in _MODULES
        for c in (getattr(module, name) for name in module.__all__)
        if isinstance(c, type)
    ),
)
