"""Gradients of functions written in NumPy, for `fastnn.layers.Lambda`.

The function is called with a `Traced` in place of its array: an object that computes as the array
does and remembers, for each operation, how a gradient goes back through it. What is not known here
raises `NoGradientError`; nothing is ever approximated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Array = Any
Pull = Callable[[Array], Sequence[Array | None]]  # gradient of the result -> one for each parent

_order = itertools.count()


class NoGradientError(TypeError):
    """A function does something through which no gradient is known to go back."""


def value_and_pull(function: Callable[[Any], Any], x: Array) -> tuple[Array, Callable[[Any], Any]]:
    """``function(x)``, and what takes the gradient of that to the gradient of x.

    Raises
    ------
    NoGradientError
        If the function uses what has no rule here.
    """
    start = Traced(x)
    end = function(start)
    if not isinstance(end, Traced):  # a constant, or a step function of x

        def nothing(dy: Array) -> Array:
            return np.zeros_like(x)

        return end, nothing
    return end.value, lambda dy: _pull_back(end, start, dy)


def _pull_back(end: Traced, start: Traced, dy: Array) -> Array:
    gradients = {id(end): dy}
    for node in sorted(_reachable(end), key=lambda n: n.order, reverse=True):
        dy = gradients.get(id(node))
        if dy is None or node.pull is None:
            continue
        for parent, gradient in zip(node.parents, node.pull(dy), strict=True):
            if parent is None or gradient is None:
                continue
            gradient = gradient.astype(parent.dtype, copy=False)
            known = gradients.get(id(parent))
            gradients[id(parent)] = gradient if known is None else known + gradient
    found = gradients.get(id(start))
    return np.zeros_like(start.value) if found is None else found


def _reachable(end: Traced) -> list[Traced]:
    seen = {id(end): end}
    todo = [end]
    while todo:
        for parent in todo.pop().parents:
            if parent is not None and id(parent) not in seen:
                seen[id(parent)] = parent
                todo.append(parent)
    return list(seen.values())


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that remembers how it was made.

    Attributes
    ----------
    value : array
    parents : tuple of Traced or None
        None stands for a constant.
    pull : callable or None
    """

    def __init__(
        self, value: Array, parents: Sequence[Traced | None] = (), pull: Pull | None = None
    ) -> None:
        self.value = value
        self.parents = tuple(parents)
        self.pull = pull
        self.order = next(_order)

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    T = property(lambda self: np.transpose(self))

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Traced:
        return _moved(lambda a: a[key], self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # NumPy asks for such names to find out what this is
            raise AttributeError(name)
        if name not in _METHODS:
            raise NoGradientError(f".{name} of an array has no gradient here")
        function = getattr(np, name)
        if name in ("reshape", "transpose"):  # the array's method also takes loose numbers

            def method(*sizes: Any, **options: Any) -> Any:
                loose = len(sizes) > 1 or (sizes and isinstance(sizes[0], int | np.integer))
                return function(self, *((sizes,) if loose else sizes), **options)

            return method
        return lambda *arguments, **options: function(self, *arguments, **options)

    def astype(self, dtype: Any, **options: Any) -> Traced:
        """As of an array; the gradient is cast back."""
        return Traced(self.value.astype(dtype, **options), (self,), lambda dy: (dy,))

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise NoGradientError("turning x into a plain array has no gradient here")

    def __float__(self) -> float:
        raise NoGradientError("turning x into a plain number has no gradient here")

    __int__ = __float__  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and ufunc in _STEPS:
            return ufunc(*map(_plain, inputs), **options)
        rules = _UFUNCS.get(ufunc)
        if rules is None or method != "__call__" or options:
            detail = "" if method == "__call__" else f".{method}"
            detail += f"({', '.join(options)}=...)" if options else ""
            raise NoGradientError(f"numpy.{ufunc.__name__}{detail} has no gradient here")
        values = [_plain(i) for i in inputs]
        result = ufunc(*values)
        parents = [i if isinstance(i, Traced) else None for i in inputs]

        def pull(dy: Array) -> list[Array | None]:
            return [
                None
                if parent is None
                else _as_before_broadcast(rule(dy, result, *values), parent.shape)
                for parent, rule in zip(parents, rules, strict=True)
            ]

        return Traced(result, parents, pull)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _STEP_FUNCTIONS:
            return func(*map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})
        rule = _FUNCTIONS.get(func)
        if rule is None:
            raise NoGradientError(f"numpy.{func.__name__} has no gradient here")
        return rule(*args, **kwargs)


def _plain(x: Any) -> Any:
    return x.value if isinstance(x, Traced) else x


def _as_before_broadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an operand was repeated."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=axes, keepdims=True) if axes else gradient


# --------------------------------------------------------------------------- element by element

