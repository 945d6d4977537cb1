"""Layers and models on the Numba backend: the CPU's results, and nothing copied within a step.

These run on a GPU, or in the simulator (`test_numba_simulator` starts them there).
"""

from __future__ import annotations

import contextvars
import copy
import pickle
import re

import numpy as np
import pytest
from device_models import (
    assert_same,
    build,
    check_bad_label,
    check_fit,
    check_saving,
    on_numba,
    prefetched,
    problem,
    slots_of,
)

import fastnn
from fastnn import dispatch, layers, optimizers, prefetch
from fastnn.batches import Data
from fastnn.cli import demo_recipe, main

pytestmark = pytest.mark.usefixtures("numba_chosen")


@pytest.fixture
def copies(monkeypatch):
    """Sizes of the arrays that went to the device, or came from there."""
    from numba import cuda

    counted: list[int] = []
    kind = type(cuda.device_array(1, np.float32))
    download, overwrite = kind.copy_to_host, kind.copy_to_device

    def copy_to_host(self, *args, **kwargs):
        counted.append(self.size)
        return download(self, *args, **kwargs)

    def copy_to_device(self, other, *args, **kwargs):
        if isinstance(other, np.ndarray):
            counted.append(self.size)
        return overwrite(self, other, *args, **kwargs)

    monkeypatch.setattr(kind, "copy_to_host", copy_to_host)
    monkeypatch.setattr(kind, "copy_to_device", copy_to_device)
    return counted


LAYERS = {
    "dense": (lambda: layers.Dense(3, "gelu"), (4, 5)),
    "lstm": (lambda: layers.LSTM(3, return_sequences=True, dropout=0.3, seed=1), (2, 3, 2)),
    "gru": (lambda: layers.GRU(3, go_backwards=True, output_dropout=0.3, seed=1), (2, 3, 2)),
    "concat": (lambda: layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True)), (2, 3, 2)),
    "ave": (lambda: layers.Bidirectional(layers.SimpleRNN(3), "ave"), (2, 3, 2)),
    "mul": (lambda: layers.Bidirectional(layers.SimpleRNN(3), "mul"), (2, 3, 2)),
    "time_distributed": (lambda: layers.TimeDistributed(layers.Dense(3)), (2, 4, 3)),
    "conv2d": (lambda: layers.Conv2D(3, 2, padding="same", activation="relu"), (2, 4, 4, 2)),
    "conv1d": (lambda: layers.Conv1D(3, 2, padding="causal"), (2, 6, 2)),
    "max": (lambda: layers.MaxPooling2D(2), (2, 5, 4, 3)),
    "average": (lambda: layers.AveragePooling1D(2, padding="same"), (2, 5, 4)),
    "global_max": (lambda: layers.GlobalMaxPooling2D(), (2, 5, 4, 3)),
    "dropout": (lambda: layers.Dropout(0.4, seed=3), (4, 6)),
    "flatten": (lambda: layers.Flatten("channels_first"), (2, 3, 4)),
    "permute": (lambda: layers.Permute((2, 1)), (2, 3, 4)),
    "repeat": (lambda: layers.RepeatVector(3), (2, 4)),
    "rescaling": (lambda: layers.Rescaling(2.0, -0.5), (2, 4)),
    "masking": (lambda: layers.Masking(), (2, 3, 4)),
    "lambda": (lambda: layers.Lambda(lambda x: np.tanh(x * 0.5) ** 2 + 1), (2, 4)),
}


def results(layer, shape, weights, x):
    layer.build(shape)
    if weights is not None:
        layer.set_weights(weights)
    y = layer(x, training=True)
    return y, lambda dy: [y, layer.backward(dy), *layer.gradients]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_it_gives_on_the_cpu_and_copies_nothing(copies, rng, name):
    make, shape = LAYERS[name]
    x = rng.standard_normal(shape).astype("float32")
    layer = make()
    with fastnn.use_backend("numpy"):
        there = make()
        y, back = results(there, shape, None, x)
        dy = np.linspace(-1, 1, y.size, dtype="float32").reshape(y.shape)
        expected = back(dy)
    layer.build(shape)
    layer.set_weights(there.get_weights())
    here, d_here = fastnn.asarray(x), fastnn.asarray(dy)
    assert all(map(on_numba, layer.weights))
    copies.clear()
    _, back = results(layer, shape, None, here)
    actual = back(d_here)
    assert not copies
    assert_same(actual, expected, on_numba, atol=2e-6)


