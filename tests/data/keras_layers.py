"""Frozen cases of layers without a state: convolution, pooling, dense layers, activations."""

from __future__ import annotations

import numpy as np
from frozen import grid
from keras_cases import MASK_RIGHT, RNG, layer_case


def convolution():
    image = grid(RNG, 2, 7, 6, 4)
    base = {"filters": 4, "kernel_size": 3}
    variants = {
        "valid": {},
        "same": {"padding": "same"},
        "strides": {"strides": 2},
        "same-strides": {"strides": [2, 3], "padding": "same", "kernel_size": [3, 2]},
        "same-even": {"kernel_size": [4, 2], "padding": "same"},
        "dilation": {"dilation_rate": 2},
        "same-dilation": {"dilation_rate": [2, 1], "padding": "same"},
        "groups": {"groups": 2},
        "groups-depthwise-same": {"groups": 4, "padding": "same", "strides": 2, "filters": 8},
        "relu": {"activation": "relu"},
        "tanh-no_bias": {"activation": "tanh", "use_bias": False},
        "1x1": {"kernel_size": 1},
        "wide_stride": {"kernel_size": 2, "strides": 3},
        "channels_first": {"data_format": "channels_first"},
        "channels_first-same-strides": {
            "data_format": "channels_first",
            "padding": "same",
            "strides": 2,
        },
    }
    for tag, change in variants.items():
        x = image.transpose(0, 3, 1, 2).copy() if "data_format" in change else image
        layer_case(f"conv2d-{tag}", ["Conv2D", base | change], x)
    series = grid(RNG, 2, 9, 4)
    for tag, change in {
        "valid": {},
        "same-strides": {"padding": "same", "strides": 2},
        "causal": {"padding": "causal", "dilation_rate": 2},
        "dilation-groups": {"dilation_rate": 2, "groups": 2},
        "sigmoid": {"activation": "sigmoid", "kernel_size": 4, "padding": "same"},
    }.items():
        layer_case(f"conv1d-{tag}", ["Conv1D", base | change], series)
    depth = {"kernel_size": 3, "depth_multiplier": 2}
    for tag, change in {
        "valid": {},
        "same-strides": {"padding": "same", "strides": 2},
        "dilation-relu": {"dilation_rate": 2, "activation": "relu"},
        "dilation-strides": {"dilation_rate": 2, "strides": 2, "padding": "same"},
        "multiplier1": {"depth_multiplier": 1},
    }.items():
        layer_case(f"depthwise-{tag}", ["DepthwiseConv2D", depth | change], image)


def pooling():
    image = grid(RNG, 2, 7, 6, 2)
    series = grid(RNG, 2, 7, 3)
    shapes = {
        "default": {"pool_size": 2},
        "overlap": {"pool_size": 3, "strides": 2},
        "same": {"pool_size": 3, "strides": 2, "padding": "same"},
        "same-even": {"pool_size": 2, "strides": 1, "padding": "same"},
        "gaps": {"pool_size": 2, "strides": 3},
    }
    for tag, change in shapes.items():
        for kind in ("Max", "Average"):
            layer_case(f"{kind}2d-{tag}", [f"{kind}Pooling2D", change], image)
            layer_case(f"{kind}1d-{tag}", [f"{kind}Pooling1D", change], series)
    first = image.transpose(0, 3, 1, 2).copy()
    for kind in ("Max", "Average"):
        change = {"pool_size": [3, 2], "strides": [1, 2], "padding": "same"}
        layer_case(f"{kind}2d-rectangle", [f"{kind}Pooling2D", change], image)
        layer_case(f"Global{kind}2d", [f"Global{kind}Pooling2D", {}], image)
        keep = [f"Global{kind}Pooling2D", {"keepdims": True}]
        layer_case(f"Global{kind}2d-keepdims", keep, image)
        layer_case(f"Global{kind}1d", [f"Global{kind}Pooling1D", {}], series)
        first_spec = [f"Global{kind}Pooling2D", {"data_format": "channels_first"}]
        layer_case(f"Global{kind}2d-channels_first", first_spec, first)
        change = {"pool_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first"}
        layer_case(f"{kind}2d-channels_first", [f"{kind}Pooling2D", change], first)
    mask = MASK_RIGHT[:2]
    layer_case("GlobalAverage1d-mask", ["GlobalAveragePooling1D", {}], series[:, :5], mask=mask)


ACTIVATIONS = [
    "linear",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "softplus",
    "softsign",
    "exponential",
    "silu",
    "gelu",
    "softmax",
    "log_softmax",
]


def dense():
    x = grid(RNG, 4, 5)
    for activation in (None, "relu", "tanh", "sigmoid", "softmax", "gelu"):
        spec = ["Dense", {"units": 3, "activation": activation}]
        layer_case(f"dense-{activation}", spec, x)
    layer_case("dense-no_bias", ["Dense", {"units": 3, "use_bias": False}], x)
    steps = grid(RNG, 2, 3, 4)
    layer_case("dense-3d", ["Dense", {"units": 2, "activation": "relu"}], steps)
    inner = ["Dense", {"units": 2, "activation": "softmax"}]
    layer_case("time_distributed-dense", ["TimeDistributed", {"layer": inner}], steps)
    layer_case("flatten", ["Flatten", {}], steps)
    first = ["Flatten", {"data_format": "channels_first"}]
    layer_case("flatten-channels_first", first, grid(RNG, 2, 3, 2, 2))
    layer_case("reshape", ["Reshape", {"target_shape": [2, -1]}], steps)
    # Off the kinks (0, and 3 of hard_sigmoid), where a gradient is a convention.
    wide = np.array([-30, -8.5, -3.25, -1.5, -0.25, -1 / 64, 1 / 64, 0.5, 1.75, 3.25, 8.5, 20.0])
    wide = RNG.permuted(np.stack([wide, wide * 0.5, wide[::-1] * 0.25]), axis=1).reshape(6, 6)
    for activation in ACTIVATIONS:
        layer_case(f"activation-{activation}", ["Activation", {"activation": activation}], wide)
