"""Convolution in one and two dimensions, and the column form of a convolution.

Convolution means cross-correlation, as everywhere in this field: the filter is not flipped.
"""

from __future__ import annotations

from typing import Any

from fastnn import dispatch, shapes
from fastnn.types import Array, ConvGrads, ConvSaved, Window

__all__ = [
    "col2im",
    "conv1d_backward",
    "conv1d_forward",
    "conv2d_backward",
    "conv2d_forward",
    "im2col",
]

_FUSED = (None, "linear", "relu", "tanh", "sigmoid")


def im2col(
    x: Array, filter_h: int, filter_w: int, stride: int | tuple[int, int] = 1, pad: Any = 0
) -> Array:
    """Every patch of a batch of images as a row of a matrix.

    Parameters
    ----------
    x : ndarray [B, C, h, w], float32 or float64
    filter_h, filter_w : int
        Size of a patch.
    stride : int or (int, int)
    pad : int, "valid", "same" or ((top, bottom), (left, right))
        Zeros around the image.

    Returns
    -------
    ndarray [B * oh * ow, C * filter_h * filter_w]
        Rows in the order of ``(b, oh, ow)``, columns in the order of ``(c, row, column)``.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size, or a filter larger than the padded image.
    """
    _, backend = dispatch.choose("im2col", ("x",), (x,))
    shapes.check_image("im2col", x, "channels_first")
    window, size = _column_window("im2col", x.shape, filter_h, filter_w, stride, pad)
    columns = (x.shape[0] * size[0] * size[1], x.shape[1] * window.kernel[0] * window.kernel[1])
    shapes.check_elements("im2col", "the result", columns)
    return backend.im2col(x, window)


def col2im(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    filter_h: int,
    filter_w: int,
    stride: int | tuple[int, int] = 1,
    pad: Any = 0,
) -> Array:
    """The exact adjoint of `im2col`: every column entry is added to the pixel it came from.

    Parameters
    ----------
    cols : ndarray [B * oh * ow, C * filter_h * filter_w], float32 or float64
    x_shape : (B, C, h, w)
    filter_h, filter_w, stride, pad
        As given to `im2col`.

    Returns
    -------
    ndarray [B, C, h, w]

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size.
    """
    _, backend = dispatch.choose("col2im", ("cols",), (cols,))
    shapes.check_floating("col2im", "cols", cols)
    shapes.check_rank("col2im", "cols", cols, "B*oh*ow C*fh*fw")
    if not isinstance(x_shape, (tuple, list)) or len(x_shape) != 4:
        raise ValueError(f"[col2im] x_shape is {shapes.words(x_shape)}; (B, C, h, w) is needed")
    b, c, h, w = (
        shapes.integer("col2im", name, n, least)
        for name, n, least in zip("BChw", x_shape, (0, 1, 1, 1), strict=True)
    )
    window, size = _column_window("col2im", (b, c, h, w), filter_h, filter_w, stride, pad)
    shapes.check_elements("col2im", "the result", (b, c, h, w))
    rows = b * size[0] * size[1]
    shapes.check_shape("col2im", "cols", cols, (rows, c * window.kernel[0] * window.kernel[1]))
    return backend.col2im(cols, (b, c, h, w), window)


def _column_window(
    op: str, x_shape: tuple[int, ...], filter_h: Any, filter_w: Any, stride: Any, pad: Any
) -> tuple[Window, tuple[int, int]]:
    kernel = (
        shapes.integer(op, "filter_h", filter_h, 1),
        shapes.integer(op, "filter_w", filter_w, 1),
    )
    return shapes.window(op, (x_shape[2], x_shape[3]), kernel, stride, pad, 1)


def conv2d_forward(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    strides: int | tuple[int, int] = 1,
    padding: Any = "valid",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    activation: str | None = None,
) -> tuple[Array, ConvSaved]:
    """Two-dimensional convolution with a fused bias and activation.

    Parameters
    ----------
    x : ndarray [B, h, w, C] or, channels first, [B, C, h, w], float32 or float64
    kernel : ndarray [kh, kw, C / groups, O]
        Keras's layout in both data formats. With groups, the outputs of one group lie together.
    bias : ndarray [O], optional
    strides, dilation : int or (int, int)
    padding : "valid", "same", int, or ((top, bottom), (left, right))
        "same" as in TensorFlow: ``ceil(h / stride)`` rows, the smaller half of the zeros first.
    groups : int
        ``groups == C`` is a depthwise convolution.
    data_format : "channels_last" or "channels_first"
    activation : None, "linear", "relu", "tanh" or "sigmoid"

    Returns
    -------
    y : ndarray [B, oh, ow, O] or [B, O, oh, ow]
    saved : ConvSaved

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size, channels that do not divide, or a kernel larger than the padded
        image.
    """
    return _conv2d(
        "conv2d_forward",
        x,
        kernel,
        bias,
        strides,
        padding,
        dilation,
        groups,
        data_format,
        activation,
    )


