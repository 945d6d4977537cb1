"""Output sizes, padding, and the errors for arguments that do not fit.

Every message is ``[op] what was given; what is needed``, formatted only when it is raised.
"""

from __future__ import annotations

import math
from operator import index
from typing import Any

import numpy as np

from fastnn import deferred
from fastnn.types import Array, Pair, Window

FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
HALVES = ("float16", "bfloat16")  # on CuPy's arrays
_LARGEST = 2**31 - 1  # of a window's sizes; a kernel may multiply two of them
_MOST_ELEMENTS = 2**60

# --------------------------------------------------------------------------- arrays


def given(name: str, x: Array) -> str:
    """An array in words: name, dtype and shape."""
    return f"{name} is {x.dtype} {list(x.shape)}"


def words(value: Any) -> str:
    """Any argument in words of one line: an array by its dtype and shape."""
    if getattr(value, "shape", ()) and hasattr(value, "dtype"):
        return f"an array {value.dtype} {list(value.shape)}"
    if isinstance(value, (tuple, list)) and any(hasattr(item, "dtype") for item in value):
        return f"a {type(value).__name__} of {len(value)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:100]}..."


def check_floating(op: str, name: str, x: Array) -> None:
    """Refuse everything but native float32 and float64 (CuPy: the halves too), and scalars."""
    if x.dtype not in FLOATS and not (x.dtype.name in HALVES and _cupys(x)):
        raise TypeError(f"[{op}] {given(name, x)}; float32 or float64 is needed")
    if x.ndim == 0:
        raise ValueError(f"[{op}] {given(name, x)}; at least one axis is needed")


def _cupys(x: Array) -> bool:
    return type(x).__module__.partition(".")[0] == "cupy"


def check_integer(op: str, name: str, x: Array) -> None:
    """Refuse an array that does not hold integers (bool is not one)."""
    if x.dtype.kind not in "iu":
        raise TypeError(f"[{op}] {given(name, x)}; integers are needed")


def check_rank(op: str, name: str, x: Array, letters: str) -> None:
    """Refuse a wrong number of axes; ``letters`` names them, as in ``"B h w C"``."""
    if x.ndim != letters.count(" ") + 1:
        raise ValueError(f"[{op}] {given(name, x)}; [{letters.replace(' ', ', ')}] is needed")


def check_same_dtype(op: str, name: str, x: Array, other_name: str, other: Array) -> None:
    """Refuse a mixture of dtypes."""
    if x.dtype != other.dtype:
        raise TypeError(
            f"[{op}] {name} is {x.dtype} and {other_name} is {other.dtype}; one dtype is needed"
        )


def check_shape(op: str, name: str, x: Array, shape: tuple[int, ...]) -> None:
    """Refuse any other shape."""
    if x.shape != shape:
        raise ValueError(f"[{op}] {given(name, x)}; the shape {list(shape)} is needed")


def check_nonempty(op: str, name: str, x: Array, first: int = 0) -> None:
    """Refuse an axis of length zero from the axis ``first`` on."""
    if 0 in x.shape[first:]:
        raise ValueError(
            f"[{op}] {given(name, x)}; axes of at least 1 are needed"
            + (" (only the batch may be empty)" if first else "")
        )


