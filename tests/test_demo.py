"""The demo end to end, small and offline: it learns, saves, draws, and can be interrupted."""

from __future__ import annotations

import builtins
import importlib.util
import urllib.error

import numpy as np
import pytest
from conftest import need

import fastnn
from fastnn import cli, datasets, dispatch, threads
from fastnn.datasets import fetch


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No data, no network, an empty cache; what a command chooses does not outlive its test."""

    def urlopen(url, timeout):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(dispatch, "_selected", dispatch._selected)


def demo(out, *arguments) -> int:
    return cli.main(["demo", "--out", str(out), *arguments])


def accuracy(text: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith("test accuracy"))
    return float(line.split()[2].rstrip("%:")) / 100


def test_learns_the_embedded_digits(tmp_path, capsys):
    pytest.importorskip("safetensors")
    pytest.importorskip("matplotlib")
    assert demo(tmp_path / "new" / "folder") == 0
    out = capsys.readouterr().out
    assert "MNIST cannot be had: " in out and "no network in tests" in out
    assert "UCI optical digits" in out and "8 steps of 8 pixels" in out
    assert accuracy(out) >= 0.90

    digits = datasets.digits()
    model = fastnn.load_model(tmp_path / "new" / "folder" / "rnn-digits.safetensors")
    logits = model.predict(digits.x_test.astype("float32") / 16, verbose=0)
    right = (logits.argmax(axis=1) == digits.y_test).mean()
    assert right == pytest.approx(accuracy(out), abs=1e-4)

    picture = (tmp_path / "new" / "folder" / "rnn-digits.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n") and len(picture) > 20_000
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["rnn-digits.png", "rnn-digits.safetensors"]


@pytest.mark.parametrize("model", ["lstm", "gru", "cnn"])
def test_the_other_models_learn(model, tmp_path, capsys):
    assert demo(tmp_path, "--model", model, "--data", "digits", "--epochs", "3") == 0
    assert accuracy(capsys.readouterr().out) > 0.5


def test_one_seed_gives_one_result(tmp_path, capsys):
    results = []
    for seed in ("1", "1", "2"):
        demo(tmp_path, "--data", "digits", "--epochs", "1", "--seed", seed)
        model = fastnn.load_model(tmp_path / "rnn-digits.safetensors")
        results.append(model.get_weights()[0])
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("epoch", [0, 1])
def test_interrupted(epoch, tmp_path, capsys, monkeypatch):
    from fastnn.cli.demo_checkpoint import BestModel

    def interrupt(self, at, logs=None):
        if at == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(BestModel, "on_epoch_begin", interrupt)
    assert demo(tmp_path, "--data", "digits", "--epochs", "3") == 130
    out = capsys.readouterr().out
    assert f"stopped in epoch {epoch + 1} of 3" in out
    if epoch == 0:
        assert "no model was saved" in out and list(tmp_path.glob("*digits*")) == []
    else:
        assert "the model of epoch 1, the best so far, is in" in out
        fastnn.load_model(tmp_path / "rnn-digits.safetensors")


def test_interrupted_while_saving(tmp_path, capsys, monkeypatch):
    import safetensors.numpy

    save = safetensors.numpy.save
    seen = []

    def interrupted(*args, **kwargs):
        seen.append(args)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return save(*args, **kwargs)

    monkeypatch.setattr(safetensors.numpy, "save", interrupted)
    assert demo(tmp_path, "--data", "digits", "--epochs", "3") == 130
    assert "the model of epoch 1, the best so far, is in" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*digits*")] == ["rnn-digits.safetensors"]
    fastnn.load_model(tmp_path / "rnn-digits.safetensors")


def test_without_the_extras(tmp_path, capsys, monkeypatch):
    missing = {"matplotlib", "safetensors", "tqdm"}
    find_spec, import_ = importlib.util.find_spec, builtins.__import__

    def no_spec(name, *args):
        return None if name.split(".")[0] in missing else find_spec(name, *args)

    def no_import(name, *args, **kwargs):
        if name.split(".")[0] in missing:
            raise ImportError(f"No module named {name!r}")
        return import_(name, *args, **kwargs)

    monkeypatch.setattr("fastnn.cli.demo.find_spec", no_spec)
    monkeypatch.setattr(builtins, "__import__", no_import)
    assert demo(tmp_path, "--data", "digits", "--epochs", "1") == 0
    out = capsys.readouterr().out
    for what, extra in (("progress bar", "progress"), ("saved model", "io"), ("picture", "plot")):
        assert f"no {what}: " in out and f"pip install 'fastnn[{extra}]'" in out
    assert "test accuracy" in out
    assert list(tmp_path.glob("*digits*")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "an integer of at least 1"),
        (["--batch-size", "x"], "an integer of at least 1"),
        (["--seed", "-1"], "non-negative integer"),
        (["--model", "transformer"], "invalid choice"),
        (["--data", "cifar"], "invalid choice"),
    ],
)
def test_refused_arguments(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        demo(tmp_path, *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        demo(tmp_path / "file")
    assert "is a file; a folder is needed" in capsys.readouterr().err


def test_named_data_that_cannot_be_had(tmp_path, capsys):
    assert demo(tmp_path, "--data", "mnist") == 2
    err = capsys.readouterr().err
    assert err.startswith("fastnn demo: [datasets]") and err.count("\n") == 1


def test_threads_need_the_compiled_kernels(tmp_path, capsys):
    assert demo(tmp_path, "--backend", "numpy", "--threads", "2") == 2
    assert "the backend 'cython' is needed" in capsys.readouterr().err


def test_threads_do_not_change_the_result(tmp_path, capsys):
    need("cython")
    results = []
    with threads.use_num_threads(threads.get_num_threads()):  # puts the number back at the end
        for count in ("1", "2"):
            arguments = ("--data", "digits", "--epochs", "1", "--backend", "cython")
            assert demo(tmp_path, *arguments, "--threads", count) == 0
            assert threads.get_num_threads() == int(count)
            results.append(fastnn.load_model(tmp_path / "rnn-digits.safetensors").get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
