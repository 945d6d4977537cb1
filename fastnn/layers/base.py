"""What every layer is: weights by name, a forward pass, and its vector-Jacobian product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import dispatch, initializers, shapes
from fastnn.arrays import assign, to_numpy
from fastnn.registry import Config, Configurable, snake_case

Array = Any
Shape = tuple[int | None, ...]

_names: Counter[str] = Counter()


def _fresh_name(class_name: str) -> str:
    base = snake_case(class_name)
    count = _names[base]
    _names[base] += 1
    return f"{base}_{count}" if count else base


class Layer(Configurable):
    """Base class of all layers.

    A subclass says how to make its weights (`create_weights`), how to compute (`forward`) and how
    to differentiate (`vjp`); calling, building, naming, casting and saving are done here. There is
    no tape: a call with ``training=True`` remembers what `backward` needs, until the next call.

    Parameters
    ----------
    name : str, optional
        Default: the class's name in snake case, numbered.
    dtype : {"float32", "float64"}
        Of weights and computation; inputs of another numeric dtype are cast to it.
    trainable : bool
        Whether optimizers change the weights. Gradients are computed in any case.
    input_shape : tuple of int, optional
        Shape of one input, without the batch: a `Sequential` that begins with this layer is then
        built at once.

    Attributes
    ----------
    weights : list of array
        Updated in place by optimizers.
    gradients : list of array or None
        In the order of ``weights``; filled by `backward`, None before it.
    """

    supports_masking = False  # whether a mask of the input is one of the output too
    uses_mask = False  # whether the call takes mask=
    casts_input = True  # False where the input is integers (Embedding)
    is_symbolic = False  # whether a layer called on this one is joined to it (InputLayer)
    _node: Any = None  # its place in the graph of a Model
    # False while a model trains whose first weights are this layer's: then `vjp` may give None, and
    # the kernels save that product.
    need_dx = True

    def __init__(
        self,
        *,
        name: str | None = None,
        dtype: str = "float32",
        trainable: bool = True,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        self.name = name or _fresh_name(type(self).__name__)
        self.named_by_user = name is not None
        self._dtype = _checked_dtype(self.name, dtype)
        self.trainable = bool(trainable)
        self.batch_input_shape = None if input_shape is None else (None, *input_shape)
        self.built = False
        self._input_shape: Shape | None = None
        self._weights: dict[str, Array] = {}
        self._gradients: dict[str, Array | None] = {}
        self._bound = False
        self._saved: Any = _NO_CALL
        self._y_shape: Any = None  # of the last call's output; None where that is a tuple

    # ------------------------------------------------------------------ for subclasses

    def create_weights(self, input_shape: Shape) -> None:
        """Make the weights by `add_weight`; called once. ``input_shape`` includes the batch."""

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Output, and what `vjp` needs; a subclass may take more keyword arguments."""
        raise NotImplementedError(f"[{self.name}] {type(self).__name__} has no forward")

    def vjp(self, dy: Any, saved: Any) -> Array:
        """Gradient of the input from that of the output; weight gradients go to `set_gradient`."""
        raise NotImplementedError(f"[{self.name}] {type(self).__name__} has no vjp")

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Shape of the output, batch included, for that of the input; None where unknown."""
        return tuple(input_shape)

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Mask [B, T] of the output, for the input and its mask."""
        return mask if self.supports_masking else None

    def sublayers(self) -> Sequence[Layer]:
        """The layers inside this one, in the order of their weights."""
        return ()

    def add_weight(self, name: str, shape: tuple[int, ...], initializer: Any) -> None:
        """Make a weight: afterwards ``self.<name>``."""
        value = np.asarray(initializers.get(initializer)(shape))
        if value.shape != shape:
            raise ValueError(
                f"[{self.name}] the initializer of {name} gave shape {value.shape}; "
                f"{shape} is needed"
            )
        self._weights[name] = dispatch.asarray(value.astype(self._dtype))
        self._gradients[name] = None

    def set_gradient(self, name: str, value: Array) -> None:
        """Set a weight's gradient."""
        if self._bound:
            bound = self._gradients[name]
            if value is not bound:
                bound[...] = value  # type: ignore[index]
        else:
            self._gradients[name] = value

    def gradient_place(self, name: str) -> Array | None:
        """Where a weight's gradient belongs and may be written at once; None: anywhere."""
        return self._gradients.get(name) if self._bound else None

    # ------------------------------------------------------------------ calling

    def build(self, input_shape: Sequence[Any]) -> None:
        """Make the weights for inputs of a shape (the batch included; None: any)."""
        if not self.built:
            self._input_shape = tuple(input_shape)
            self.create_weights(self._input_shape)
            self.built = True

    def __call__(self, x: Any, training: bool = False, **kwargs: Any) -> Any:
        """Compute the output.

        Parameters
        ----------
        x : array
            The batch first. What `Input` gives, or a layer called on that, joins this layer to the
            graph of a `fastnn.Model` instead.
        training : bool
            True: apply dropout and other noise, and remember what `backward` needs. False:
            inference, after which `backward` is an error.
        **kwargs
            Arguments of the layer's own, such as ``mask`` or ``initial_state``.
        """
        if _in_graph(x):
            from fastnn.layers.symbolic import connect  # it imports this module

            return connect(self, x, kwargs)
        x = self._begin_call(x)
        return self._end_call(*self.forward(x, training, **kwargs), training)

    def _begin_call(self, x: Any) -> Any:
        """What comes before `forward`: the input as `forward` takes it."""
        x = self._cast(x)
        if not self.built:
            self.build([one.shape for one in x] if isinstance(x, list) else x.shape)
        self._saved = _NO_CALL  # frees the last call's arrays before this one makes its own
        return x

    def _end_call(self, y: Any, saved: Any, training: bool) -> Any:
        """What comes after `forward`."""
        self._saved = saved if training else _INFERENCE
        self._y_shape = getattr(y, "shape", None)
        return y

    def backward(self, dy: Any) -> Array:
        """Gradient of the input; fills `gradients`.

        Parameters
        ----------
        dy : array
            Gradient of the last call's output, of its shape.

        Returns
        -------
        array
            Of the input's shape.

        Raises
        ------
        RuntimeError
            If the last call was not made with ``training=True``.
        ValueError
            If ``dy`` has not the output's shape.
        """
        self._begin_backward(dy)
        return self.vjp(dy, self._saved)

    def _begin_backward(self, dy: Any) -> None:
        if self._saved is _NO_CALL or self._saved is _INFERENCE:
            what = "before a call" if self._saved is _NO_CALL else "after training=False"
            raise RuntimeError(
                f"[{self.name}] backward {what}; a call with training=True is needed"
            )
        if dy is not None and self._y_shape not in (None, getattr(dy, "shape", ())):
            raise ValueError(
                f"[{self.name}] dy is {shapes.words(dy)}; an array of the output's shape "
                f"{list(self._y_shape)} is needed"
            )

    def _cast(self, x: Any) -> Array:
        if dispatch.on_device() or not hasattr(x, "dtype"):
            x = dispatch.asarray(x)
        if x.dtype == self._dtype:
            return x
        if not self.casts_input:
            return x
        if getattr(x.dtype, "kind", "?") not in "fiub":
            raise TypeError(
                f"[{self.name}] x has dtype {x.dtype}; a real dtype, which becomes {self.dtype}, "
                "is needed"
            )
        return x.astype(self._dtype)

    # ------------------------------------------------------------------ weights

    def __getattr__(self, name: str) -> Any:
        # Only called where nothing else has the name: weights, as attributes.
        weights = self.__dict__.get("_weights")
        if weights is not None and name in weights:
            return weights[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def dtype(self) -> str:
        """Name of the dtype of weights and computation."""
        return str(self._dtype)

    def leaves(self) -> Iterator[Layer]:
        """This layer and those inside it, in the order of `weights`."""
        yield self
        for layer in self.sublayers():
            yield from layer.leaves()

    def trainable_leaves(self) -> Iterator[Layer]:
        """Those of `leaves` that are trainable, as is every layer around them."""
        if self.trainable:
            yield self
            for layer in self.sublayers():
                yield from layer.trainable_leaves()

    def named_weights(self) -> Iterator[tuple[str, Array]]:
        """Pairs of a dotted path, such as ``"forward_lstm.kernel"``, and a weight."""
        yield from self._weights.items()
        for layer in self.sublayers():
            for path, weight in layer.named_weights():
                yield f"{layer.name}.{path}", weight

    @property
    def weights(self) -> list[Array]:
        """The weights, in Keras's order."""
        return [weight for layer in self.leaves() for weight in layer._weights.values()]

    @property
    def gradients(self) -> list[Array | None]:
        """The gradients of `weights`, in the same order; None before the first backward."""
        return [gradient for layer in self.leaves() for gradient in layer._gradients.values()]

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights, as NumPy arrays in Keras's order."""
        return [np.array(to_numpy(weight)) for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Copy values into the weights.

        Parameters
        ----------
        weights : sequence of array
            As `get_weights` gives them, or as Keras does for the same layer.

        Raises
        ------
        TypeError, ValueError
            If their number or a shape differs, or they are not real numbers; nothing is changed
            then.
        """
        own = self.weights
        if not self.built:
            raise ValueError(
                f"[{self.name}] set_weights before the layer is built; a call of "
                "build(input_shape) is needed"
            )
        if not isinstance(weights, Sequence):
            raise TypeError(
                f"[{self.name}] weights is {shapes.words(weights)}; a list of arrays is needed"
            )
        if len(weights) != len(own):
            raise ValueError(f"[{self.name}] {len(weights)} weights; {len(own)} are needed")
        values = [np.asarray(to_numpy(value)) for value in weights]
        for i, (value, weight) in enumerate(zip(values, own, strict=True)):
            if value.dtype.kind not in "fiub":
                raise TypeError(
                    f"[{self.name}] weight {i} is {value.dtype}; real numbers are needed"
                )
            if value.shape != weight.shape:
                raise ValueError(
                    f"[{self.name}] weight {i} has shape {value.shape}; {weight.shape} is needed"
                )
        for value, weight in zip(values, own, strict=True):
            assign(weight, value)
        dispatch.weights_changed()

    def count_params(self) -> int:
        """Number of weights' elements."""
        if not self.built:
            raise ValueError(
                f"[{self.name}] count_params before the layer is built; a call of "
                "build(input_shape) is needed"
            )
        return sum(int(weight.size) for weight in self.weights)

    def bind(self, name: str, weight: Array, gradient: Array) -> None:
        """Move a weight and its gradient into arrays of someone else's (`FlatParameters`)."""
        weight[...] = self._weights[name]
        self._weights[name] = weight
        self._gradients[name] = gradient
        self._bound = True

    def cast_weights(self, dtype: str) -> None:
        """Change the dtype of this layer and those inside it, for instance to check gradients."""
        for layer in self.leaves():
            layer._dtype = _checked_dtype(layer.name, dtype)
            layer._bound = False
            for name, weight in layer._weights.items():
                layer._weights[name] = weight.astype(layer._dtype)
                layer._gradients[name] = None

    def volatile(self) -> Any:
        """What calls change besides weights: here how much noise was drawn."""
        generator = self.__dict__.get("seed_generator")
        return None if generator is None else generator.counter

    def set_volatile(self, value: Any) -> None:
        """Restore what `volatile` gave: the next call then repeats its noise."""
        if value is not None:
            self.seed_generator.counter = value

    # ------------------------------------------------------------------ configuration

    def get_config(self) -> Config:
        """The constructor's arguments, as plain Python values."""
        config = {"name": self.name, "dtype": self.dtype, "trainable": self.trainable}
        if self.batch_input_shape is not None:
            config["input_shape"] = list(self.batch_input_shape[1:])
        return config | super().get_config()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _in_graph(x: Any) -> bool:
    """Whether a layer is called to draw a graph, not to compute."""
    if isinstance(x, (tuple, list)):
        return any(getattr(one, "is_symbolic", False) for one in x)
    return getattr(x, "is_symbolic", False)


def _checked_dtype(owner: str, dtype: Any) -> np.dtype:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f"[{owner}] dtype={dtype!r}; float32 or float64 is needed")
    return np.dtype(name)


class _Mark:
    """A marker that stays itself in deep copies and pickles, where ``object()`` would not."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> str:
        return self.name


_NO_CALL = _Mark("_NO_CALL")
_INFERENCE = _Mark("_INFERENCE")
