"""Sequential: structure, training by definition, data handling, masks, callbacks."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest

import fastnn
from fastnn import callbacks, layers, losses, metrics, optimizers


def blobs(rng, count=240, classes=3, features=4):
    """Classes that a linear model can tell apart."""
    y = rng.integers(0, classes, count).astype(np.int32)
    x = rng.normal(size=(count, features)).astype("float32")
    x[np.arange(count), y] += 4
    return x, y


def classifier(*, features=4, classes=3, **compiling):
    model = fastnn.Sequential(
        [layers.Input((features,)), layers.Dense(8, "tanh"), layers.Dense(classes, "softmax")]
    )
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | compiling
    model.compile(options.pop("optimizer", optimizers.Adam(0.05)), **options)
    return model


# --------------------------------------------------------------------------- structure


def test_building_by_input_shape_by_call_and_by_add():
    for model in (
        fastnn.Sequential([layers.Input((5, 4)), layers.LSTM(3), layers.Dense(2)]),
        fastnn.Sequential([layers.LSTM(3, input_shape=(5, 4)), layers.Dense(2)]),
    ):
        assert model.built and model.output_shape == (None, 2)
        assert model.count_params() == 4 * 3 * (4 + 3 + 1) + 8
    late = fastnn.Sequential([layers.Dense(2)])
    assert not late.built and late.output_shape is None
    late(np.ones((3, 4)))
    late.add(layers.Dense(5))
    assert late.output_shape == (3, 5) and len(late.weights) == 4
    assert late(np.ones((3, 4))).shape == (3, 5)


def test_input_of_integers(rng):
    model = fastnn.Sequential([layers.Input((5,), dtype="int32"), layers.Embedding(9, 3)])
    words = rng.integers(0, 9, (2, 5)).astype("int32")
    np.testing.assert_array_equal(model.predict(words), model.layers[1].embeddings[words])


def test_names_are_unique():
    model = fastnn.Sequential([layers.Dense(2, name="a"), layers.Dense(2)])
    with pytest.raises(ValueError, match="two layers named 'a'"):
        model.add(layers.Dense(2, name="a"))
    other = layers.Dense(2)
    other.name = model.layers[1].name  # as after loading a model in another process
    model.add(other)
    assert len({layer.name for layer in model.layers}) == 3
    assert model.get_layer("a") is model.layers[0]
    with pytest.raises(ValueError, match="no layer named 'b'"):
        model.get_layer("b")


def test_summary():
    lines = []
    fastnn.Sequential(
        [layers.Input((8,)), layers.Dense(4, name="body", trainable=False), layers.Dense(2)],
        name="net",
    ).summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "net" in lines[0] and "body (Dense)" in text and "(None, 4)" in text
    assert lines[-1] == "46 weights, 10 of them trainable"
    lines.clear()
    fastnn.Sequential([layers.Dense(4)]).summary(print_fn=lines.append)
    assert "not built" in "\n".join(lines)


def test_a_model_is_a_layer(backend, rng):
    inner = fastnn.Sequential([layers.Dense(4, "tanh"), layers.Dropout(0.3)])
    model = fastnn.Sequential([inner, layers.Dense(3)])
    x = rng.normal(size=(5, 2))
    assert fastnn.gradcheck(model, x) <= 1e-7
    model.build(x.shape)
    assert model.weights[0] is inner.layers[0].kernel
    again = fastnn.Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(x), model(x))


# --------------------------------------------------------------------------- training


def test_fit_learns(backend, rng):
    fastnn.set_random_seed(0)
    x, y = blobs(rng)
    model = classifier()
    history = model.fit(x, y, batch_size=32, epochs=8, validation_split=0.25, verbose=0)
    assert sorted(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert history.epoch == list(range(8))
    assert history.history["loss"][-1] < 0.25 * history.history["loss"][0]
    assert history.history["val_accuracy"][-1] > 0.9
    loss, accuracy = model.evaluate(x, y)
    assert accuracy == np.mean(model.predict(x).argmax(axis=1) == y)
    assert model.evaluate(x, y, return_dict=True) == {"loss": loss, "accuracy": accuracy}


@pytest.mark.parametrize(
    "clip", [{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01}]
)
def test_a_step_is_forward_backward_apply(backend, rng, clip):
    """Against the same written out, with weights that are not views into one buffer."""
    x, y = blobs(rng, 20)
    model = classifier(optimizer=optimizers.Adam(0.01, **clip))
    twin = fastnn.Sequential.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    loss, adam = losses.SparseCategoricalCrossentropy(), optimizers.Adam(0.01, **clip)
    for _ in range(3):
        value = loss(y, twin(x, training=True), training=True)
        twin.backward(loss.backward())
        adam.apply(twin.gradients, twin.weights)
        assert model.train_on_batch(x, y)[0] == pytest.approx(value, rel=1e-5)
    for one, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_epochs_are_batches_in_order(backend, rng):
    x, y = blobs(rng, 50)
    model, twin = classifier(), classifier()
    twin.set_weights(model.get_weights())
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    for epoch in range(2):
        sums = 0.0
        for start in range(0, 50, 16):
            part = slice(start, start + 16)
            sums += twin.train_on_batch(x[part], y[part])[0] * len(y[part])
        assert history["loss"][epoch] == pytest.approx(sums / 50, rel=1e-6)
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_shuffling_takes_every_row_once(rng):
    seen = []

    class Spy(layers.Layer):
        def forward(self, x, training):
            if training:
                seen.append(x.copy())
            return x, None

        def vjp(self, dy, saved):
            return dy

    x = np.arange(50, dtype="float32")[:, None]
    model = fastnn.Sequential([Spy(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, np.zeros(50), batch_size=16, epochs=2, verbose=0)
    assert [len(b) for b in seen] == [16, 16, 16, 2] * 2
    first, second = np.concatenate(seen[:4])[:, 0], np.concatenate(seen[4:])[:, 0]
    np.testing.assert_array_equal(np.sort(first), x[:, 0])
    np.testing.assert_array_equal(np.sort(second), x[:, 0])
    assert not np.array_equal(first, second)


def test_one_seed_is_one_training(backend, rng):
    x, y = blobs(rng, 60)
    runs = []
    for seed in (1, 1, 2):
        fastnn.set_random_seed(seed)
        model = classifier()
        model.fit(x, y, epochs=2, verbose=0)
        runs.append(model.get_weights()[0])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    shuffled = []
    for _ in range(2):
        fastnn.set_random_seed(1)
        model = classifier()
        model.fit(x, y, verbose=0, shuffle=np.random.default_rng(3))
        shuffled.append(model.get_weights()[0])
    np.testing.assert_array_equal(*shuffled)


def test_untrainable_layers_stay(backend, rng):
    x, y = blobs(rng, 30)
    model = classifier()
    model.layers[1].trainable = False
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    model.layers[1].trainable = True
    model.layers[2].trainable = False
    middle = model.get_weights()
    model.fit(x, y, verbose=0)
    after = model.get_weights()
    changed = [
        [not np.array_equal(a, b) for a, b in zip(*pair, strict=True)]
        for pair in ((before, middle), (middle, after))
    ]
    assert changed == [[False, False, True, True], [True, True, False, False]]


def test_weights_may_be_set_between_trainings(backend, rng):
    """The flat buffer follows set_weights, casts and copies."""
    x, y = blobs(rng, 30)
    model = classifier()
    model.fit(x, y, verbose=0)
    model.set_weights([np.zeros(w.shape) for w in model.weights])
    assert not np.any(model.predict(x) - 1 / 3 > 1e-6)
    model.cast_weights("float64")
    model.fit(x, y, verbose=0)
    assert all(w.dtype == np.float64 for w in model.weights)
    assert model.weights[-1].any()  # the last bias is what a gradient reaches from zeros


def test_sample_weights_and_padding_rows(backend, rng):
    x, y = blobs(rng, 40)
    weight = rng.integers(0, 2, 40).astype(float)
    model, twin = classifier(optimizer="sgd", metrics=None), classifier(optimizer="sgd")
    twin.set_weights(model.get_weights())
    value = model.train_on_batch(x, y, sample_weight=weight)
    kept = weight > 0
    alone = twin.train_on_batch(x[kept], y[kept])[0]
    assert value == pytest.approx(alone * kept.mean(), rel=1e-5)
    assert model.evaluate(x, y, sample_weight=weight) < model.evaluate(x, y)


@pytest.mark.parametrize(
    ("last", "loss", "target"),
    [
        ("softmax", "sparse_categorical_crossentropy", lambda y: y),
        ("softmax", "categorical_crossentropy", lambda y: np.eye(3)[y]),
        ("sigmoid", "binary_crossentropy", lambda y: np.eye(3)[y]),
    ],
)
def test_cross_entropy_after_its_activation_is_exact(backend, rng, last, loss, target):
    """Gradients flow where the probability underflows; a computation from them would stop."""
    x = np.full((6, 4), 50.0, "float32")
    y = np.array([0, 1, 2, 0, 1, 2])
    for tail in ([layers.Dense(3, last)], [layers.Dense(3), layers.Activation(last)]):
        model = fastnn.Sequential([layers.Input((4,)), *tail])
        kernel = np.zeros((4, 3))
        kernel[:, 0] = 1.0
        kernel[:, 1:] = -1.0
        model.set_weights([kernel, np.zeros(3)])
        model.compile(optimizers.SGD(1.0), loss, metrics=["accuracy"])
        before = model.get_weights()[0]
        value = model.train_on_batch(x, target(y))[0]
        assert value > 60  # logits of +-200: log(1e-7) is 16
        assert np.abs(model.get_weights()[0] - before).max() > 1
        y_pred = model.predict(x)  # probabilities all the same
        assert np.all((y_pred >= 0) & (y_pred <= 1))


def test_logits_and_probabilities_train_alike(backend, rng):
    x, y = blobs(rng, 40)
    models = []
    for last, from_logits in (("softmax", False), (None, True)):
        model = fastnn.Sequential([layers.Input((4,)), layers.Dense(3, last)])
        model.compile(
            "adam", losses.SparseCategoricalCrossentropy(from_logits), metrics=["accuracy"]
        )
        models.append(model)
    models[1].set_weights(models[0].get_weights())
    histories = [m.fit(x, y, epochs=3, shuffle=False, verbose=0).history for m in models]
    assert histories[0]["accuracy"] == histories[1]["accuracy"]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)


def test_dtypes_of_features_and_targets(backend, rng):
    images = rng.integers(0, 255, (20, 6)).astype(np.uint8)
    model = classifier(features=6)
    y = rng.integers(0, 3, 20)
    expected = model.predict(images.astype("float32"))
    for x in (images, images.astype("int64"), images.astype("float64"), images.tolist()):
        np.testing.assert_array_equal(model.predict(x), expected)
    model.fit(images, y.tolist(), verbose=0)
    regression = fastnn.Sequential([layers.Input((6,)), layers.Dense(1)])
    regression.compile("sgd", "mse", metrics=["mae"])
    for target in (y, y.astype("float64"), y[:, None], y.astype("float32").tolist()):
        assert np.isfinite(regression.evaluate(images / 255, target)).all()


def test_predict_any_number_of_rows(rng):
    model = classifier()
    x = rng.normal(size=(70, 4)).astype("float32")
    whole = model(x)
    for batch_size in (1, 32, 70, 1000):
        np.testing.assert_allclose(model.predict(x, batch_size), whole, rtol=1e-5, atol=1e-6)
    assert model.predict(x[:0]).shape == (0, 3)
    np.testing.assert_array_equal(model.predict_on_batch(x), whole)


def test_stateful_layers_go_on_between_batches(backend, rng):
    model = fastnn.Sequential([layers.LSTM(3, stateful=True), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = rng.normal(size=(8, 4, 2)), rng.normal(size=(8, 1))
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    first = model.predict(x[:4], batch_size=4)
    assert not np.array_equal(model.predict(x[:4], batch_size=4), first)
    model.reset_states()
    one = model.predict(x[:4], batch_size=4)
    model.reset_states()
    np.testing.assert_array_equal(model.predict(x[:4], batch_size=4), one)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_train_on_their_own(backend, rng, how):
    """A copy's weights are views into its own buffer, not into that of the original."""
    x, y = blobs(rng, 30)
    model = classifier()
    model.fit(x, y, verbose=0)
    before, expected = model.get_weights(), model.predict(x)
    twin = how(model)
    np.testing.assert_array_equal(twin.predict(x), expected)
    twin.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)  # the optimizer's slots came along
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# --------------------------------------------------------------------------- masks


