"""Layers and models on CuPy's arrays: the CPU's results, weights and state on the device."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import device, fake_cupy
from device_models import (
    assert_same,
    build,
    check_bad_label,
    check_fit,
    check_saving,
    prefetched,
    problem,
    slots_of,
)

import fastnn
from fastnn import layers, prefetch
from fastnn.batches import Data

REASON = device.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture
def cupy():
    with device.cupy() as module, fastnn.use_backend("cupy"):
        yield module


LAYERS = {
    "dense": (lambda: layers.Dense(3, "gelu"), (4, 5)),
    "simple_rnn": (lambda: layers.SimpleRNN(4), (3, 5, 2)),
    "lstm": (lambda: layers.LSTM(4, return_sequences=True), (3, 5, 2)),
    "gru": (lambda: layers.GRU(4, go_backwards=True), (3, 5, 2)),
    "bidirectional": (lambda: layers.Bidirectional(layers.LSTM(3)), (3, 4, 2)),
    "time_distributed": (lambda: layers.TimeDistributed(layers.Dense(3)), (2, 4, 3)),
    "conv2d": (lambda: layers.Conv2D(3, 3, padding="same", activation="relu"), (2, 5, 5, 2)),
    "conv1d": (lambda: layers.Conv1D(3, 2, padding="causal"), (2, 6, 2)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), (2, 5, 5, 2)),
    "max": (lambda: layers.MaxPooling2D(2), (2, 5, 4, 3)),
    "average": (lambda: layers.AveragePooling2D(2, padding="same"), (2, 5, 4, 3)),
    "global_max": (lambda: layers.GlobalMaxPooling2D(), (2, 5, 4, 3)),
    "global_average": (lambda: layers.GlobalAveragePooling1D(), (2, 5, 4)),
    "dropout": (lambda: layers.Dropout(0.4, seed=3), (4, 6)),
    "flatten": (lambda: layers.Flatten(), (2, 3, 4)),
    "reshape": (lambda: layers.Reshape((4, 3)), (2, 3, 4)),
    "masking": (lambda: layers.Masking(), (2, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_what_they_give_on_the_cpu(cupy, rng, name):
    make, shape = LAYERS[name]
    x = rng.standard_normal(shape).astype("float32")

    def run(layer, weights):
        layer.build(shape)
        if weights is not None:
            layer.set_weights(weights)
        y = layer(x, training=True)
        dy = np.linspace(-1, 1, y.size, dtype="float32").reshape(y.shape)
        dx = layer.backward(fastnn.asarray(dy))
        return layer, [y, dx, *layer.gradients]

    with fastnn.use_backend("numpy"):
        there, expected = run(make(), None)
    here, actual = run(make(), there.get_weights())
    assert all(isinstance(w, cupy.ndarray) for w in here.weights)
    assert_same(actual, expected, lambda a: isinstance(a, cupy.ndarray), atol=2e-6)


SAMPLES, STEPS = 60, 4


def small():
    return build(5, layers.Input((STEPS, 3)))


def test_fit_learns_as_on_the_cpu(cupy, rng):
    x, y = problem(rng, SAMPLES, STEPS)
    check_fit("cupy", small, x, y, epochs=3, batch_size=20, validation_split=0.2)


def test_weights_and_state_of_the_optimizer_stay_on_the_device(cupy, rng):
    model = small()
    model.fit(*problem(rng, SAMPLES, STEPS), epochs=1, verbose=0)
    for array in [*model.weights, *model.gradients, *slots_of(model)]:
        assert isinstance(array, cupy.ndarray)


@pytest.mark.skipif(device.cupy_gpu.unavailable() is None, reason="counted by the stand-in alone")
def test_no_step_waits_for_the_device(cupy, rng):
    x, y = problem(rng, SAMPLES, STEPS)
    model = small()
    model.fit(x, y, epochs=1, batch_size=20, verbose=0)
    waited = {}
    for batch_size in (5, 20):
        fake_cupy.counts.clear()
        model.fit(x, y, epochs=1, batch_size=batch_size, verbose=0)
        waited[batch_size] = fake_cupy.counts["synchronizations"]
    assert waited[5] == waited[20] <= 5  # those of an epoch, not of its steps


@pytest.mark.parametrize("shuffle", [False, True])
def test_data_too_large_for_the_device_are_fetched_ahead(cupy, rng, monkeypatch, shuffle):
    x, y = problem(rng, SAMPLES, STEPS)
    weight = rng.uniform(0.5, 1.5, len(x))

    def fitted():
        model = small()
        history = model.fit(
            x, y, epochs=2, batch_size=16, verbose=0, shuffle=shuffle, sample_weight=weight
        )
        return history.history, [w.get() for w in model.weights]

    expected = fitted()
    used = prefetched(monkeypatch)
    monkeypatch.setattr(prefetch, "_SHARE", 0.0)
    actual = fitted()
    assert len(used) == 2
    for key, values in expected[0].items():
        np.testing.assert_allclose(actual[0][key], values, rtol=1e-6, err_msg=key)
    for one, other in zip(actual[1], expected[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(device.cupy_gpu.unavailable() is None, reason="seen in the stand-in alone")
def test_who_stops_early_waits_for_the_copy_on_its_way(cupy, rng, monkeypatch):
    x, y = problem(rng, SAMPLES, STEPS)
    batches = prefetch.fetched(Data(x[i : i + 9], y[i : i + 9]) for i in (0, 9, 18))
    next(batches)
    waited = []
    monkeypatch.setattr(cupy.cuda.Stream, "synchronize", lambda self: waited.append(self))
    batches.close()
    assert len(waited) == 1 and waited[0] is not cupy.cuda.get_current_stream()


def test_bad_labels_are_told_at_the_end_of_the_epoch(cupy, rng):
    x, y = problem(rng, SAMPLES, STEPS)
    check_bad_label(small(), x, y)
    y[7] = 2
    with pytest.raises(ValueError, match=r"^\[loss_forward\] y_true has 0 to 2; "):
        fastnn.loss_forward(
            fastnn.asarray(y),
            fastnn.asarray(x[:, 0, :2].copy()),
            loss="sparse_categorical_crossentropy",
            from_logits=True,
        )


def test_saving_brings_weights_to_the_host(cupy, rng, tmp_path):
    pytest.importorskip("safetensors")
    x, y = problem(rng, SAMPLES, STEPS)
    model = small()
    model.fit(x, y, epochs=1, verbose=0)
    check_saving(model, x, tmp_path / "model.safetensors")
