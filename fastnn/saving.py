"""Models as files: one safetensors file, with the configuration as JSON in its metadata.

Weights are named ``weights/<layer>.<weight>``, an optimizer's state ``optimizer/<i>.<slot>``. The
file is written under a temporary name and moved into place; reading it runs no code from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from operator import index
from typing import Any

import numpy as np

from fastnn import losses, metrics, optimizers
from fastnn.arrays import to_numpy
from fastnn.files import write_whole
from fastnn.layers.base import Layer
from fastnn.models import Container, known_models
from fastnn.registry import Config, deserialize, layer_table, serialize
from fastnn.seeding import SeedGenerator

__all__ = ["load_model", "load_weights", "save_model", "save_weights"]

_FORMAT = "fastnn"
_VERSION = 1
_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"


def save_model(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model: configuration, weights, and the optimizer's state if it is compiled.

    Parameters
    ----------
    model : Sequential or Model
        Built: its weights exist.
    path : str or path

    Raises
    ------
    ValueError, TypeError
        If the model is not built, or a part of it has no configuration.
    ImportError
        If safetensors is not installed.
    """
    tensors = _weight_tensors("save", model)
    compiled = model.get_compile_config()
    if model.optimizer is not None:
        state = model.optimizer.get_state()
        tensors |= {_OPTIMIZER + name: array for name, array in state.items()}
    config = {
        "version": _VERSION,
        "model": serialize(model),
        "compile": compiled,
        "noise": [[g.seed, g.counter] for g in _generators(model)],
    }
    try:
        text = json.dumps(config)
    except TypeError as error:
        raise TypeError(
            f"[save] configuration of {model.name!r}: {error}; JSON is needed"
        ) from None
    _write(path, tensors, text)


def save_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Write the weights of a model or layer alone."""
    _write(path, _weight_tensors("save_weights", model), json.dumps({"version": _VERSION}))


def load_model(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """Read a model that `model.save` wrote; it continues training where it stopped.

    Parameters
    ----------
    path : str or path
    custom_objects : mapping of str to object, optional
        Classes and functions of your own that the model uses, by name.

    Returns
    -------
    Sequential or Model

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, or not one of ours, or names an unknown class.
    ImportError
        If safetensors is not installed.
    """
    tensors, config = _read("load_model", path)
    if "model" not in config:
        raise ValueError(
            f"[load_model] {os.fspath(path)} has weights alone; a file written by model.save is "
            "needed (model.load_weights reads this one)"
        )
    known = known_models(custom_objects)
    try:
        return _rebuild(path, tensors, config, known)
    except (KeyError, TypeError, AttributeError, MemoryError) as error:
        raise ValueError(
            f"[load_model] {os.fspath(path)} has a configuration that does not fit ({error!r}); a "
            "file written by model.save of this version is needed"
        ) from error


def _rebuild(
    path: str | os.PathLike[str],
    tensors: dict[str, np.ndarray],
    config: Config,
    known: Mapping[str, Any],
) -> Any:
    model = deserialize(config["model"], layer_table(), known)
    _set_weights("load_model", path, model, tensors)
    _restore_noise(_generators(model), config["noise"])
    if config["compile"] is not None:
        _compile(model, config["compile"], tensors, known)
    return model


def load_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Set the weights of a model from a file; layers and weights must have the names in it."""
    tensors, _ = _read("load_weights", path)
    _set_weights("load_weights", path, model, tensors)


def _compile(
    model: Container, config: Config, tensors: dict[str, np.ndarray], known: Mapping[str, Any]
) -> None:
    accuracy = {"DeferredAccuracy": metrics.DeferredAccuracy, **known}
    optimizer = deserialize(config["optimizer"], optimizers.TABLE, known)
    loss = config["loss"]
    model.compile(
        optimizer,
        None if loss is None else deserialize(loss, losses.TABLE, known),
        [deserialize(m, metrics.TABLE, accuracy) for m in config["metrics"]],
    )
    state = {
        name.removeprefix(_OPTIMIZER): array
        for name, array in tensors.items()
        if name.startswith(_OPTIMIZER)
    }
    if state:
        optimizer.set_state(state, model.flat_weights())


def _generators(model: Layer) -> list[SeedGenerator]:
    """The sources of noise in a model: training goes on with the noise that comes next."""
    found = (getattr(layer, "seed_generator", None) for layer in model.leaves())
    return [generator for generator in found if isinstance(generator, SeedGenerator)]


def _restore_noise(generators: list[SeedGenerator], states: list[list[int]]) -> None:
    if [len(state) for state in states] != [2] * len(generators):
        raise TypeError(f"noise of {len(generators)} layers: {states!r}")
    for generator, (seed, counter) in zip(generators, states, strict=True):
        generator.seed, generator.counter = index(seed), index(counter)


def _weight_tensors(op: str, model: Layer) -> dict[str, np.ndarray]:
    if not model.built:
        raise ValueError(
            f"[{op}] the model {model.name!r} is not built; a call of build(input_shape) or fit is "
            "needed"
        )
    return {
        _WEIGHTS + name: np.ascontiguousarray(to_numpy(weight))
        for name, weight in model.named_weights()
    }


def _set_weights(
    op: str, path: str | os.PathLike[str], model: Layer, tensors: dict[str, np.ndarray]
) -> None:
    own = [_WEIGHTS + name for name, _ in model.named_weights()]
    given = [name for name in tensors if name.startswith(_WEIGHTS)]
    if set(own) != set(given):
        differing = sorted(set(own) ^ set(given))[0].removeprefix(_WEIGHTS)
        raise ValueError(
            f"[{op}] {os.fspath(path)} and the model differ in the weight {differing!r}; a file "
            "of the same layers is needed"
        )
    model.set_weights([tensors[name] for name in own])


# --------------------------------------------------------------------------- the file


def _safetensors(op: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            f"[{op}] safetensors is not installed; pip install 'fastnn[io]' is needed"
        ) from None
    return safetensors


def _write(path: str | os.PathLike[str], tensors: dict[str, np.ndarray], config: str) -> None:
    safetensors = _safetensors("save")
    data = safetensors.numpy.save(tensors, {"format": _FORMAT, "config": config})
    try:
        write_whole(path, data)
    except OSError as error:
        raise type(error)(
            f"[save] {os.fspath(path)}: {error.strerror or error}; a file in a folder that may be "
            "written is needed"
        ) from None


def _read(op: str, path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Config]:
    safetensors = _safetensors(op)
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"[{op}] {name} is not a file; one written by model.save is needed")
    try:
        with safetensors.safe_open(name, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise ValueError(
            f"[{op}] {name} is truncated or not a safetensors file ({error}); a file written by "
            "model.save is needed"
        ) from None
    except (TypeError, AttributeError) as error:  # a dtype that NumPy does not have, as bfloat16
        raise ValueError(
            f"[{op}] {name} has tensors that NumPy cannot hold ({error}); a file written by "
            "model.save is needed"
        ) from None
    if metadata.get("format") != _FORMAT:
        raise ValueError(
            f"[{op}] {name} is a safetensors file without fastnn's configuration; a file written "
            "by model.save is needed"
        )
    try:
        config = json.loads(metadata["config"])
        version = config["version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"[{op}] {name} has a broken configuration ({error!r}); a file written by model.save "
            "is needed"
        ) from None
    if version != _VERSION:
        raise ValueError(
            f"[{op}] {name} has the version {version!r} of the format; {_VERSION} is needed"
        )
    return tensors, config
