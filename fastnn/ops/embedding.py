"""Embedding: rows of a table, by their indices."""

from __future__ import annotations

from fastnn import dispatch, shapes
from fastnn.types import Array, EmbeddingSaved

__all__ = ["embedding_backward", "embedding_forward"]


def embedding_forward(indices: Array, table: Array) -> tuple[Array, EmbeddingSaved]:
    """``table[indices]``.

    Parameters
    ----------
    indices : ndarray [...], integers in ``0 .. V - 1``
    table : ndarray [V, E], float32 or float64

    Returns
    -------
    y : ndarray [..., E]
    saved : EmbeddingSaved

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank or size, or an index outside the table.
    """
    op = "embedding_forward"
    name, backend = dispatch.choose(op, ("indices", "table"), (indices, table))
    shapes.check_floating(op, "table", table)
    shapes.check_rank(op, "table", table, "V E")
    shapes.check_nonempty(op, "table", table)
    shapes.check_elements(op, "the result", (*indices.shape, table.shape[1]))
    rows = shapes.labels(op, "indices", backend.asarray(indices), table.shape[0])
    y = backend.embedding_forward(rows, table)
    return y, EmbeddingSaved(name, rows, table.shape, table.dtype)


def embedding_backward(dy: Array, saved: EmbeddingSaved) -> Array:
    """Gradient of the table in `embedding_forward`: the rows of dy, summed by index.

    Parameters
    ----------
    dy : ndarray [..., E]
        Gradient of y, in its dtype.
    saved : EmbeddingSaved

    Returns
    -------
    ndarray [V, E]

    Raises
    ------
    TypeError, ValueError
        If ``saved`` is not of `embedding_forward`, or ``dy`` does not match its output.
    """
    op = "embedding_backward"
    shapes.check_saved(op, saved, EmbeddingSaved)
    backend = dispatch.owner(op, saved.backend, dy)
    shapes.check_gradient(op, dy, (*saved.indices.shape, saved.table_shape[1]), saved.dtype)
    return backend.embedding_backward(dy, saved)
