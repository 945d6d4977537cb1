"""The contract: functional operations on arrays.

Each forward gives ``(output, saved)``, each backward takes the upstream gradient and ``saved`` and
returns gradients. No operation changes its inputs, and none keeps state.
"""

from __future__ import annotations

from fastnn.ops.activation import ACTIVATIONS, activation_backward, activation_forward
from fastnn.ops.conv import (
    col2im,
    conv1d_backward,
    conv1d_forward,
    conv2d_backward,
    conv2d_forward,
    im2col,
)
from fastnn.ops.dense import dense_backward, dense_forward
from fastnn.ops.embedding import embedding_backward, embedding_forward
from fastnn.ops.loss import LOSSES, loss_backward, loss_forward
from fastnn.ops.noise import dropout_backward, dropout_forward, random_uniform
from fastnn.ops.pool import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    stochastic_pool2d_backward,
    stochastic_pool2d_forward,
)
from fastnn.ops.rnn import rnn_backward, rnn_backward_pair, rnn_forward, rnn_forward_pair

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "activation_backward",
    "activation_forward",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "col2im",
    "conv1d_backward",
    "conv1d_forward",
    "conv2d_backward",
    "conv2d_forward",
    "dense_backward",
    "dense_forward",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "im2col",
    "loss_backward",
    "loss_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "random_uniform",
    "rnn_backward",
    "rnn_backward_pair",
    "rnn_forward",
    "rnn_forward_pair",
    "stochastic_pool2d_backward",
    "stochastic_pool2d_forward",
]
