"""float16 and bfloat16 on CuPy's arrays: float32 inside, rounded where a value goes to memory."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from cuda_emulator import device
from device_calls import moved_calls
from helpers import relative_error

import fastnn

REASON = device.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

# Half a unit in the last place is 2^-11 and 2^-8; a few roundings follow each other.
TOLERANCE = {"float16": 3e-3, "bfloat16": 2.5e-2}


@pytest.fixture(params=TOLERANCE)
def half(request):
    if request.param == "bfloat16":
        if find_spec("ml_dtypes") is None:
            pytest.skip("bfloat16 in NumPy is of ml_dtypes, which is not installed")
        import ml_dtypes  # noqa: F401
    with device.cupy_device() as own, fastnn.use_backend("cupy"), moved_calls(own):
        yield np.dtype(request.param)


def agree(run, arrays, dtype):
    """``run`` in half precision against the float64 reference on the same rounded values."""
    rounded = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    wide = [a.astype("float64") if a.dtype == dtype else a for a in rounded]
    with fastnn.use_backend("numpy"):
        expected = run(*wide)
    for one, other in zip(run(*rounded), expected, strict=True):
        assert one.dtype == dtype
        assert relative_error(one, other) <= TOLERANCE[dtype.name]


@pytest.mark.parametrize("method", ["implicit", "columns"])
@pytest.mark.parametrize("groups", [1, 4])
def test_convolution(half, rng, monkeypatch, method, groups):
    monkeypatch.setenv("FASTNN_CUDA_CONV", method)
    x, kernel = rng.standard_normal((2, 6, 5, 4)), rng.standard_normal((3, 3, 4 // groups, 8)) / 4

    def run(x, kernel, bias):
        options = {"padding": "same", "groups": groups, "activation": "tanh"}
        y, saved = fastnn.conv2d_forward(x, kernel, bias, **options)
        return y, *fastnn.conv2d_backward(y, saved)

    agree(run, (x, kernel, rng.standard_normal(8)), half)


@pytest.mark.parametrize("kind", ["max", "avg", "stochastic"])
def test_pooling(half, rng, kind):
    forward = getattr(fastnn, f"{kind}_pool2d_forward")
    backward = getattr(fastnn, f"{kind}_pool2d_backward")

    def run(x):
        y, saved = forward(x, pool_size=2, padding="same")
        return y, backward(y, saved)

    agree(run, (np.abs(rng.standard_normal((2, 5, 6, 8))),), half)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", None])
def test_dense(half, rng, activation):
    def run(x, kernel, bias):
        y, saved = fastnn.dense_forward(x, kernel, bias, activation=activation)
        return y, *fastnn.dense_backward(y, saved)

    arrays = (rng.standard_normal((7, 20)), rng.standard_normal((20, 9)) / 4, np.ones(9))
    agree(run, arrays, half)


@pytest.mark.parametrize("activation", ["gelu", "selu", "softplus", "softmax", "log_softmax"])
def test_activations(half, rng, activation):
    def run(x):
        y, saved = fastnn.activation_forward(x, activation)
        return y, fastnn.activation_backward(x, saved)

    agree(run, (rng.standard_normal((5, 19)),), half)


def test_embedding_loss_and_dropout(half, rng):
    table, labels = rng.standard_normal((5, 6)), rng.integers(0, 5, 70)

    def run(table, labels):
        y, saved = fastnn.embedding_forward(labels, table)
        z, dropped = fastnn.dropout_forward(y, rate=0.25, seed=3)
        _, loss = fastnn.loss_forward(
            labels, z, loss="sparse_categorical_crossentropy", from_logits=True
        )
        dz = fastnn.loss_backward(loss)
        return y, z, dz, fastnn.embedding_backward(fastnn.dropout_backward(dz, dropped), saved)

    agree(run, (table, labels), half)


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_recurrent(half, rng, cell):
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3}[cell]
    shapes = ((5, 3, 4), (4, gates * 6), (6, gates * 6), (gates * 6,))

    def run(x, *weights):
        output, saved = fastnn.rnn_forward(x, fastnn.RnnWeights(*weights), cell=cell)
        grads = fastnn.rnn_backward(fastnn.RnnOutput(y=output.y), saved)
        return output.y, grads.dx, *grads.weights[:3]

    agree(run, [rng.standard_normal(shape) / 2 for shape in shapes], half)


def test_the_host_has_no_halves():
    x = np.zeros((2, 3), "float16")
    with pytest.raises(TypeError, match="float32 or float64 is needed"):
        fastnn.activation_forward(x, "relu")