MOVES = {
    "slice": lambda x: x[:, ::2] * x[:, 1::2],
    "take": lambda x: np.take(x, [0, 2, 2], axis=1),
    "roll": lambda x: np.roll(x, 1, axis=1) + np.tile(x[:, :1], (1, 4)),
    "product": lambda x: x.T @ x,
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "largest": lambda x: np.max(x, axis=1, keepdims=True) - np.std(x, axis=1, keepdims=True),
    "where": lambda x: np.where(x > 0, np.sqrt(np.abs(x)), np.clip(x, -0.5, 0.5)),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_lambda_is_differentiated_on_the_device(rng, name):
    x = rng.standard_normal((3, 4)).astype("float32")

    def run():
        layer = layers.Lambda(MOVES[name])
        y = layer(fastnn.asarray(x), training=True)
        dy = np.linspace(-1, 1, y.size, dtype="float32").reshape(y.shape)
        return y, layer.backward(fastnn.asarray(dy))

    with fastnn.use_backend("numpy"):
        expected = run()
    assert_same(run(), expected, on_numba)


def test_gradients_of_a_layer_are_checked_on_the_device(rng):
    assert fastnn.gradcheck(layers.Dense(2, "tanh"), rng.standard_normal((3, 2))) < 1e-7


def test_masks_and_merging_layers(rng):
    """An embedding's mask through a graph with several inputs in one layer."""
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])

    def run():
        fastnn.set_random_seed(1)
        start = layers.Input((4,), dtype="int32")
        e = layers.Embedding(5, 3, mask_zero=True)(start)
        r = layers.SimpleRNN(3, return_sequences=True)(e)
        merged = layers.Multiply()([layers.Add()([e, r]), layers.Average()([r, e])])
        long = layers.Concatenate(axis=1)([merged, layers.Lambda(lambda v: v * 2)(r)])
        model = fastnn.Model(start, layers.GlobalAveragePooling1D()(long))
        y = model(fastnn.asarray(x), training=True)
        model.backward(fastnn.asarray(np.ones(y.shape, "float32")))
        return [y, *model.gradients]

    with fastnn.use_backend("numpy"):
        expected = run()
    assert_same(run(), expected, on_numba)


OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.02, global_clipnorm=0.1),
    "amsgrad": lambda: optimizers.Adam(0.02, amsgrad=True),
    "sgd": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipvalue=0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True, clipnorm=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_step_on_the_device(copies, rng, name):
    w, g = rng.standard_normal((2, 3, 5)).astype("float32")

    def run(move):
        optimizer, weight, gradient = OPTIMIZERS[name](), move(w.copy()), move(g)
        optimizer.apply([gradient], [weight])
        copies.clear()
        for _ in range(2):
            optimizer.apply([gradient], [weight])
        assert not copies or not on_numba(weight)
        return [weight, *(slot for slots in optimizer._slots for slot in slots)]

    with fastnn.use_backend("numpy"):
        expected = run(lambda a: a)
    assert_same(run(fastnn.asarray), expected, on_numba, rtol=2e-5)
    if name in ("adam", "sgd"):  # the host's own arrays
        for one, other in zip(run(lambda a: a), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


UNITS, SAMPLES, STEPS = 2, 12, 2  # few: the simulator is slow


def test_fit_learns_as_on_the_cpu(rng):
    x, y = problem(rng, SAMPLES, STEPS)
    options = {"validation_split": 0.25, "sample_weight": rng.uniform(0.5, 1.5, len(x))}
    check_fit("numba", lambda: build(UNITS), x, y, epochs=2, batch_size=4, **options)


def test_a_step_copies_nothing(copies, rng):
    x, y = problem(rng, SAMPLES, STEPS)
    model = build(UNITS)
    model.fit(x, y, epochs=1, batch_size=6, verbose=0)
    assert all(map(on_numba, [*model.weights, *model.gradients, *slots_of(model)]))
    copied = {}
    for batch_size in (4, 12):
        copies.clear()
        model.fit(x, y, epochs=1, batch_size=batch_size, verbose=0)
        copied[batch_size] = sorted(copies)
    # x, y and the order of the samples go there; the loss, the metric and the check come back.
    assert copied[4] == copied[12] and len(copied[4]) <= 8
    assert model.weights[0].size not in copied[4]


@pytest.mark.parametrize("shuffle", [False, True])
def test_data_too_large_for_the_device_are_fetched_ahead(copies, rng, monkeypatch, shuffle):
    from fastnn.backends import numba_gpu

    x, y = problem(rng, SAMPLES, STEPS)
    weight = rng.uniform(0.5, 1.5, len(x))

    def fitted():
        model = build(UNITS)
        copies.clear()
        options = {"shuffle": shuffle, "sample_weight": weight}
        model.fit(x, y, epochs=1, batch_size=5, verbose=0, **options)
        return model.get_weights()

    expected = fitted()
    assert x.size in copies
    used = prefetched(monkeypatch)
    monkeypatch.setattr(numba_gpu, "free_memory", lambda: 0)
    for one, other in zip(fitted(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    # 12 samples, the last batch a smaller one.
    assert len(used) == 1 and x.size not in copies
    assert [copies.count(n * x[0].size) for n in (5, 2)] == [2, 1]


def reused(x, y, size):
    """Batches in buffers that the next one is written to."""
    own = np.empty_like(x[:size]), np.empty_like(y[:size])
    for start in range(0, len(x), size):
        parts = []
        for array, buffer in zip((x, y), own, strict=True):
            rows = array[start : start + size]
            buffer[: len(rows)] = rows
            parts.append(buffer[: len(rows)])
        yield Data(*parts)


def test_batches_come_in_order_and_whole(rng):
    x, y = rng.standard_normal((11, 2, 3)), np.arange(11).astype(">i4")
    found = [(b.x.get(), b.y.get()) for b in prefetch.fetched(reused(x, y, 3))]
    assert [len(part) for part, _ in found] == [3, 3, 3, 2]
    np.testing.assert_array_equal(np.concatenate([part for part, _ in found]), x)
    np.testing.assert_array_equal(np.concatenate([part for _, part in found]), y)
    (empty,) = prefetch.fetched([Data(x[:, :0])])
    assert on_numba(empty.x) and empty.x.shape == (11, 0, 3) and empty.y is None


def test_who_stops_early_leaves_nothing_broken(rng):
    x, y = rng.standard_normal((9, 4)), np.arange(9)
    for taken in (0, 1, 2):
        batches = prefetch.fetched(reused(x, y, 3))
        for i in range(taken):
            np.testing.assert_array_equal(next(batches).x.get(), x[3 * i : 3 * i + 3])
        batches.close()
    assert [b.y.get().tolist() for b in prefetch.fetched(reused(x, y, 4))] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8],
    ]


METRICS = {
    "mse": (3,),
    "mae": (3,),
    "binary_accuracy": (3,),
    "categorical_accuracy": (3,),
    "sparse_categorical_accuracy": (),
    "sparse_top_k_categorical_accuracy": (),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_made_on_the_device(rng, name):
    y_pred = rng.random((5, 3)).astype("float32")
    y_true = rng.integers(0, 2, (5, *METRICS[name])).astype("float32" if METRICS[name] else "int64")
    mask = np.array([True, False, True, True, False])

    def run():
        metric = fastnn.metrics.get(name)
        for weight in (None, fastnn.asarray(mask)):
            metric.update_state(fastnn.asarray(y_true), fastnn.asarray(y_pred), weight)
        return metric.result()

    with fastnn.use_backend("numpy"):
        expected = run()
    assert run() == pytest.approx(expected, rel=1e-6)


def test_bad_values_are_told_at_the_end_of_the_epoch(rng):
    x, y = problem(rng, SAMPLES, STEPS)
    check_bad_label(build(UNITS), x, y, batch_size=6)
    model = fastnn.Sequential([layers.Embedding(3, 2), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mean_squared_error")
    indices = np.array([[0, 1], [2, 3]])
    with pytest.raises(ValueError, match=r"^\[embedding_forward\] indices .*0 <= indices < 3"):
        model.fit(indices, np.zeros((2, 1)), epochs=1, verbose=0)


def test_a_copy_of_a_model_learns_alone(rng):
    x, y = problem(rng, SAMPLES, STEPS)
    model = build(UNITS)
    model.fit(x, y, epochs=1, batch_size=12, verbose=0)
    before = model.get_weights()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(map(on_numba, other.weights))
        other.fit(x, y, epochs=1, batch_size=12, verbose=0)
        assert not np.array_equal(other.get_weights()[0], before[0])
    for one, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, same)


def test_saving_brings_weights_to_the_host(rng, tmp_path):
    pytest.importorskip("safetensors")
    x, y = problem(rng, SAMPLES, STEPS)
    model = build(UNITS)
    model.fit(x, y, epochs=1, batch_size=12, verbose=0)
    check_saving(model, x, tmp_path / "model.safetensors")


def test_the_demo_prints_what_it_prints_on_the_cpu(tmp_path, capsys, monkeypatch):
    digits = fastnn.datasets.digits()
    few = digits._replace(
        x_train=digits.x_train[:40],
        y_train=digits.y_train[:40],
        x_test=digits.x_test[:30],
        y_test=digits.y_test[:30],
    )
    monkeypatch.setattr(demo_recipe, "load_data", lambda name: (few, None))
    monkeypatch.setattr(demo_recipe, "UNITS", 4)
    monkeypatch.setattr(demo_recipe, "LEARNING_RATE", 0.05)
    monkeypatch.setattr(dispatch, "_selected", dispatch._selected)
    outside = contextvars.copy_context()
    outside.run(dispatch._scoped.set, None)  # where --backend decides
    found = {}
    for backend in ("numpy", "numba"):
        options = ["--epochs", "2", "--batch-size", "20", "--out", str(tmp_path / backend)]
        assert outside.run(main, ["demo", "--backend", backend, *options]) == 0
        text = capsys.readouterr().out
        assert f"backend {backend}" in text
        numbers = re.findall(r"(loss|accuracy):? ([\d.]+)", text)
        assert len(numbers) == 2 * 4 + 1
        found[backend] = [float(number) for _, number in numbers]
    np.testing.assert_allclose(found["numba"], found["numpy"], rtol=1e-3)