def check_gradient(op: str, dy: Array, y_shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse an upstream gradient that does not match the output of the forward call."""
    if dy.shape != y_shape or dy.dtype != dtype:
        raise (ValueError if dy.shape != y_shape else TypeError)(
            f"[{op}] {given('dy', dy)}; the output's {dtype} {list(y_shape)} is needed"
        )


def check_saved(op: str, saved: Any, record: type) -> None:
    """Refuse a saved record of another operation, or None (the forward call kept nothing)."""
    if type(saved) is not record:
        what = (
            "None (the forward call kept nothing)" if saved is None else f"a {type(saved).__name__}"
        )
        raise TypeError(
            f"[{op}] saved is {what}; the {record.__name__} of the forward call is needed"
        )


def check_choice(op: str, name: str, value: Any, choices: tuple[str | None, ...]) -> None:
    """Refuse a word that is not one of ``choices``."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        known = ", ".join(str(c) for c in choices)
        raise ValueError(f"[{op}] {name} is {words(value)}; one of {known} is needed")


def labels(op: str, name: str, x: Array, count: int) -> Array:
    """``x`` as int64, refused if one lies outside ``0 .. count - 1``."""
    check_integer(op, name, x)
    # Seen as unsigned, a negative number is larger than any count: one pass instead of two.
    wide = x.astype(np.int64, copy=False) if x.dtype != np.uint64 else x
    if x.size and deferred.waits(x):
        message = f"[{op}] {name} reach outside 0 .. {count - 1}; 0 <= {name} < {count} is needed"
        deferred.put_off(message, wide.view(np.uint64).max() >= count)
    elif x.size and int(wide.view(np.uint64).max()) >= count:
        raise ValueError(
            f"[{op}] {name} has {int(x.min())} to {int(x.max())}; 0 <= {name} < {count} is needed"
        )
    return wide.astype(np.int64, copy=False)


# --------------------------------------------------------------------------- numbers


def integer(op: str, name: str, value: Any, least: int, most: int = _LARGEST) -> int:
    """``value`` as an int in ``least .. most``."""
    try:
        number = index(value)
        if isinstance(value, bool):
            raise TypeError
    except TypeError:
        raise TypeError(f"[{op}] {name} is {words(value)}; an integer is needed") from None
    if not least <= number <= most:
        raise ValueError(f"[{op}] {name} is {number}; {least} <= {name} <= {most} is needed")
    return number


def flag(op: str, name: str, value: Any) -> bool:
    """``value`` as a bool; 0 and 1 will do."""
    if value is True or value is False:
        return value
    if not isinstance(value, (int, np.bool_, np.integer)) or value not in (0, 1):
        raise TypeError(f"[{op}] {name} is {words(value)}; True or False is needed")
    return bool(value)


def seed_number(op: str, value: Any) -> int:
    """A seed: an integer of at most 64 bits, not negative."""
    return integer(op, "seed", value, 0, 2**64 - 1)


def finite_number(op: str, name: str, value: Any) -> float:
    """A real number that is neither NaN nor infinite."""
    number = _number(op, name, value)
    if not math.isfinite(number):
        raise ValueError(f"[{op}] {name} is {number}; a finite number is needed")
    return number


def rate_number(op: str, name: str, value: Any) -> float:
    """A probability ``0 <= value < 1``."""
    rate = _number(op, name, value)
    if not 0.0 <= rate < 1.0:  # NaN fails too
        raise ValueError(f"[{op}] {name} is {rate}; 0 <= {name} < 1 is needed")
    return rate


def positive_number(op: str, name: str, value: Any) -> float:
    """A finite number above zero."""
    number = _number(op, name, value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"[{op}] {name} is {number}; a finite number above 0 is needed")
    return number


def _number(op: str, name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"[{op}] {name} is {words(value)}; a number is needed") from None


def pair(op: str, name: str, value: Any, least: int = 1) -> Pair:
    """An integer (meant for both axes) or two of them."""
    if type(value) is int:
        if least <= value <= _LARGEST:
            return value, value
    elif isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"[{op}] {name} is {words(value)}; an integer or a pair is needed")
        return integer(op, name, value[0], least), integer(op, name, value[1], least)
    number = integer(op, name, value, least)
    return number, number


# --------------------------------------------------------------------------- windows