# Comparisons and steps: their derivative is zero wherever it is defined.
_STEPS = {
    np.sign, np.floor, np.ceil, np.rint, np.trunc, np.greater, np.greater_equal, np.less,
    np.less_equal, np.equal, np.not_equal, np.isnan, np.isfinite, np.isinf, np.logical_and,
    np.logical_or, np.logical_not, np.signbit,
}  # fmt: skip
_STEP_FUNCTIONS = {np.argmax, np.argmin, np.shape, np.ndim, np.size, np.round, np.all, np.any}
_STEP_FUNCTIONS |= {np.zeros_like, np.ones_like, np.full_like}


def _power_exponent(dy: Array, y: Array, a: Array, b: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return dy * np.where(a == 0, 0.0, y * np.log(np.where(a == 0, 1.0, a)))


def _as_matrices(dy: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """A product with vectors as one of matrices."""
    if b.ndim == 1:
        dy, b = dy[..., None], b[:, None]
    if a.ndim == 1:
        dy, a = dy[..., None, :], a[None]
    return dy, a, b


def _matmul_left(dy: Array, y: Array, a: Array, b: Array) -> Array:
    dy, _, b = _as_matrices(dy, a, b)
    return dy @ np.swapaxes(b, -1, -2)


def _matmul_right(dy: Array, y: Array, a: Array, b: Array) -> Array:
    vector = b.ndim == 1
    dy, a, b = _as_matrices(dy, a, b)
    gradient = np.swapaxes(a, -1, -2) @ dy
    return gradient[..., 0] if vector else gradient


# For each operand: gradient of the result, result, operands -> gradient of the operand.
_UFUNCS: dict[Any, tuple[Callable[..., Array], ...]] = {
    np.add: (lambda g, y, a, b: g, lambda g, y, a, b: g),
    np.subtract: (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    np.multiply: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    np.divide: (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    np.power: (lambda g, y, a, b: g * b * a ** np.where(b == 0, 1, b - 1), _power_exponent),
    # Equal operands share the gradient.
    np.maximum: (
        lambda g, y, a, b: g * np.where(a == b, 0.5, a > b),
        lambda g, y, a, b: g * np.where(a == b, 0.5, b > a),
    ),
    np.minimum: (
        lambda g, y, a, b: g * np.where(a == b, 0.5, a < b),
        lambda g, y, a, b: g * np.where(a == b, 0.5, b < a),
    ),
    np.logaddexp: (
        lambda g, y, a, b: g * np.exp(a - y),
        lambda g, y, a, b: g * np.exp(b - y),
    ),
    np.hypot: (lambda g, y, a, b: g * a / y, lambda g, y, a, b: g * b / y),
    np.matmul: (_matmul_left, _matmul_right),
    np.positive: (lambda g, y, x: g,),
    np.negative: (lambda g, y, x: -g,),
    np.absolute: (lambda g, y, x: g * np.sign(x),),
    np.square: (lambda g, y, x: g * (2 * x),),
    np.sqrt: (lambda g, y, x: g / (2 * y),),
    np.cbrt: (lambda g, y, x: g / (3 * y * y),),
    np.reciprocal: (lambda g, y, x: -g * y * y,),
    np.exp: (lambda g, y, x: g * y,),
    np.exp2: (lambda g, y, x: g * y * np.log(2.0),),
    np.expm1: (lambda g, y, x: g * (y + 1),),
    np.log: (lambda g, y, x: g / x,),
    np.log2: (lambda g, y, x: g / (x * np.log(2.0)),),
    np.log10: (lambda g, y, x: g / (x * np.log(10.0)),),
    np.log1p: (lambda g, y, x: g / (1 + x),),
    np.sin: (lambda g, y, x: g * np.cos(x),),
    np.cos: (lambda g, y, x: -g * np.sin(x),),
    np.tan: (lambda g, y, x: g * (1 + y * y),),
    np.sinh: (lambda g, y, x: g * np.cosh(x),),
    np.cosh: (lambda g, y, x: g * np.sinh(x),),
    np.tanh: (lambda g, y, x: g * (1 - y * y),),
    np.arctan: (lambda g, y, x: g / (1 + x * x),),
    np.arcsinh: (lambda g, y, x: g / np.sqrt(1 + x * x),),
}

# --------------------------------------------------------------------------- whole arrays


def _moved(move: Callable[[Any], Any], x: Traced) -> Traced:
    """What only moves, picks or repeats elements: their numbers say whence they came."""
    value = x.value
    y = move(value)
    numbers = move(np.arange(value.size, like=value).reshape(value.shape))

    def pull(dy: Array) -> list[Array]:
        if numbers.size == value.size and (numbers.ravel()[1:] > numbers.ravel()[:-1]).all():
            return [dy.reshape(value.shape)]  # nothing moved but the shape
        total = np.bincount(numbers.ravel(), weights=dy.ravel(), minlength=value.size)
        return [total.reshape(value.shape)]

    return Traced(y, (x,), pull)


def _move_rule(func: Any) -> Callable[..., Traced]:
    def rule(x: Any, *args: Any, **kwargs: Any) -> Traced:
        if not isinstance(x, Traced) or _any_traced((*args, *kwargs.values())):
            raise NoGradientError(f"numpy.{func.__name__} of these arguments has no gradient here")
        return _moved(lambda a: func(a, *args, **kwargs), x)

    return rule


def _any_traced(values: Sequence[Any]) -> bool:
    return any(isinstance(v, Traced) for v in values)


def _spread(reduced: Array, axis: Any, keepdims: bool) -> Array:
    """A reduction's result with the reduced axes as ones."""
    return reduced if axis is None or keepdims else np.expand_dims(reduced, axis)


def _sum(x: Traced, axis: Any = None, *, keepdims: bool = False) -> Traced:
    def pull(dy: Array) -> list[Array]:
        return [np.broadcast_to(_spread(dy, axis, keepdims), x.shape)]

    return Traced(np.sum(x.value, axis=axis, keepdims=keepdims), (x,), pull)


def _mean(x: Traced, axis: Any = None, *, keepdims: bool = False) -> Any:
    total = _sum(x, axis, keepdims=keepdims)
    return total / (x.size // max(total.size, 1))


def _var(x: Traced, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    squares = _sum(np.square(x - _mean(x, axis, keepdims=True)), axis, keepdims=keepdims)
    return squares / (x.size // max(squares.size, 1) - ddof)


def _std(x: Traced, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    return np.sqrt(_var(x, axis, ddof=ddof, keepdims=keepdims))


def _extreme(func: Any) -> Callable[..., Traced]:
    def rule(x: Traced, axis: Any = None, *, keepdims: bool = False) -> Traced:
        y = func(x.value, axis=axis, keepdims=keepdims)

        def pull(dy: Array) -> list[Array]:
            # Equal extremes share the gradient.
            first = x.value == _spread(y, axis, keepdims)
            share = first / first.sum(axis=axis, keepdims=True)
            return [_spread(dy, axis, keepdims) * share]

        return Traced(y, (x,), pull)

    return rule


def _cumsum(x: Traced, axis: int | None = None) -> Traced:
    def pull(dy: Array) -> list[Array]:
        at = 0 if axis is None else axis
        back = np.flip(np.cumsum(np.flip(dy, at), at), at)
        return [back.reshape(x.shape)]

    return Traced(np.cumsum(x.value, axis=axis), (x,), pull)


def _clip(x: Traced, a_min: Any = None, a_max: Any = None, **other: Any) -> Traced:
    low, high = other.pop("min", a_min), other.pop("max", a_max)
    if other or not isinstance(x, Traced) or _any_traced((low, high)):
        raise NoGradientError("numpy.clip of these arguments has no gradient here")

    def pull(dy: Array) -> list[Array]:
        inside = np.ones(x.shape, bool, like=x.value)
        if low is not None:
            inside &= x.value >= low
        if high is not None:
            inside &= x.value <= high
        return [dy * inside]

    return Traced(np.clip(x.value, low, high), (x,), pull)


def _where(condition: Any, a: Any, b: Any) -> Traced:
    chosen = _plain(condition) if isinstance(condition, Traced) else condition
    parents = [part if isinstance(part, Traced) else None for part in (a, b)]

    def pull(dy: Array) -> list[Array | None]:
        return [
            None if part is None else _as_before_broadcast(np.where(kept, dy, 0), part.shape)
            for part, kept in zip(parents, (chosen, np.logical_not(chosen)), strict=True)
        ]

    return Traced(np.where(chosen, _plain(a), _plain(b)), parents, pull)


def _concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Traced:
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    ends = list(itertools.accumulate(np.shape(_plain(a))[axis] for a in arrays))

    def pull(dy: Array) -> list[Array]:
        return np.split(dy, ends[:-1], axis)

    parents = [a if isinstance(a, Traced) else None for a in arrays]
    return Traced(np.concatenate([_plain(a) for a in arrays], axis), parents, pull)


def _stack(arrays: Sequence[Any], axis: int = 0) -> Traced:
    return _concatenate([np.expand_dims(a, axis) for a in arrays], axis)


_MOVES = (
    np.broadcast_to, np.diagonal, np.expand_dims, np.flip, np.moveaxis, np.ravel, np.repeat,
    np.reshape, np.roll, np.rot90, np.squeeze, np.swapaxes, np.take, np.tile, np.transpose,
)  # fmt: skip
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{func: _move_rule(func) for func in _MOVES},
    np.sum: _sum,
    np.mean: _mean,
    np.var: _var,
    np.std: _std,
    np.max: _extreme(np.max),
    np.min: _extreme(np.min),
    np.cumsum: _cumsum,
    np.clip: _clip,
    np.where: _where,
    np.concatenate: _concatenate,
    np.stack: _stack,
}
_METHODS = {
    "argmax", "argmin", "clip", "cumsum", "diagonal", "max", "mean", "min", "ravel", "repeat",
    "reshape", "round", "squeeze", "std", "sum", "swapaxes", "take", "transpose", "var",
}  # fmt: skip