def padded(rng):
    words = rng.integers(1, 7, (4, 6))
    for row, length in zip(words, (6, 3, 1, 4), strict=True):
        row[length:] = 0
    return words


@pytest.mark.parametrize("body", ["final", "sequence", "bidirectional"])
def test_padding_does_not_count(backend, rng, body):
    """A padded row is what the row alone is, through a stack of recurrent layers."""
    stack = {
        "final": [layers.LSTM(4)],
        "sequence": [layers.LSTM(4, return_sequences=True), layers.Dropout(0.1), layers.GRU(3)],
        "bidirectional": [
            layers.Bidirectional(layers.GRU(3, return_sequences=True)),
            layers.Bidirectional(layers.SimpleRNN(2)),
        ],
    }[body]
    model = fastnn.Sequential([layers.Embedding(7, 5, mask_zero=True), *stack, layers.Dense(2)])
    words = padded(rng)
    y = model.predict(words)
    for row, alone in zip(words, y, strict=True):
        np.testing.assert_allclose(
            model.predict(row[row > 0][None])[0], alone, rtol=1e-4, atol=1e-6
        )
    gaps = np.zeros((4, 6, 5))
    gaps[words > 0] = rng.normal(size=(np.count_nonzero(words), 5))
    masked = fastnn.Sequential([layers.Masking(), layers.LSTM(3)])
    for row, kept, alone in zip(gaps, words > 0, masked.predict(gaps), strict=True):
        np.testing.assert_allclose(masked.predict(row[kept][None])[0], alone, rtol=1e-4, atol=1e-6)


