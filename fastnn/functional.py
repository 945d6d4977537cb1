"""Model: layers joined to a graph, for networks that are more than a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastnn.layers.activated import ActivatedLayer
from fastnn.layers.base import Array, Layer, Shape
from fastnn.layers.fusion import relu_joins_pooling
from fastnn.layers.symbolic import Node, SymbolicTensor, as_tensor
from fastnn.models import Container, known_models
from fastnn.registry import Config, deserialize, layer_table, serialize

__all__ = ["Model"]


class Model(Container):
    """A graph of layers from one input to one output. It is a layer itself.

    Parameters
    ----------
    inputs : what `layers.Input` gives
    outputs : SymbolicTensor
        What a layer gave that was called on ``inputs``, or on what another gave.
    name : str, optional
    trainable : bool

    Raises
    ------
    TypeError, ValueError
        If there is not one input and one output, the output does not come from the input, or two
        layers have one name.

    Examples
    --------
    >>> from fastnn import Model, layers
    >>> x = layers.Input((28, 28))
    >>> y, first = layers.SimpleRNN(100, return_sequences=True, return_state=True)(x)
    >>> last = layers.SimpleRNN(100)(y)
    >>> states = layers.Concatenate()([first, last])
    >>> Model(x, layers.Dense(10, activation="softmax")(states)).count_params()
    35010

    Notes
    -----
    A layer has one place in a graph. What no path joins to the output is left out.
    """

    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, trainable: bool = True
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        start, end = self._one("inputs", inputs), self._one("outputs", outputs)
        if start.node.inputs:
            raise ValueError(f"[{self.name}] inputs={inputs!r}; what layers.Input gives is needed")
        self._end = end.index
        self._nodes = _in_order(self.name, start.node, end.node)
        places = {id(node): i for i, node in enumerate(self._nodes)}
        # For every node: where its inputs come from, as (place of the node, which output).
        self._sources = [
            [(places[id(one.node)], one.index) for one in node.inputs] for node in self._nodes
        ]
        self._readers = _sole_readers(self._sources)
        self.layers = [node.layer for node in self._nodes]
        names = [layer.name for layer in self.layers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"[{self.name}] two layers named {twice}; different names are needed")
        self.batch_input_shape = start.shape
        self._input_shape = start.shape
        self._output_shape = end.shape
        self.built = True

    def _one(self, argument: str, value: Any) -> SymbolicTensor:
        if isinstance(value, (tuple, list)):
            if len(value) != 1:
                raise ValueError(f"[{self.name}] {len(value)} {argument}; one is needed")
            value = value[0]
        return as_tensor(self.name, value)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the output, for another batch or other free sizes, too."""
        made: list[Any] = [tuple(input_shape)]
        for node, sources in zip(self._nodes[1:], self._sources[1:], strict=True):
            given: Any = [_pick(self._nodes[i], made[i], k) for i, k in sources]
            made.append(node.layer.compute_output_shape(given if node.many else given[0]))
        return _pick(self._nodes[-1], made[-1], self._end)

    def layer_shapes(self) -> Sequence[Any]:
        """Output shape of every layer, batch included."""
        shapes = [[one.shape for one in node.outputs] for node in self._nodes]
        return [given[0] if len(given) == 1 else tuple(given) for given in shapes]

    # ------------------------------------------------------------------ computing

    def forward(
        self, x: Array, training: bool, mask: Array | None = None, logits: bool = False
    ) -> tuple[Array, Any]:
        """Through all layers, with the masks handed on where layers hand them on."""
        last = len(self._nodes) - 1
        with_relu: set[int] = set()  # the poolings that apply the ReLU of the layer before
        made: list[Any] = []
        masks: list[Any] = []
        for i, (node, sources) in enumerate(zip(self._nodes, self._sources, strict=True)):
            given = [_pick(self._nodes[j], made[j], k) for j, k in sources] or [x]
            # States have no time axis: a mask goes with a layer's first output.
            known = [masks[j] if k == 0 else None for j, k in sources] or [mask]
            argument, its_mask = (given, known) if node.many else (given[0], known[0])
            options: dict[str, Any] = {}
            if its_mask is not None and node.layer.uses_mask:
                options["mask"] = its_mask
            if logits and i == last and isinstance(node.layer, ActivatedLayer):
                options["logits"] = True
            if i in with_relu:
                options["activation"] = "relu"
            reader = self._readers.get(i)
            if reader is not None and relu_joins_pooling(node.layer, self._nodes[reader].layer):
                options["logits"] = True
                with_relu.add(reader)
            made.append(node.layer(argument, training, **options))
            masks.append(node.layer.compute_mask(argument, its_mask))
        self._mask = masks[-1] if self._end == 0 else None
        return _pick(self._nodes[-1], made[-1], self._end), None

    def vjp(self, dy: Array, saved: Any) -> Any:
        """Back through all layers; where paths part, their gradients are added."""
        found: dict[tuple[int, int], Array] = {(len(self._nodes) - 1, self._end): dy}
        for i in range(len(self._nodes) - 1, 0, -1):
            node, sources = self._nodes[i], self._sources[i]
            given = [found.pop((i, k), None) for k in range(len(node.outputs))]
            if all(one is None for one in given):  # below an embedding: integers have no gradient
                continue
            node.layer.need_dx = self.need_dx or any(j > 0 for j, _ in sources)
            try:
                dx = node.layer.backward(given[0] if node.single else tuple(given))
            finally:
                node.layer.need_dx = True
            for source, one in zip(sources, dx if node.many else [dx], strict=True):
                if one is not None:
                    known = found.get(source)
                    found[source] = one if known is None else known + one
        return found.get((0, 0)) if self.need_dx else None

    # ------------------------------------------------------------------ configuration

    def get_config(self) -> Config:
        """Layers, and for each where its inputs come from."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": [serialize(layer) for layer in self.layers],
            "sources": [[list(source) for source in sources] for sources in self._sources],
            "many": [node.many for node in self._nodes],
            "output": self._end,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """The model again, with new weights."""
        table = layer_table()
        known = known_models(custom_objects)
        made: list[Node] = []
        for one, sources, many in zip(
            config["layers"], config["sources"], config["many"], strict=True
        ):
            layer: Layer = deserialize(one, table, known)
            given = [made[place].outputs[index] for place, index in sources]
            if given:
                layer(given if many else given[0])
            else:
                as_tensor("Model", layer)
            made.append(layer._node)
        end = made[-1].outputs[config["output"]]
        return cls(made[0].outputs[0], end, config.get("name"), config.get("trainable", True))


def _in_order(owner: str, start: Node, end: Node) -> list[Node]:
    """The nodes on the way, each after those that it needs; ``start`` first, ``end`` last."""
    order: list[Node] = []
    seen: set[int] = set()
    stack = [(end, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            if not node.inputs and node is not start:
                raise ValueError(
                    f"[{owner}] the output also comes from {node.layer!r}; the one input is needed"
                )
            stack.append((node, True))
            stack.extend((one.node, False) for one in reversed(node.inputs))
    if id(start) not in seen:
        raise ValueError(f"[{owner}] no path from the input to the output; one is needed")
    return order


def _sole_readers(sources: list[list[tuple[int, int]]]) -> dict[int, int]:
    """For each node that one node reads, and only once: which one."""
    readers: dict[int, list[int]] = {}
    for i, given in enumerate(sources):
        for j, _ in given:
            readers.setdefault(j, []).append(i)
    return {j: found[0] for j, found in readers.items() if len(found) == 1}


def _pick(node: Node, made: Any, index: int) -> Any:
    """One output of what a node's layer gave."""
    return made if node.single else made[index]
