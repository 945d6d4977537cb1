"""Gradients against central differences, for layers and for operations, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn import dispatch, ops
from fastnn.arrays import to_numpy
from fastnn.layers.base import Layer

Array = Any
Path = tuple[Any, ...]

__all__ = ["GradientError", "gradcheck"]


class GradientError(AssertionError):
    """An analytic gradient and central differences disagree; the message has the numbers."""


class _Check(NamedTuple):
    """One array whose gradient is compared."""

    name: str
    array: np.ndarray  # changed in place by the check, and put back
    analytic: np.ndarray


def gradcheck(
    target: Layer | Callable[..., Any] | str,
    *inputs: Any,
    tolerance: float = 1e-7,
    step: float = 1e-5,
    samples: int | None = 200,
    rng_seed: int = 0,
    wrt: int | tuple[int, ...] | None = None,
    verbose: bool = False,
    **arguments: Any,
) -> float:
    """Compare the gradients of a layer or an operation with central differences.

    The scalar that is differentiated is ``sum(r * output)`` with random r for every output. All is
    computed in float64: floating inputs, and a copy of the layer, are cast.

    Parameters
    ----------
    target : Layer, or function or name of an operation
        A layer (or a whole `Sequential`); or a forward operation, such as
        ``fastnn.conv2d_forward`` or ``"conv2d"``, whose backward is found by its name.
    *inputs : array, record or None
        For a layer its input. For an operation its positional arguments, `RnnWeights` and pairs of
        states included.
    tolerance : float
        The largest relative error that passes.
    step : float
        Of the differences, times max(1, |x|).
    samples : int, optional
        Elements compared of each array, drawn at random; None compares all.
    rng_seed : int
        Of r and of the drawn elements.
    wrt : int or tuple of int, optional
        Positions of the inputs to differentiate by. Default: all floating ones, and for a loss the
        predictions.
    verbose : bool
        Print the table of errors.
    **arguments
        Of the call: options of the operation, or the layer's ``mask`` and the like.

    Returns
    -------
    float
        The largest relative error: ``max |analytic - numeric|`` over the largest magnitude of the
        array's gradient (at least a thousandth of the largest of all, so that a gradient which
        is zero is not compared with rounding noise).

    Raises
    ------
    GradientError
        If the error is above the tolerance, with a table of the arrays.

    Notes
    -----
    Where the function has a kink within ``step`` of an input (relu at 0, two equal maxima), the
    differences are wrong, not the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> x = np.random.default_rng(0).normal(size=(2, 5, 3))
    >>> fastnn.gradcheck(fastnn.layers.LSTM(4), x) < 1e-7
    True
    """
    rng = np.random.default_rng(rng_seed)
    if isinstance(target, Layer):
        name = target.name
        if len(inputs) != 1:
            raise TypeError(f"[gradcheck] {len(inputs)} inputs for a layer; one is needed")
        value, checks = _of_layer(target, inputs[0], rng, arguments)
    else:
        name, forward, backward = _operation(target)
        value, checks = _of_operation(name, forward, backward, inputs, rng, wrt, arguments)
    largest = max((float(np.max(np.abs(c.analytic), initial=0.0)) for c in checks), default=0.0)
    rows = [_compare(check, value, step, samples, rng, largest * 1e-3) for check in checks]
    worst = max((row.error for row in rows), default=0.0)
    table = "\n".join(str(row) for row in rows)
    if verbose:
        print(f"[gradcheck] {name}: relative error {worst:.3g}\n{table}")
    if not worst <= tolerance:  # NaN fails
        raise GradientError(
            f"[gradcheck] {name}: relative error {worst:.3g}; at most {tolerance:g} is needed\n"
            f"{table}"
        )
    return worst


class _Row(NamedTuple):
    name: str
    error: float
    where: tuple[int, ...]
    analytic: float
    numeric: float
    compared: int
    size: int

    def __str__(self) -> str:
        if not self.compared:
            return f"  {self.name}: empty"
        return (
            f"  {self.name}: error {self.error:.3g}, worst at {list(self.where)} (analytic "
            f"{self.analytic:.10g}, numeric {self.numeric:.10g}), {self.compared} of {self.size} "
            "elements"
        )


def _compare(
    check: _Check,
    value: Callable[[], float],
    step: float,
    samples: int | None,
    rng: np.random.Generator,
    least_scale: float,
) -> _Row:
    array, size = check.array, check.array.size
    if check.analytic.shape != array.shape:
        raise GradientError(
            f"[gradcheck] the gradient of {check.name} has shape {check.analytic.shape}; "
            f"{array.shape} is needed"
        )
    chosen = np.arange(size)
    if samples is not None and samples < size:
        chosen = np.sort(rng.choice(size, samples, replace=False))
    numeric = np.empty(len(chosen))
    for k, flat in enumerate(chosen):
        index = np.unravel_index(flat, array.shape)
        before = float(array[index])  # a copy: on a device an element is a view
        h = step * max(1.0, abs(before))
        array[index] = before + h
        above, up = value(), float(array[index]) - before
        array[index] = before - h
        below, down = value(), before - float(array[index])
        array[index] = before
        numeric[k] = (above - below) / (up + down)
    analytic = check.analytic.reshape(-1)[chosen]
    if not len(chosen):
        return _Row(check.name, 0.0, (), 0.0, 0.0, 0, 0)
    difference = np.abs(analytic - numeric)
    worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
    scale = max(float(np.max(np.abs(check.analytic))), float(np.max(np.abs(numeric))), least_scale)
    error = float(difference[worst]) / scale if scale else float(difference[worst])
    where = tuple(int(i) for i in np.unravel_index(chosen[worst], array.shape))
    return _Row(
        check.name, error, where, float(analytic[worst]), float(numeric[worst]), len(chosen), size
    )


# --------------------------------------------------------------------------- layers


def _of_layer(
    layer: Layer, x: Any, rng: np.random.Generator, arguments: dict[str, Any]
) -> tuple[Callable[[], float], list[_Check]]:
    layer = copy.deepcopy(layer)  # the caller's weights, dtype and noise stay as they are
    if not layer.built:
        layer.build(np.shape(x))
    layer.cast_weights("float64")
    x = np.array(x)
    if x.dtype.kind == "f":
        x = x.astype(np.float64)
    arguments = {key: _as_float64(value) for key, value in arguments.items()}
    start = [leaf.volatile() for leaf in layer.leaves()]

    def call() -> Any:
        for leaf, state in zip(layer.leaves(), start, strict=True):
            leaf.set_volatile(state)  # the same noise at every call
        return layer(x, training=True, **arguments)

    value, upstream = _projected(call(), call, rng)
    dx = layer.backward(upstream)
    checks = [] if dx is None else [_Check("x", x, np.array(to_numpy(dx)))]
    names = [name for name, _ in layer.named_weights()]
    for name, weight, gradient in zip(names, layer.weights, layer.gradients, strict=True):
        checks.append(_Check(name, weight, np.array(to_numpy(gradient))))
    states = _leaves(arguments.get("initial_state"))
    for (path, state), gradient in zip(
        states, getattr(layer, "initial_state_gradient", ()), strict=False
    ):
        name = ".".join(["initial_state", *map(str, path)])
        checks.append(_Check(name, state, np.array(to_numpy(gradient))))
    return value, checks


# --------------------------------------------------------------------------- operations


def _operation(target: Any) -> tuple[str, Callable[..., Any], Callable[..., Any]]:
    name = target if isinstance(target, str) else getattr(target, "__name__", repr(target))
    name = name.removesuffix("_forward")
    forward = getattr(ops, f"{name}_forward", None)
    backward = getattr(ops, f"{name}_backward", None)
    if forward is None or backward is None:
        known = sorted(n.removesuffix("_forward") for n in ops.__all__ if n.endswith("_forward"))
        raise ValueError(
            f"[gradcheck] {target!r} is neither a layer nor an operation; one of "
            f"{', '.join(known)} is needed"
        )
    return name, forward, backward


def _of_operation(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: tuple[Any, ...],
    rng: np.random.Generator,
    wrt: int | tuple[int, ...] | None,
    arguments: dict[str, Any],
) -> tuple[Callable[[], float], list[_Check]]:
    values = [_as_float64(value) for value in inputs]
    arguments = {key: _as_float64(value) for key, value in arguments.items()}

    def call() -> Any:
        return forward(*_there(values), **{key: _there(v) for key, v in arguments.items()})

    output, saved = call()
    value, upstream = _projected(output, lambda: call()[0], rng)
    gradients = _backward(name, backward, _there(upstream), saved)
    if wrt is None:
        wrt = 1 if name == "loss" else tuple(i for i, v in enumerate(values) if _floating(v))
    positions = (wrt,) if isinstance(wrt, int) else tuple(wrt)
    if not isinstance(gradients, tuple):  # of the one input that has a gradient
        gradients = dict.fromkeys(positions, gradients)
    checks: list[_Check] = []
    for i in positions:
        checks += _paired(f"input {i}", values[i], gradients[i])
    return value, checks


def _backward(name: str, backward: Callable[..., Any], upstream: Any, saved: Any) -> Any:
    return backward(saved, upstream) if name == "loss" else backward(upstream, saved)


def _there(value: Any) -> Any:
    """Arrays on the device of the backend that is chosen by name, if it has one."""
    if not dispatch.on_device():
        return value
    return _map(lambda leaf: dispatch.asarray(leaf) if hasattr(leaf, "dtype") else leaf, value)


def one_call(op: str, *inputs: Any, dtype: str = "float64", **arguments: Any) -> list[np.ndarray]:
    """What an operation and its backward give, on the host: outputs, then gradients.

    Parameters
    ----------
    op : str
        Such as ``"conv2d"``.
    *inputs, **arguments
        Of the forward operation, on the host.
    dtype : str
        That floating arrays are rounded to, before they go to the device.
    """
    name, forward, backward = _operation(op)

    def rounded(value: Any) -> Any:
        floating = lambda leaf: getattr(leaf, "dtype", np.dtype(int)).kind == "f"  # noqa: E731
        return _there(_map(lambda leaf: leaf.astype(dtype) if floating(leaf) else leaf, value))

    output, saved = forward(*rounded(inputs), **{key: rounded(v) for key, v in arguments.items()})
    upstream = _projected(output, lambda: output, np.random.default_rng(0))[1]
    gradients = _backward(name, backward, rounded(upstream), saved)
    return [np.asarray(to_numpy(leaf)) for _, leaf in (*_leaves(output), *_leaves(gradients))]


def _paired(name: str, value: Any, gradient: Any) -> list[_Check]:
    """Arrays in a nest of records, with the gradients at the same places."""
    found = dict(_leaves(gradient))
    return [
        _Check(".".join([name, *map(str, path)]), leaf, np.array(to_numpy(found[path])))
        for path, leaf in _leaves(value)
        if leaf.dtype.kind == "f"
    ]


# --------------------------------------------------------------------------- nests of arrays


def _projected(
    output: Any, call: Callable[[], Any], rng: np.random.Generator
) -> tuple[Callable[[], float], Any]:
    """``sum(r * output)`` as a function, and r in the output's form: the upstream gradient."""
    upstream = _map(
        lambda leaf: rng.uniform(0.5, 1.5, _shape(leaf)) * rng.choice((-1.0, 1.0), _shape(leaf)),
        output,
    )
    if isinstance(output, float):
        upstream = float(upstream)

    def value() -> float:
        pairs = zip(_leaves(call()), _leaves(upstream), strict=True)
        return sum(float(np.sum(to_numpy(y) * r)) for (_, y), (_, r) in pairs)

    return value, upstream


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(getattr(leaf, "shape", ()))


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if value is None:
        return
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", range(len(value)))
        for name, item in zip(names, value, strict=True):
            yield from _leaves(item, (*path, name))
    else:
        yield path, value


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple | list):
        items = [_map(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return function(value)


def _as_float64(value: Any) -> Any:
    """Copies of floating arrays in float64, wherever they are in the nest."""

    def cast(leaf: Any) -> Any:
        if not hasattr(leaf, "dtype"):
            return leaf
        return np.array(leaf, np.float64) if leaf.dtype.kind == "f" else leaf

    return _map(cast, value)


def _floating(value: Any) -> bool:
    return any(getattr(leaf, "dtype", np.dtype(int)).kind == "f" for _, leaf in _leaves(value))