def _conv2d(
    op: str,
    x: Array,
    kernel: Array,
    bias: Array | None,
    strides: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    data_format: str,
    activation: str | None,
) -> tuple[Array, ConvSaved]:
    name, backend = dispatch.choose(op, ("x", "kernel", "bias"), (x, kernel), (bias,))
    height, width, channels = shapes.check_image(op, x, data_format)
    shapes.check_rank(op, "kernel", kernel, "kh kw C/groups O")
    shapes.check_nonempty(op, "kernel", kernel)
    shapes.check_same_dtype(op, "kernel", kernel, "x", x)
    groups = shapes.integer(op, "groups", groups, 1)
    kh, kw, inner, outputs = kernel.shape
    if inner * groups != x.shape[channels] or outputs % groups:
        raise ValueError(
            f"[{op}] {x.shape[channels]} channels in x, kernel {list(kernel.shape)} and {groups} "
            f"groups; kernel [kh, kw, C/groups, O] with O a multiple of groups is needed"
        )
    if bias is not None:
        shapes.check_same_dtype(op, "bias", bias, "x", x)
        shapes.check_shape(op, "bias", bias, (outputs,))
    shapes.check_choice(op, "activation", activation, _FUSED)
    if activation == "linear":
        activation = None
    window, size = shapes.window(
        op, (x.shape[height], x.shape[width]), (kh, kw), strides, padding, dilation
    )
    shapes.check_elements(
        op, "the padded patches", (x.shape[0], *size, kh, kw, max(outputs, inner * groups))
    )
    y = backend.conv2d_forward(x, kernel, bias, window, groups, data_format, activation)
    return y, ConvSaved(name, x, kernel, bias, y, window, groups, data_format, activation)


def conv2d_backward(dy: Array, saved: ConvSaved, *, need_dx: bool = True) -> ConvGrads:
    """Gradients of `conv2d_forward`.

    Parameters
    ----------
    dy : ndarray
        Gradient of y, in its shape and dtype.
    saved : ConvSaved
    need_dx : bool
        False leaves ``dx`` out (None), as for the first layer of a network.

    Returns
    -------
    ConvGrads
        ``dx``, ``dkernel`` and ``dbias`` (None without a bias).

    Raises
    ------
    TypeError, ValueError
        If ``saved`` is not of `conv2d_forward`, or ``dy`` does not match its output.
    """
    op = "conv2d_backward"
    shapes.check_saved(op, saved, ConvSaved)
    backend = dispatch.owner(op, saved.backend, dy)
    shapes.check_gradient(op, dy, saved.y.shape, saved.y.dtype)
    return backend.conv2d_backward(dy, saved, need_dx)


def conv1d_forward(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    strides: int = 1,
    padding: Any = "valid",
    dilation: int = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    activation: str | None = None,
) -> tuple[Array, ConvSaved]:
    """One-dimensional convolution: `conv2d_forward` on an image of height 1.

    Parameters
    ----------
    x : ndarray [B, L, C] or, channels first, [B, C, L], float32 or float64
    kernel : ndarray [k, C / groups, O]
    bias : ndarray [O], optional
    strides, dilation : int
    padding : "valid", "same", "causal", int, or (left, right)
        "causal" puts all of the ``(k - 1) * dilation`` zeros before the first step.
    groups, data_format, activation
        As in `conv2d_forward`.

    Returns
    -------
    y : ndarray [B, oL, O] or [B, O, oL]
    saved : ConvSaved
        Of the two-dimensional call; for `conv1d_backward`.

    Raises
    ------
    TypeError, ValueError
        As `conv2d_forward`.
    """
    op = "conv1d_forward"
    _, backend = dispatch.choose(op, ("x", "kernel", "bias"), (x, kernel), (bias,))
    x, kernel = backend.asarray(x), backend.asarray(kernel)  # not all device arrays index by None
    shapes.check_data_format(op, data_format)
    last = data_format == "channels_last"
    shapes.check_rank(op, "x", x, "B L C" if last else "B C L")
    shapes.check_rank(op, "kernel", kernel, "k C/groups O")
    step = shapes.integer(op, "strides", strides, 1)
    spread = shapes.integer(op, "dilation", dilation, 1)
    if isinstance(padding, str) and padding == "causal":
        margins: Any = ((0, 0), ((kernel.shape[0] - 1) * spread, 0))
    elif isinstance(padding, str):
        margins = padding
    else:
        margins = ((0, 0), shapes.pair(op, "padding", padding, 0))
    y, saved = _conv2d(
        op,
        x[:, None] if last else x[:, :, None],
        kernel[None],
        bias,
        (1, step),
        margins,
        (1, spread),
        groups,
        data_format,
        activation,
    )
    return (y[:, 0] if last else y[:, :, 0]), saved


def conv1d_backward(dy: Array, saved: ConvSaved, *, need_dx: bool = True) -> ConvGrads:
    """Gradients of `conv1d_forward`.

    Parameters
    ----------
    dy : ndarray
        Gradient of y, in its shape and dtype.
    saved : ConvSaved
        From `conv1d_forward`.
    need_dx : bool
        False leaves ``dx`` out (None), as for the first layer of a network.

    Returns
    -------
    ConvGrads
        In the shapes of the one-dimensional x, kernel and bias.

    Raises
    ------
    TypeError, ValueError
        As `conv2d_backward`.
    """
    op = "conv1d_backward"
    shapes.check_saved(op, saved, ConvSaved)
    backend = dispatch.owner(op, saved.backend, dy)
    flat = 1 if saved.data_format == "channels_last" else 2
    y_shape = saved.y.shape
    if y_shape[flat] != 1 or saved.kernel.shape[0] != 1:
        raise ValueError(
            f"[{op}] saved is of a two-dimensional call with y {list(y_shape)}; "
            "the record of conv1d_forward is needed"
        )
    shapes.check_gradient(op, dy, y_shape[:flat] + y_shape[flat + 1 :], saved.y.dtype)
    dy = backend.asarray(dy)
    dx, dkernel, dbias = backend.conv2d_backward(
        dy[:, None] if flat == 1 else dy[:, :, None], saved, need_dx
    )
    if need_dx:
        dx = dx[:, 0] if flat == 1 else dx[:, :, 0]
    return ConvGrads(dx, dkernel[0], dbias)
