"""Options that are no options: each is told in one line, before a kernel runs."""

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.types import RnnWeights

ARRAY = np.ones((3, 2))
IMAGE = np.ones((1, 5, 5, 2), np.float32)
KERNEL = np.ones((2, 2, 2, 3), np.float32)
WEIGHTS = RnnWeights(np.ones((2, 3), np.float32), np.ones((3, 3), np.float32))
SEQUENCE = np.ones((4, 1, 2), np.float32)
CALLS = {
    "conv2d": lambda **k: ops.conv2d_forward(IMAGE, KERNEL, **k),
    "conv1d": lambda **k: ops.conv1d_forward(IMAGE[0], KERNEL[0], **k),
    "max_pool2d": lambda **k: ops.max_pool2d_forward(IMAGE, **{"pool_size": 2} | k),
    "avg_pool2d": lambda **k: ops.avg_pool2d_forward(IMAGE, **{"pool_size": 2} | k),
    "stochastic_pool2d": lambda **k: ops.stochastic_pool2d_forward(IMAGE, **{"pool_size": 2} | k),
    "dense": lambda **k: ops.dense_forward(IMAGE, KERNEL[0, 0], **k),
    "activation": lambda activation: ops.activation_forward(IMAGE, activation),
    "dropout": lambda **k: ops.dropout_forward(IMAGE, **{"rate": 0.5, "seed": 1} | k),
    "loss": lambda **k: ops.loss_forward(IMAGE, IMAGE, **{"loss": "huber"} | k),
    "rnn": lambda **k: ops.rnn_forward(SEQUENCE, WEIGHTS, **{"cell": "simple_rnn"} | k),
}
OPTIONS = {
    "conv2d": ("strides", "padding", "dilation", "groups", "data_format", "activation"),
    "conv1d": ("strides", "padding", "dilation", "groups", "data_format", "activation"),
    "max_pool2d": ("pool_size", "strides", "padding", "data_format", "keep"),
    "avg_pool2d": ("pool_size", "strides", "padding", "data_format", "count_include_pad"),
    "stochastic_pool2d": ("pool_size", "strides", "padding", "data_format", "training", "keep"),
    "dense": ("activation",),
    "activation": ("activation",),
    "dropout": ("rate", "seed", "noise_shape"),
    "loss": ("loss", "from_logits", "delta", "keep"),
    "rnn": (
        "cell",
        "activation",
        "reset_after",
        "reverse",
        "lengths",
        "recurrent_dropout",
        "zoneout",
        "seed",
        "keep",
    ),
}


@pytest.mark.parametrize(
    "value", [ARRAY, {}, object(), "no such thing", -3, -(2**70), float("nan")]
)
@pytest.mark.parametrize(
    ("op", "option"), [(op, o) for op, names in OPTIONS.items() for o in names]
)
def test_are_told_in_one_line(op, option, value):
    with pytest.raises((TypeError, ValueError)) as error:
        CALLS[op](**{option: value})
    text = str(error.value)
    assert text.startswith(f"[{op}_forward] ") and "needed" in text and "\n" not in text


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d", "stochastic_pool2d", "conv2d"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_stride_far_out_of_the_image_costs_nothing(backend, op, data_format):
    backward = getattr(ops, f"{op}_backward")
    kernel = {"kernel": np.ones((1, 1, 5 if data_format == "channels_first" else 2, 3))}
    x = np.ones((1, 5, 5, 2))
    forward = getattr(ops, f"{op}_forward")
    options = kernel if op == "conv2d" else {"pool_size": 1}
    y, saved = forward(x, strides=2**31 - 1, data_format=data_format, **options)
    near, near_saved = forward(x, strides=5, data_format=data_format, **options)
    np.testing.assert_array_equal(y, near)
    one, other = backward(np.ones_like(y), saved), backward(np.ones_like(y), near_saved)
    one, other = (one.dx, other.dx) if op == "conv2d" else (one, other)
    np.testing.assert_array_equal(one, other)


def test_results_that_no_machine_can_hold_are_told():
    wide = np.broadcast_to(np.float32(1), (2, 2**59))
    for call in (
        lambda: ops.dense_forward(np.ones((5, 2), np.float32), wide),
        lambda: ops.embedding_forward(np.broadcast_to(0, 2), wide),
        lambda: ops.conv2d_forward(IMAGE[:0], KERNEL, padding=2**31 - 1),
    ):
        with pytest.raises(
            ValueError, match=r"^\[\w+\] .* fewer than 2\*\*60 elements are needed$"
        ):
            call()


def test_the_scale_of_a_loss():
    _, saved = ops.loss_forward(IMAGE, IMAGE * 2, loss="mean_squared_error")
    with pytest.raises(TypeError, match=r"^\[loss_backward\] scale is 'x'; a number is needed$"):
        fastnn.loss_backward(saved, "x")
