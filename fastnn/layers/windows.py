"""What convolution and pooling layers share: their arguments and their output's shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn import shapes
from fastnn.layers.base import Shape

# Layers take the size, strides and dilation of a window as an integer or a tuple of `rank` of them.


def per_axis(owner: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    """An integer (for every axis) or ``rank`` of them, as a tuple."""
    if rank == 2:
        return shapes.pair(owner, name, value)
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return (shapes.integer(owner, name, value, 1),)


def check_data_format(owner: str, data_format: str | None) -> str:
    """``data_format``, channels_last if it is None."""
    chosen = "channels_last" if data_format is None else data_format
    shapes.check_choice(owner, "data_format", chosen, ("channels_last", "channels_first"))
    return chosen


def check_padding(owner: str, padding: Any, rank: int) -> Any:
    """``padding`` with words in lower case; what the words may be is known here."""
    if not isinstance(padding, str):
        return padding
    words = ("valid", "same", "causal") if rank == 1 else ("valid", "same")
    shapes.check_choice(owner, "padding", padding.lower(), words)
    return padding.lower()


def spatial_axes(rank: int, data_format: str) -> tuple[range, int]:
    """The axes of space (or time), and that of the channels."""
    if data_format == "channels_last":
        return range(1, rank + 1), rank + 1
    return range(2, rank + 2), 1


def output_shape(
    owner: str,
    input_shape: Shape,
    channels: Callable[[int | None], int | None],
    *,
    size: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
    data_format: str,
) -> Shape:
    """Output shape of a window that walks over an image or a sequence.

    ``channels`` maps the number of channels of the input to that of the output.
    """
    rank = len(size)
    if len(input_shape) != rank + 2:
        raise ValueError(
            f"[{owner}] input of shape {tuple(input_shape)}; {rank + 2} dimensions are needed"
        )
    space, channel_axis = spatial_axes(rank, data_format)
    result = list(input_shape)
    for i, axis in enumerate(space):
        length = input_shape[axis]
        if length is not None:
            margin = _margin(padding, i, rank, size[i], dilation[i])
            _, (result[axis], _) = shapes.window(
                owner, (length, 1), (size[i], 1), (strides[i], 1), margin, (dilation[i], 1)
            )
    result[channel_axis] = channels(input_shape[channel_axis])
    return tuple(result)


def _margin(padding: Any, i: int, rank: int, size: int, dilation: int) -> Any:
    """The padding of one axis, as that of the first axis of an image."""
    if padding in ("valid", "same"):
        return padding
    if padding == "causal":
        return (((size - 1) * dilation, 0), (0, 0))
    if isinstance(padding, list | tuple):
        return (padding if rank == 1 else padding[i], (0, 0))
    return ((padding, padding), (0, 0))
