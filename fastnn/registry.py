"""Objects to configurations and back: names in a table, never a pickle."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

Config = dict[str, Any]


def snake_case(name: str) -> str:
    """``"MaxPooling2D"`` -> ``"max_pooling2d"``, the way Keras names layers."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Table:
    """The public classes of a module by name, snake-case name and alias.

    Parameters
    ----------
    kind : str
        What the classes are, for the messages ("layer", "loss", ...).
    classes : sequence of type
    aliases : mapping of str to str, optional
        Short names, such as ``{"mse": "MeanSquaredError"}``.
    """

    def __init__(
        self, kind: str, classes: tuple[type, ...], aliases: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self.classes = {c.__name__: c for c in classes}
        self.names = {snake_case(name): name for name in self.classes} | dict(aliases or {})

    def find(self, name: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
        """The class of that name; a ValueError that lists the names if there is none."""
        if custom_objects and name in custom_objects:
            return custom_objects[name]
        found = self.classes.get(name) or self.classes.get(self.names.get(name.lower(), ""))
        if found is None:
            near = difflib.get_close_matches(name, [*self.classes, *self.names], n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"[{self.kind}] {name!r} is not a known {self.kind}{hint}; one of "
                f"{', '.join(self.names)} or an entry of custom_objects is needed"
            )
        return found

    def get(self, identifier: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
        """An object from a name, a configuration, a class, or the object itself."""
        if isinstance(identifier, str):
            found = self.find(identifier, custom_objects)
            return found() if isinstance(found, type) else found
        if isinstance(identifier, Mapping):
            return deserialize(identifier, self, custom_objects)
        if isinstance(identifier, type):
            return identifier()
        return identifier


class Configurable:
    """An object that can be written down as the arguments that make it again.

    ``config_fields`` names the constructor's arguments; each is kept in the attribute of that name.
    """

    config_fields: tuple[str, ...] = ()

    def get_config(self) -> Config:
        """The constructor's arguments, as plain Python values (JSON can hold them)."""
        return {field: to_plain(getattr(self, field)) for field in self.config_fields}

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({given})"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """A new object from `get_config`'s answer.

        Parameters
        ----------
        config : mapping
        custom_objects : mapping of str to object, optional
            Classes and functions of your own, by the names under which they were written down.
        """
        return cls(**config)


def to_plain(value: Any) -> Any:
    """``value`` with nested objects serialized, tuples as lists and NumPy scalars as numbers."""
    if isinstance(value, Configurable):
        return serialize(value)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def serialize(obj: Configurable) -> Config:
    """``{"class_name", "config"}``, from which `deserialize` makes the object again."""
    if not isinstance(obj, Configurable):
        raise TypeError(
            f"[save] {obj!r} has no configuration; an object of a fastnn class, or of your own "
            "subclass with get_config, is needed"
        )
    return {"class_name": type(obj).__name__, "config": obj.get_config()}


def deserialize(
    config: Mapping[str, Any], table: Table, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """The object that `serialize` wrote down."""
    if not isinstance(config, Mapping) or not {"class_name", "config"} <= set(config):
        raise ValueError(
            f"[{table.kind}] configuration {config!r}; a mapping with class_name and config is "
            "needed"
        )
    cls = table.find(config["class_name"], custom_objects)
    return cls.from_config(config["config"], custom_objects)


def callable_name(function: Any) -> str:
    """How a function is written down; it comes back through ``custom_objects``."""
    return str(getattr(function, "__name__", type(function).__name__))


def layer_table() -> Table:
    """The table of layers; looked up late, because layers hold other layers."""
    table: Table = import_module("fastnn.layers").TABLE
    return table
