"""Layers, losses, optimizers and activations against Keras 3, forward and backward.

The values are frozen (tests/data/keras_oracle.npz): weights go in by ``set_weights`` in Keras's
order, outputs and gradients must come out as Keras's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frozen import Case, load

import fastnn

CASES = load(Path(__file__).parent / "data" / "keras_oracle.npz")
DOUBLE, SINGLE = np.dtype("float64"), np.dtype("float32")
# Relative to the largest magnitude of the expected array.
BOUNDS = {DOUBLE: 1e-11, SINGLE: 1e-5}
# TensorFlow rounds a constant of these to float32, also in float64.
COARSE = ("activation-leaky_relu", "activation-gelu", "dense-gelu", "optimizer/adam")


def of_kind(kind: str):
    """A parametrisation by the cases of one kind."""
    chosen = [case for case in CASES if case.spec["kind"] == kind]
    return pytest.mark.parametrize("case", chosen, ids=[c.name.split("/")[1] for c in chosen])


def bound_of(case: Case, dtype: np.dtype) -> float:
    return 1e-7 if case.name.endswith(COARSE) and dtype == DOUBLE else BOUNDS[dtype]


def close(what: str, actual, expected: np.ndarray, dtype: np.dtype, bound: float) -> None:
    actual = np.asarray(actual)
    assert actual.dtype == dtype, f"{what}: {actual.dtype}"
    assert actual.shape == expected.shape, f"{what}: {actual.shape}, Keras {expected.shape}"
    error = np.max(np.abs(actual - expected), initial=0.0)
    scale = max(np.max(np.abs(expected), initial=0.0), 1e-3)
    assert error <= bound * scale, f"{what}: off by {error:.3g} of {scale:.3g}"


def close_all(what: str, actual, expected: list[np.ndarray], dtype: np.dtype, bound: float) -> None:
    for i, (got, wanted) in enumerate(zip(actual, expected, strict=True)):
        close(f"{what}{i}", got, wanted, dtype, bound)


def floats(arrays: list[np.ndarray], dtype: np.dtype) -> list[np.ndarray]:
    return [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]


# --------------------------------------------------------------------------- losses


@of_kind("loss")
def test_loss(case: Case, backend, dtype):
    a = {
        key: value if case.spec["loss"][:6] == "sparse" and key == "y_true" else value.astype(dtype)
        for key, value in case.arrays.items()
    }
    value, saved = fastnn.loss_forward(
        a["y_true"],
        a["y_pred"],
        loss=case.spec["loss"],
        sample_weight=a.get("sample_weight"),
        **case.spec["config"],
    )
    expected = float(case.arrays["value"])
    # The clip at 1 - 1e-7 is one at 1 - 1.2e-7 in float32, in Keras too.
    clipped = case.name.startswith("loss/binary") and "False-saturated" in case.name
    bound = 5e-3 if clipped and dtype == SINGLE else BOUNDS[dtype]
    assert value == pytest.approx(expected, rel=bound, abs=0)
    close("dy", fastnn.loss_backward(saved), case.arrays["dy"], dtype, BOUNDS[dtype])


@of_kind("loss")
def test_loss_class(case: Case, backend):
    a = case.arrays
    loss = getattr(fastnn.losses, case.spec["class"])(**case.spec["config"])
    value = loss(a["y_true"], a["y_pred"], a.get("sample_weight"), training=True)
    assert value == pytest.approx(float(a["value"]), rel=BOUNDS[DOUBLE], abs=0)
    close("dy", loss.backward(), a["dy"], DOUBLE, BOUNDS[DOUBLE])


# --------------------------------------------------------------------------- optimizers


@of_kind("optimizer")
def test_optimizer(case: Case, dtype):
    optimizer = getattr(fastnn.optimizers, case.spec["optimizer"])(**case.spec["config"])
    weights = floats(case.series("p"), dtype)
    bound = bound_of(case, dtype)
    for step in range(5):
        optimizer.apply(floats(case.series(f"g{step}_"), dtype), weights)
        expected = case.series(f"p{step}_")
        close_all(f"step {step}, weight ", weights, expected, dtype, bound)


# --------------------------------------------------------------------------- layers


def make(spec: list, dtype: np.dtype):
    """A fastnn layer of ``[class name, arguments]``, nested where an argument is a layer."""
    name, arguments = spec
    if name == "Sequential":
        return fastnn.Sequential([make(inner, dtype) for inner in arguments["layers"]])
    if "layer" in arguments:  # a wrapper computes in the dtype of the layer inside
        return getattr(fastnn.layers, name)(
            **arguments | {"layer": make(arguments["layer"], dtype)}
        )
    return getattr(fastnn.layers, name)(**arguments, dtype=dtype)


def called(case: Case, dtype: np.dtype, training: bool):
    """The case's layer with Keras's weights, and its outputs as a list."""
    layer = make(case.spec["layer"], dtype)
    (x,) = floats([case.arrays["x0"]], dtype)
    states = floats(case.series("state"), dtype)
    call = {"mask": case.arrays["mask"]} if "mask" in case.arrays else {}
    if states:
        call["initial_state"] = states if len(states) > 1 else states[0]
    layer.build(x.shape)
    layer.set_weights(case.series("w"))
    for _ in range(case.spec["calls"]):
        y = layer(x, training=training, **call)
    return layer, y if isinstance(y, tuple) else [y]


@of_kind("layer")
def test_layer(case: Case, backend, dtype):
    layer, y = called(case, dtype, training=True)
    bound = bound_of(case, dtype)
    close_all("y", y, case.series("y"), dtype, bound)
    dy = floats(case.series("r"), dtype)
    dx = layer.backward(tuple(dy) if isinstance(y, tuple) else dy[0])
    expected = case.series("dx")
    close_all("dx", [dx] if expected else [], expected, dtype, bound)
    close_all("dw", layer.gradients, case.series("dw"), dtype, bound)
    d_state = case.series("dstate")
    if d_state:
        got = layer.initial_state_gradient
        got = got if isinstance(got, tuple) else [got]
        close_all("dstate", got, d_state, dtype, bound)


@of_kind("layer")
def test_inference(case: Case, backend, dtype):
    """Without training a layer keeps nothing, takes other paths, and gives the same output."""
    _, y = called(case, dtype, training=False)
    close_all("y", y, case.series("y"), dtype, bound_of(case, dtype))


# --------------------------------------------------------------------------- training


@of_kind("fit")
def test_fit(case: Case, backend, dtype):
    """A whole training run, batch by batch as in Keras: the weights and the history agree."""
    spec = case.spec
    model = make(["Sequential", {"layers": spec["layers"]}], dtype)
    (x,) = floats([case.arrays["x"]], dtype)
    model.build(x.shape)
    model.set_weights(case.series("w"))
    optimizer, loss = spec["optimizer"], spec["loss"]
    model.compile(
        getattr(fastnn.optimizers, optimizer[0])(**optimizer[1]),
        getattr(fastnn.losses, loss[0])(**loss[1]),
        metrics=spec["metrics"],
    )
    extra = {}
    if "sample_weight" in case.arrays:
        extra["sample_weight"] = case.arrays["sample_weight"]
    y = case.arrays["y"]
    history = model.fit(x, y, validation_data=(x[:3], y[:3]), **spec["arguments"], **extra).history
    # Adam divides by the gradient's own size: noise of float32 grows from step to step.
    bound = {DOUBLE: 1e-9, SINGLE: 1e-4}[dtype]
    close_all("weight ", model.get_weights(), case.series("after"), dtype, bound)
    expected = {k.removeprefix("history_"): v for k, v in case.arrays.items() if "history_" in k}
    assert set(history) == set(expected)
    for key, values in expected.items():
        # Keras accumulates metrics in float32.
        assert np.array(history[key]) == pytest.approx(values, rel=max(bound, 1e-6)), key
