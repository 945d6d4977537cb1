"""Callbacks: hooks, rates, files, endings, progress; rates and files are expected as in Keras 3."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from small_models import blobs, classifier

import fastnn
from fastnn import callbacks, layers, optimizers


def regression(rng, count=24):
    x = rng.normal(size=(count, 3)).astype("float32")
    model = fastnn.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile(optimizers.SGD(1.0), "mse", ["mae"])
    return model, x, x[:, :1]


class Stub:
    """What a callback sees of a model."""

    stop_training = False

    def __init__(self):
        self.optimizer = optimizers.SGD(1.0)


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [
        ({"patience": 2}, [5, 4, 4, 4, 4, 4, 4], [1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        (
            {"patience": 1, "cooldown": 2, "factor": 0.5},
            [5, 5, 5, 5, 5, 5, 5, 5, 4, 4, 4],
            [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.03125, 0.03125],
        ),
        (
            {"patience": 2, "min_delta": 0.5, "factor": 0.2, "min_lr": 0.05},
            [5, 4.8, 4.6, 4.4, 4.2, 4.0, 3.8, 3.9, 4, 4, 4, 4],
            [1, 1, 0.2, 0.2, 0.2, *[0.05] * 7],
        ),
        ({"patience": 0, "factor": 0.5}, [3, 2, 2, 3], [1, 1, 0.5, 0.25]),
        (
            {"patience": 1, "mode": "max", "factor": 0.5},
            [1, 2, 2, 1, 3, 3],
            [1, 1, 0.5, 0.25, 0.25, 0.125],
        ),
        (
            {"patience": 2, "cooldown": 1, "factor": 0.1, "min_lr": 0.02},
            [3] * 10,
            [1, 1, 0.1, 0.1, *[0.02] * 6],
        ),
    ],
)
def test_reduce_lr_on_plateau(options, values, rates):
    callback = callbacks.ReduceLROnPlateau(**options)
    for _ in range(2):  # a second training begins anew
        model = Stub()
        callback.set_model(model)
        callback.on_train_begin()
        told, found = [], []
        for epoch, value in enumerate(values):
            logs = {"val_loss": value}
            callback.on_epoch_end(epoch, logs)
            told.append(logs["learning_rate"])
            found.append(model.optimizer.learning_rate)
        assert found == pytest.approx(rates)
        assert told == pytest.approx([1.0, *rates[:-1]])  # the rate of the epoch that ended


def test_a_rate_that_is_a_function_cannot_be_lowered():
    callback = callbacks.ReduceLROnPlateau(patience=0)
    model = Stub()
    model.optimizer = optimizers.SGD(lambda step: 0.1)
    callback.set_model(model)
    callback.on_epoch_end(0, {"val_loss": 1.0})
    with pytest.raises(TypeError, match="learning_rate is a function; a number is needed"):
        callback.on_epoch_end(1, {"val_loss": 1.0})


@pytest.mark.parametrize(
    "schedule", [lambda epoch: 1e-3 * 10 ** (epoch / 2), lambda e, rate: 1e-3 if e == 0 else rate]
)
def test_rates_come_into_the_history(rng, schedule):
    model, x, y = regression(rng)
    scheduler = callbacks.LearningRateScheduler(schedule, verbose=0)
    seen = []
    spy = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(model.optimizer.learning_rate)
    )
    history = model.fit(x, y, 8, epochs=3, verbose=0, callbacks=[scheduler, spy]).history
    two = len(_parameters(schedule)) == 2
    expected = [1e-3] * 3 if two else [1e-3, 1e-3 * 10**0.5, 1e-2]
    assert history["learning_rate"] == pytest.approx(expected)
    assert seen == pytest.approx(np.repeat(expected, 3))


def _parameters(function):
    return function.__code__.co_varnames[: function.__code__.co_argcount]


def test_a_schedule_must_give_a_number(rng):
    model, x, y = regression(rng)
    for schedule in (lambda epoch: None, lambda epoch: math.nan):
        with pytest.raises((TypeError, ValueError), match=r"^\[LearningRateScheduler\].*needed"):
            model.fit(x, y, verbose=0, callbacks=callbacks.LearningRateScheduler(schedule))
    with pytest.raises(TypeError, match="schedule=3"):
        callbacks.LearningRateScheduler(3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("raising", [False, True])
def test_terminate_on_nan(rng, capsys, bad, raising):
    """At the batch, not at the epoch's end."""
    model, x, y = regression(rng)
    y = y.copy()
    y[9] = bad
    batches = []
    spy = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    hooks = [spy, callbacks.TerminateOnNaN(raise_error=raising)]
    if raising:
        with pytest.raises(RuntimeError, match=r"loss of batch 1 .* a finite one is needed"):
            model.fit(x, y, 8, epochs=4, verbose=0, shuffle=False, callbacks=hooks)
    else:
        history = model.fit(x, y, 8, epochs=4, verbose=0, shuffle=False, callbacks=hooks)
        assert history.epoch == [0]
        assert capsys.readouterr().out.startswith("Batch 1: the loss is")
    assert batches == [0, 1]


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    for append in (False, True):
        logger = callbacks.CSVLogger(path, separator=";", append=append)
        logger.on_train_begin()
        for epoch in range(2):
            logger.on_epoch_end(epoch, {"loss": 0.5 / (epoch + 1), "accuracy": 0.25 * epoch})
        logger.on_train_end()
    assert path.read_bytes().decode() == (
        "epoch;accuracy;loss;val_accuracy;val_loss\r\n"
        "0;0.0;0.5;NA;NA\r\n1;0.25;0.25;NA;NA\r\n0;0.0;0.5;NA;NA\r\n1;0.25;0.25;NA;NA\r\n"
    )
    logger = callbacks.CSVLogger(path)
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.25})
    logger.on_epoch_end(1, {"loss": 0.5})
    assert path.read_bytes().decode() == "epoch,loss,val_loss\r\n0,0.5,0.25\r\n1,0.5,NA\r\n"