def sizes(op: str, name: str, value: Any, least: int = 1) -> tuple[Any, ...]:
    """A tuple of sizes; None is one that is not known."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"[{op}] {name} is {words(value)}; a tuple of sizes is needed")
    return tuple(None if n is None else integer(op, name, n, least) for n in value)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """TensorFlow's "same": ``ceil(size / stride)`` outputs, the smaller half first."""
    total = (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size
    return (total // 2, total - total // 2) if total > 0 else (0, 0)


def window(
    op: str, image: Pair, kernel: Pair, strides: Any, padding: Any, dilation: Any
) -> tuple[Window, Pair]:
    """The resolved window over an ``image`` of (h, w), and the output size (oh, ow)."""
    steps = pair(op, "strides", strides)
    spread = pair(op, "dilation", dilation)
    if not isinstance(padding, str):
        margins = _explicit_padding(op, padding)
    elif padding == "valid":
        margins = ((0, 0), (0, 0))
    elif padding == "same":
        margins = (
            same_padding(image[0], kernel[0], steps[0], spread[0]),
            same_padding(image[1], kernel[1], steps[1], spread[1]),
        )
    else:
        raise _padding_error(op, padding)
    size = (
        _output_size(op, image, kernel, steps, margins, spread, 0),
        _output_size(op, image, kernel, steps, margins, spread, 1),
    )
    # A step out of the image is as good as one to its edge, and kernels may walk over it.
    steps = (
        min(steps[0], image[0] + sum(margins[0])),
        min(steps[1], image[1] + sum(margins[1])),
    )
    return Window(kernel, steps, margins, spread), size


def _explicit_padding(op: str, padding: Any) -> tuple[Pair, Pair]:
    if isinstance(padding, (tuple, list)):
        if len(padding) != 2 or not all(isinstance(p, (tuple, list)) for p in padding):
            raise _padding_error(op, padding)
        return pair(op, "padding", padding[0], 0), pair(op, "padding", padding[1], 0)
    both = pair(op, "padding", padding, 0)
    return both, both


def _padding_error(op: str, padding: Any) -> ValueError:
    return ValueError(
        f"[{op}] padding is {words(padding)}; 'valid', 'same', an integer, or pairs "
        "((top, bottom), (left, right)) is needed"
    )


def _output_size(
    op: str,
    image: Pair,
    kernel: Pair,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    axis: int,
) -> int:
    padded = image[axis] + padding[axis][0] + padding[axis][1]
    span = (kernel[axis] - 1) * dilation[axis] + 1
    if span > padded:
        raise ValueError(
            f"[{op}] a window of {span} (size {kernel[axis]}, dilation {dilation[axis]}) on an "
            f"image padded to {padded}, along its {('height', 'width')[axis]}; "
            "a window that fits is needed"
        )
    return (padded - span) // strides[axis] + 1


def window_output(image: Pair, over: Window) -> Pair:
    """The output size of a resolved window over an image of (h, w)."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw) = over
    return (
        (image[0] + top + bottom - (kh - 1) * dh - 1) // sh + 1,
        (image[1] + left + right - (kw - 1) * dw - 1) // sw + 1,
    )


def check_elements(op: str, name: str, shape: tuple[int, ...]) -> None:
    """Refuse a result whose number of elements would overflow the kernels' 64-bit offsets."""
    if math.prod(n or 1 for n in shape) >= _MOST_ELEMENTS:  # NumPy counts so for an empty array
        raise ValueError(
            f"[{op}] {name} would be {list(shape)}; fewer than 2**60 elements are needed"
        )


def image_axes(data_format: str) -> tuple[int, int, int]:
    """The axes of height, width and channels."""
    return (1, 2, 3) if data_format == "channels_last" else (2, 3, 1)


def check_data_format(op: str, data_format: Any) -> None:
    """Refuse everything but the two data formats."""
    check_choice(op, "data_format", data_format, ("channels_last", "channels_first"))


def check_image(op: str, x: Array, data_format: Any) -> tuple[int, int, int]:
    """Refuse what is not a batch of images; the axes of height, width and channels."""
    check_data_format(op, data_format)
    check_floating(op, "x", x)
    check_rank(op, "x", x, "B h w C" if data_format == "channels_last" else "B C h w")
    check_nonempty(op, "x", x, 1)
    return image_axes(data_format)


def image_shape(batch: int, size: Pair, channels: int, data_format: str) -> tuple[int, ...]:
    """The four sizes in the order of ``data_format``."""
    if data_format == "channels_last":
        return batch, size[0], size[1], channels
    return batch, channels, size[0], size[1]
