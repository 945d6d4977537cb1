"""Sequential: a stack of layers that trains; what it shares with other models of layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastnn import dispatch
from fastnn.layers.activated import ActivatedLayer
from fastnn.layers.base import Array, Layer, Shape
from fastnn.layers.fusion import relu_joins_pooling
from fastnn.registry import Config, deserialize, layer_table, serialize
from fastnn.training import Trainer

__all__ = ["Container", "Sequential"]


class Container(Trainer):
    """What a model of layers is, however they are joined.

    Subclasses keep ``layers`` in an order in which they can be computed, the last one giving the
    output, and set ``_output_shape`` and ``_mask``.
    """

    uses_mask = True
    layers: list[Layer]
    _output_shape: Any = None

    def layer_shapes(self) -> Sequence[Any]:
        """Output shape of every layer, batch included; None where it is not known yet."""
        raise NotImplementedError(f"[{self.name}] {type(self).__name__} has no layer_shapes")

    def sublayers(self) -> Sequence[Layer]:
        """The layers."""
        return self.layers

    @property
    def input_shape(self) -> Shape | None:
        """Shape for which the model was built, batch included; None before."""
        return self._input_shape

    @property
    def output_shape(self) -> Shape | None:
        """Shape of the output, batch included; None before the model is built."""
        return self._output_shape if self.built else None

    def get_layer(self, name: str) -> Layer:
        """The layer of that name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"[{self.name}] no layer named {name!r}; one of "
            f"{', '.join(layer.name for layer in self.layers)} is needed"
        )

    def reset_states(self) -> None:
        """Forget the states of all stateful layers."""
        for layer in self.leaves():
            if layer is not self and hasattr(layer, "reset_states"):
                layer.reset_states()

    def _cast(self, x: Any) -> Array:
        return x if hasattr(x, "dtype") else dispatch.asarray(x)  # the first layer casts

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """That of the last layer, from the last call."""
        return self._mask

    # ------------------------------------------------------------------ description and files

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table of layers, output shapes and numbers of weights.

        Parameters
        ----------
        print_fn : callable
            Gets each line.
        """
        rows = [("Layer (type)", "Output shape", "Weights")]
        for layer, shape in zip(self.layers, self.layer_shapes(), strict=True):
            count = f"{layer.count_params():,}" if layer.built else "not built"
            rows.append((f"{layer.name} ({type(layer).__name__})", str(shape or "?"), count))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}" for row in rows
        ]
        rule = "-" * len(lines[0])
        print_fn(f"Model {self.name!r}")
        for line in (rule, lines[0], rule, *lines[1:], rule):
            print_fn(line)
        if self.built:
            total = self.count_params()
            free = sum(
                int(weight.size)
                for layer in self.trainable_leaves()
                for weight in layer._weights.values()
            )
            print_fn(f"{total:,} weights, {free:,} of them trainable")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save configuration, weights and the optimizer's state into one safetensors file.

        The file is complete or not there at all. `fastnn.load_model` reads it.

        Parameters
        ----------
        path : str or path
        """
        from fastnn import saving

        saving.save_model(self, path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Save the weights alone; see `load_weights`."""
        from fastnn import saving

        saving.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Set the weights from a file of `save` or `save_weights`."""
        from fastnn import saving

        saving.load_weights(self, path)


class Sequential(Container):
    """Layers one after the other. It is a layer itself and can stand in another model.

    Parameters
    ----------
    layers : iterable of Layer, optional
    name : str, optional
    trainable : bool

    Examples
    --------
    >>> from fastnn import Sequential, layers
    >>> model = Sequential([layers.Input((28, 28)), layers.SimpleRNN(150), layers.Dense(10)])
    >>> model.count_params()
    28360
    """

    def __init__(
        self,
        layers: Iterable[Layer] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self.layers: list[Layer] = []
        for layer in layers or ():
            self.add(layer)

    # ------------------------------------------------------------------ structure

    def add(self, layer: Layer) -> None:
        """Append a layer.

        Raises
        ------
        TypeError, ValueError
            If it is not a layer, is in the model already, or has the name of another one.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"[{self.name}] add({layer!r}); a layer is needed")
        if any(layer is own for own in self.layers):
            raise ValueError(f"[{self.name}] {layer!r} a second time; another layer is needed")
        names = {own.name for own in self.layers}
        if layer.name in names and not layer.named_by_user:
            layer.name = next(
                name for i in range(1, len(names) + 2) if (name := f"{layer.name}_{i}") not in names
            )
        if layer.name in names:
            raise ValueError(f"[{self.name}] two layers named {layer.name!r}; two names are needed")
        self.layers.append(layer)
        if self.built:
            self._build_layer(layer, self._output_shape)
        elif len(self.layers) == 1:
            self.batch_input_shape = layer.batch_input_shape
        if self.batch_input_shape is not None:
            self.build(self.batch_input_shape)

    def create_weights(self, input_shape: Shape) -> None:
        """Build every layer."""
        self._output_shape: Any = tuple(input_shape)
        for layer in self.layers:
            self._build_layer(layer, self._output_shape)

    def _build_layer(self, layer: Layer, shape: Shape) -> None:
        layer.build(shape)
        output = layer.compute_output_shape(shape)
        if output and isinstance(output[0], tuple):
            raise ValueError(
                f"[{self.name}] {layer!r} gives {len(output)} outputs; a layer with one output "
                "(return_state=False) is needed"
            )
        self._output_shape = output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the last layer."""
        shape: Any = tuple(input_shape)
        for layer in self.layers:
            shape = layer.compute_output_shape(shape)
        return shape

    def layer_shapes(self) -> Sequence[Any]:
        """Output shape of every layer, batch included; None before the model is built."""
        shape: Any = self._input_shape
        found = []
        for layer in self.layers:
            shape = None if shape is None else layer.compute_output_shape(shape)
            found.append(shape)
        return found

    # ------------------------------------------------------------------ computing

    def forward(
        self, x: Array, training: bool, mask: Array | None = None, logits: bool = False
    ) -> tuple[Array, Any]:
        """Through all layers, with the mask handed on where layers hand it on."""
        last = len(self.layers) - 1
        relu_left = False
        for i, layer in enumerate(self.layers):
            options: dict[str, Any] = {}
            if mask is not None and layer.uses_mask:
                options["mask"] = mask
            if logits and i == last and isinstance(layer, ActivatedLayer):
                options["logits"] = True
            if relu_left:
                options["activation"] = "relu"
            relu_left = i < last and relu_joins_pooling(layer, self.layers[i + 1])
            if relu_left:
                options["logits"] = True
            y = layer(x, training, **options)
            mask = layer.compute_mask(x, mask)
            x = y
        self._mask = mask
        return x, None

    def vjp(self, dy: Array, saved: Any) -> Array:
        """Back through all layers."""
        first = 0
        if not self.need_dx:
            first = next((i for i, layer in enumerate(self.layers) if layer.weights), 0)
            self.layers[first].need_dx = False
        try:
            for layer in reversed(self.layers[first:]):
                if dy is None:  # above an embedding: integers have no gradient
                    break
                dy = layer.backward(dy)
        finally:
            self.layers[first].need_dx = True
        return dy if self.need_dx else None

    # ------------------------------------------------------------------ description and files

    def get_config(self) -> Config:
        """Layers, and the input shape if the model is built."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": [serialize(layer) for layer in self.layers],
            "build_input_shape": None if self._input_shape is None else list(self._input_shape),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """The model again, with new weights."""
        table = layer_table()
        known = known_models(custom_objects)
        layers = [deserialize(c, table, known) for c in config["layers"]]
        model = cls(layers, config.get("name"), config.get("trainable", True))
        shape = config.get("build_input_shape")
        if shape is not None and not model.built:
            model.build((None, *shape[1:]))
        return model


def known_models(custom_objects: Mapping[str, Any] | None) -> dict[str, Any]:
    """The classes of models by name, and what the user adds, for reading configurations."""
    from fastnn.functional import Model  # it imports this module

    return {"Sequential": Sequential, "Model": Model, **(custom_objects or {})}