def test_masked_steps_are_not_in_loss_and_metrics(backend, rng):
    words = padded(rng)
    labels = rng.integers(0, 3, words.shape)
    model = fastnn.Sequential(
        [
            layers.Embedding(7, 4, mask_zero=True),
            layers.LSTM(3, return_sequences=True),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    probabilities = model.predict(words)
    kept = words > 0
    chosen = np.take_along_axis(probabilities, labels[..., None], -1)[..., 0][kept]
    loss, accuracy = model.evaluate(words, labels)
    assert loss == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    assert accuracy == np.mean((probabilities.argmax(-1) == labels)[kept])
    other = np.where(kept, labels, (labels + 1) % 3)
    assert model.evaluate(words, other) == [loss, accuracy]
    trained = model.train_on_batch(words, labels)
    assert trained == [pytest.approx(loss, rel=1e-5), accuracy]


# --------------------------------------------------------------------------- callbacks


class Recorder(callbacks.Callback):
    def __init__(self):
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train_begin")

    def on_train_end(self, logs=None):
        self.calls.append("train_end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch_begin {epoch}")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"epoch_end {epoch} {sorted(logs)}")

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(f"batch_begin {batch}")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(f"batch_end {batch} {sorted(logs)}")


def test_hooks_are_called_in_order(rng):
    x, y = blobs(rng, 20)
    recorder = Recorder()
    model = classifier()
    model.fit(
        x, y, batch_size=10, epochs=3, initial_epoch=2, callbacks=[recorder], verbose=0,
        validation_data=(x, y),
    )  # fmt: skip
    names = "['accuracy', 'loss']"
    assert recorder.calls == [
        "train_begin",
        "epoch_begin 2",
        "batch_begin 0",
        f"batch_end 0 {names}",
        "batch_begin 1",
        f"batch_end 1 {names}",
        "epoch_end 2 ['accuracy', 'loss', 'val_accuracy', 'val_loss']",
        "train_end",
    ]
    assert recorder.model is model and recorder.params["steps"] == 2


def play(callback, values, monitor="val_loss"):
    """Run a callback over epochs with these values; gives the epoch at which it stopped."""

    class Model:
        stop_training = False
        epoch = -1

        def get_weights(self):
            return [self.epoch]

        def set_weights(self, weights):
            self.restored = weights[0]

    model = Model()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.epoch = epoch
        callback.on_epoch_end(epoch, {monitor: value})
        if model.stop_training:
            break
    callback.on_train_end()
    return model


@pytest.mark.parametrize(
    ("options", "values", "stopped"),
    [
        ({}, [3, 2, 2, 1], 2),
        ({"patience": 2}, [3, 2, 2, 2, 1], 3),
        ({"patience": 2}, [3, 2, 2, 1, 1, 1], 5),
        ({"min_delta": 0.5}, [3, 2, 1.8, 1], 2),
        ({"monitor": "val_accuracy"}, [0.1, 0.2, 0.2], 2),
        ({"mode": "max"}, [1, 2, 3, 2], 3),
        ({"start_from_epoch": 2}, [1, 2, 3, 4], 3),
        ({"baseline": 1.5, "patience": 2}, [3, 2, 1.9, 1.9], 3),
        ({"patience": 1}, [float("nan"), float("nan"), 1], 1),
    ],
)
def test_early_stopping(options, values, stopped):
    callback = callbacks.EarlyStopping(**options)
    play(callback, values, callback.monitor)
    assert callback.stopped_epoch == stopped


def test_early_stopping_restores_the_best():
    callback = callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    assert play(callback, [3, 1, 2, 2, 2]).restored == 1
    assert play(callback, [3, 2, 1]).restored == 2  # also when it never stopped


def test_learning_rate_scheduler(rng):
    x, y = blobs(rng, 20)
    model = classifier(optimizer=optimizers.SGD(0.5))
    scheduler = callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    model.fit(x, y, epochs=3, callbacks=[scheduler], verbose=0)
    assert model.optimizer.learning_rate == 0.5**4


@pytest.mark.parametrize("verbose", ["auto", 1, 2, 0])
@pytest.mark.parametrize("tqdm", [True, False])
def test_progress(rng, capsys, monkeypatch, verbose, tqdm):
    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    x, y = blobs(rng, 20)
    classifier().fit(x, y, batch_size=10, epochs=2, verbose=verbose)
    text = capsys.readouterr().out
    if verbose == 0:
        assert text == ""
        return
    for part in ("Epoch 1/2", "Epoch 2/2", "loss: ", "accuracy: "):
        assert part in text
    assert ("batch/s" in text or "s/batch" in text) == (tqdm and verbose != 2)


# --------------------------------------------------------------------------- errors

X, Y = np.ones((6, 4), "float32"), np.zeros(6, int)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: fastnn.Sequential([3]), "layer"),
        (
            lambda: fastnn.Sequential([layers.Input((5, 2)), layers.LSTM(2, return_state=True)]),
            "one",
        ),
        (lambda: fastnn.Sequential().predict(X), "no layers"),
        (lambda: fastnn.Sequential([layers.Dense(2)]).fit(X, Y), "compile"),
        (lambda: fastnn.Sequential([layers.Dense(2)]).evaluate(X, Y), "compile"),
        (lambda: classifier(optimizer="adamant"), "adamant"),
        (lambda: classifier(loss="cross"), "cross"),
        (lambda: classifier(metrics=["acuracy"]), "acuracy"),
        (lambda: classifier(metrics=["mse", "mse"]), "different names"),
        (lambda: classifier().fit(X, Y[:5]), "samples"),
        (lambda: classifier().fit(X, Y, sample_weight=np.ones(5)), "sample_weight"),
        (lambda: classifier().fit(X[:0], Y[:0]), "samples"),
        (lambda: classifier().fit(X, Y, batch_size=0), "batch_size"),
        (lambda: classifier().fit(X, Y, validation_split=1.5), "validation_split"),
        (lambda: classifier().fit(X, Y, validation_split=1e-20), "validation_split"),
        (lambda: classifier().fit(X, Y, validation_data=(X,)), "validation_data"),
        (lambda: classifier().fit(X, Y, callbacks=[print]), "callback"),
        (lambda: classifier().fit(X, Y + 3, verbose=0), "y_true"),
        (lambda: classifier().fit(np.array(["a"] * 6), Y), "dtype"),
        (lambda: classifier().predict(3.0), "scalar"),
        (lambda: classifier().predict(np.ones((6, 5))), "kernel"),
        (
            lambda: classifier().fit(X, Y, verbose=0, callbacks=[callbacks.EarlyStopping()]),
            "val_loss",
        ),
        (lambda: callbacks.EarlyStopping(mode="best"), "mode"),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError, RuntimeError), match=rf"(?s)^\[.*{message}.*needed"):
        run()


def test_metric_objects_are_used(rng):
    x, y = blobs(rng, 20)
    model = classifier(metrics=[metrics.SparseTopKCategoricalAccuracy(2, "top2"), "sparse_top_k"])
    logs = model.evaluate(x, y, return_dict=True)
    assert set(logs) == {"loss", "top2", "sparse_top_k"} and logs["sparse_top_k"] == 1.0
