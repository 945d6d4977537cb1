"""Images as columns: `im2col` by convolutions that pick a cell, `col2im` as its adjoint."""

from __future__ import annotations

import numpy as np
import pytest
from conv_cases import definition
from helpers import same_on_every_layout

import fastnn
from fastnn import use_backend


@pytest.mark.parametrize(
    ("x_shape", "filter_size", "stride", "pad"),
    [
        ((2, 3, 4, 5), (2, 3), 1, 0),
        ((1, 1, 1, 1), (1, 1), 1, 0),
        ((2, 2, 5, 7), (3, 2), (2, 3), 1),
        ((3, 1, 4, 4), (2, 2), 3, ((0, 2), (1, 0))),
        ((2, 2, 5, 5), (3, 3), 2, "same"),
        ((0, 2, 3, 3), (2, 2), 1, 0),
    ],
)
def test_im2col_is_the_definition_and_col2im_its_adjoint(
    backend, dtype, x_shape, filter_size, stride, pad, rng
):
    x = rng.standard_normal(x_shape).astype(dtype)
    cols = fastnn.im2col(x, *filter_size, stride, pad)
    kh, kw = filter_size
    # Each column is a convolution with a kernel that picks one cell of one channel.
    pick = np.zeros((kh, kw, x_shape[1], x_shape[1] * kh * kw))
    for column, (c, i, j) in enumerate(np.ndindex(x_shape[1], kh, kw)):
        pick[i, j, c, column] = 1
    with use_backend("numpy"):
        images = x.astype(np.float64).transpose(0, 2, 3, 1)
        _, saved = fastnn.conv2d_forward(images, pick, strides=stride, padding=pad)
    expected = definition(images, pick, np.zeros(pick.shape[3]), saved.window, 1)
    assert cols.dtype == dtype
    np.testing.assert_array_equal(cols, expected.reshape(-1, pick.shape[3]))

    dcols = rng.standard_normal(cols.shape).astype(dtype)
    dx = fastnn.col2im(dcols, x_shape, *filter_size, stride, pad)
    assert dx.shape == x_shape and dx.dtype == dtype
    inner = np.vdot(cols.astype(np.float64), dcols)
    bound = 1e-6 * np.linalg.norm(cols) * np.linalg.norm(dcols)
    assert abs(np.vdot(x.astype(np.float64), dx) - inner) <= bound


def test_column_memory_layouts(backend, dtype, rng):
    x = rng.standard_normal((2, 3, 5, 4)).astype(dtype)
    same_on_every_layout(lambda x: [fastnn.im2col(x, 2, 3, 1, 1)], [x])
    cols = rng.standard_normal((2 * 6 * 4, 3 * 6)).astype(dtype)
    same_on_every_layout(lambda c: [fastnn.col2im(c, (2, 3, 5, 4), 2, 3, 1, 1)], [cols])
