"""Embedding: ``y = table[indices]``; backward adds the rows of dy, in order, by index."""

from __future__ import annotations

import numpy as np


def forward(indices, table):
    """y [..., E]."""
    return table[indices]


def backward(dy, indices, table_shape):
    """dtable [V, E]."""
    dtable = np.zeros(table_shape, dtype=dy.dtype)
    np.add.at(dtable, indices, dy)
    return dtable