def test_csv_logger_in_fit(rng, tmp_path):
    model, x, y = regression(rng)
    path = tmp_path / "log.csv"
    history = model.fit(
        x, y, epochs=3, verbose=0, validation_split=0.25, callbacks=callbacks.CSVLogger(path)
    )
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows[0] == ["epoch", *sorted(history.history)]
    assert [float(row[rows[0].index("loss")]) for row in rows[1:]] == history.history["loss"]


@pytest.mark.parametrize("weights_only", [False, True])
def test_checkpoints(rng, tmp_path, weights_only):
    pytest.importorskip("safetensors")
    model, x, y = regression(rng)
    pattern = tmp_path / "new" / "{epoch:02d}-{batch}.safetensors"
    every_two = callbacks.ModelCheckpoint(pattern, save_freq=2, save_weights_only=weights_only)
    best = callbacks.ModelCheckpoint(
        tmp_path / "best", "loss", save_best_only=True, initial_value_threshold=-1.0
    )
    model.fit(x, y, 8, epochs=2, verbose=0, callbacks=[every_two, best])
    # 3 batches an epoch: the 2nd, 4th and 6th of all.
    names = ["01-2.safetensors", "02-1.safetensors", "02-3.safetensors"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert not (tmp_path / "best").exists()
    if weights_only:
        model.load_weights(tmp_path / "new" / names[-1])
    else:
        last = fastnn.load_model(tmp_path / "new" / names[-1])
        np.testing.assert_array_equal(last.get_weights()[0], model.get_weights()[0])


def test_checkpoint_names_that_are_not_there(rng, tmp_path):
    model, x, y = regression(rng)
    callback = callbacks.ModelCheckpoint(tmp_path / "{val_loss:.2f}")
    with pytest.raises(ValueError, match=r"val_loss.*loss.* in braces is needed"):
        model.fit(x, y, verbose=0, callbacks=callback)


def test_functions_as_callbacks(rng):
    model, x, y = regression(rng)
    calls = []
    hooks = ("train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_end")
    callback = callbacks.LambdaCallback(
        **{f"on_{hook}": lambda *given, hook=hook: calls.append(hook) for hook in hooks}
    )
    model.fit(x, y, 12, epochs=1, verbose=0, callbacks=callback)
    assert calls == [
        "train_begin", "epoch_begin", "train_batch_end", "train_batch_end", "epoch_end", "train_end"
    ]  # fmt: skip
    with pytest.raises(TypeError, match=r"\[LambdaCallback\] on_epoch_end=3"):
        callbacks.LambdaCallback(on_epoch_end=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: callbacks.ReduceLROnPlateau(factor=1.0), "factor"),
        (lambda: callbacks.ReduceLROnPlateau(patience=-1), "patience"),
        (lambda: callbacks.ReduceLROnPlateau(cooldown=0.5), "cooldown"),
        (lambda: callbacks.ReduceLROnPlateau(min_lr=None), "min_lr"),
        (lambda: callbacks.ReduceLROnPlateau(min_delta="a"), "min_delta"),
        (lambda: callbacks.ModelCheckpoint("a", save_freq="batch"), "save_freq"),
    ],
)
def test_errors_say_what_is_needed(make, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        make()


# --------------------------------------------------------------------------- the picture


@pytest.fixture
def history(rng):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    model, x, y = regression(rng)
    return model.fit(
        x, y, epochs=4, initial_epoch=1, verbose=0, validation_split=0.25,
        callbacks=callbacks.LearningRateScheduler(lambda epoch: 0.1),
    )  # fmt: skip


def test_history_plot(history, tmp_path):
    figure = history.plot(tmp_path / "h.png", title="A training")
    assert (tmp_path / "h.png").read_bytes()[:4] == b"\x89PNG"
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [name for name in history.history if not name.startswith("val_")]
    loss = figure.axes[titles.index("loss")]
    lines = {tuple(line.get_ydata()) for line in loss.lines}
    assert lines == {tuple(history.history["loss"]), tuple(history.history["val_loss"])}
    assert list(loss.lines[0].get_xdata()) == [2, 3, 4]
    rate = figure.axes[titles.index("learning_rate")]
    assert len(rate.lines) == 1


def test_history_plot_of_chosen_names(history):
    assert len(history.plot(names=["loss"]).axes) == 1
    with pytest.raises(ValueError, match=r"val_loss of a history.*needed"):
        history.plot(names=["val_loss"])
    with pytest.raises(ValueError, match="epoch are needed"):
        callbacks.History().plot()


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
