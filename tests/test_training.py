"""Training by definition: steps, epochs, losses, data, seeds, copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from small_models import blobs, classifier

import fastnn
from fastnn import layers, losses, optimizers


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
