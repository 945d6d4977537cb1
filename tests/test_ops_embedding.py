"""Embeddings: values, gradients, layouts, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_close, check_gradients, same_on_every_layout, unchanged

import fastnn


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "uint64"])
def test_embedding(backend, dtype, kind, rng):
    table = rng.standard_normal((5, 3)).astype(dtype)
    indices = np.array([[0, 4, 4], [2, 4, 0]], kind)
    with unchanged(indices, table):
        y, saved = fastnn.embedding_forward(indices, table)
        dy = rng.standard_normal(y.shape).astype(dtype)
        dtable = fastnn.embedding_backward(dy, saved)
    assert y.dtype == dtype and saved.backend == backend
    expected = np.zeros((5, 3))
    for at in np.ndindex(indices.shape):
        np.testing.assert_array_equal(y[at], table[indices[at]])
        expected[indices[at]] += dy[at]
    assert_close(dtable, expected, dtype)


def test_embedding_gradient(backend, rng):
    indices = rng.integers(0, 4, (3, 5))

    def run(table):
        y, saved = fastnn.embedding_forward(indices, table)
        return y, lambda dy: [fastnn.embedding_backward(dy, saved)]

    check_gradients(run, [rng.standard_normal((4, 3))], full=True)


def test_embedding_memory_layouts(backend, dtype, rng):
    def run(table, dy):
        y, saved = fastnn.embedding_forward(np.array([[3, 0, 3], [1, 2, 0]]).T, table)
        return y, fastnn.embedding_backward(dy, saved)

    arrays = [rng.standard_normal(shape).astype(dtype) for shape in [(4, 7), (3, 2, 7)]]
    same_on_every_layout(run, arrays)


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_embedding_of_nothing(backend, dtype, shape):
    y, saved = fastnn.embedding_forward(np.zeros(shape, int), np.ones((4, 3), dtype))
    assert y.shape == (*shape, 3) and y.dtype == dtype
    dtable = fastnn.embedding_backward(y, saved)
    assert dtable.shape == (4, 3) and not dtable.any()


@pytest.mark.parametrize(
    ("indices", "table", "error", "message"),
    [
        (np.array([0, 4]), np.ones((4, 2)), ValueError, "indices has 0 to 4; 0 <= indices < 4"),
        (np.array([-1, 2]), np.ones((4, 2)), ValueError, "indices has -1 to 2"),
        (np.array([2**63], "uint64"), np.ones((4, 2)), ValueError, "has 9223372036854775808"),
        (np.array([1.0]), np.ones((4, 2)), TypeError, "integers are needed"),
        (np.array([True]), np.ones((4, 2)), TypeError, "integers are needed"),
        (np.array([0]), np.ones(4), ValueError, r"\[V, E\] is needed"),
        (np.array([0]), np.ones((4, 0)), ValueError, "axes of at least 1"),
        (np.array([0]), np.ones((4, 2), int), TypeError, "table is int64"),
        ([0], np.ones((4, 2)), TypeError, "indices is a list"),
    ],
)
def test_embedding_refuses(backend, indices, table, error, message):
    with pytest.raises(error, match=r"^\[embedding_forward\] .*" + message):
        fastnn.embedding_forward(indices, table)
