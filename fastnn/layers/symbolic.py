"""Layers called on what is not there yet: how the graph of a `fastnn.Model` is drawn.

A layer called on a `SymbolicTensor`, or on what `Input` gives, computes nothing: it is built for
the shape, and gives the symbolic tensors of its outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import shapes
from fastnn.layers.base import Layer, Shape


class SymbolicTensor:
    """An output of a layer in a graph.

    Attributes
    ----------
    shape : tuple of int or None
        The batch, None, first.
    node : Node
        The call that makes it.
    index : int
        Which of the call's outputs it is.
    """

    is_symbolic = True

    def __init__(self, shape: Shape, node: Node, index: int = 0) -> None:
        self.shape = tuple(shape)
        self.node = node
        self.index = index

    def __repr__(self) -> str:
        return f"<SymbolicTensor {self.shape} of {self.node.layer.name!r}>"


class Node:
    """A layer's place in a graph: what goes in and what comes out.

    ``many`` tells whether the layer takes a list, ``single`` whether it gives one array.
    """

    def __init__(self, layer: Layer, inputs: Sequence[SymbolicTensor], many: bool, made: Any):
        self.layer = layer
        self.inputs = tuple(inputs)
        self.many = many
        self.single = not (made and isinstance(made[0], tuple))
        several = [made] if self.single else made
        self.outputs = tuple(SymbolicTensor(shape, self, i) for i, shape in enumerate(several))


def as_tensor(owner: str, x: Any) -> SymbolicTensor:
    """``x``, or what an input layer gives, as a symbolic tensor."""
    if isinstance(x, SymbolicTensor):
        return x
    if not (isinstance(x, Layer) and x.is_symbolic):
        raise TypeError(
            f"[{owner}] {shapes.words(x)} in a graph; Input(shape) or the output of a layer called "
            "on one is needed"
        )
    node = x.__dict__.get("_node")
    if node is None:
        x.build(x.batch_input_shape)  # type: ignore[arg-type]
        node = x._node = Node(x, (), False, x.batch_input_shape)
    return node.outputs[0]


def connect(layer: Layer, x: Any, options: dict[str, Any]) -> Any:
    """Call a layer in a graph: its output, or the tuple of them."""
    if options:
        raise TypeError(
            f"[{layer.name}] {', '.join(options)} of a layer in a graph; the input alone is needed"
        )
    if layer.__dict__.get("_node") is not None:
        # A layer remembers one call, so its gradient at two places would be that of one.
        raise ValueError(
            f"[{layer.name}] in two places of a graph; a layer of its own at each is needed"
        )
    many = isinstance(x, (tuple, list))
    inputs = [as_tensor(layer.name, one) for one in (x if many else (x,))]
    shape: Any = [one.shape for one in inputs] if many else inputs[0].shape
    layer.build(shape)
    node = layer._node = Node(layer, inputs, many, layer.compute_output_shape(shape))
    return node.outputs[0] if node.single else node.outputs
