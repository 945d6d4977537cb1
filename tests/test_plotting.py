"""The picture of a training run: what it accepts, what it refuses, how it is written."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastnn.plotting import training_figure

HISTORY = {"accuracy": [0.5, 0.9], "loss": [1.0, 0.5], "val_accuracy": [0.4, 0.8]}


def arrays(n: int = 20, wrong: int = 0):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    predicted = np.where(np.arange(n) < n - wrong, labels, (labels + 1) % 3)
    return rng.random((n, 8, 8)), labels, 0.8 * np.eye(3)[predicted] + 0.1


def size(path) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


@pytest.mark.parametrize(("n", "wrong"), [(20, 0), (20, 7), (20, 20), (3, 1), (1, 0)])
@pytest.mark.parametrize("names", [(), ("shirt", "dress", "sneaker")])
def test_draws(tmp_path, n, wrong, names):
    pytest.importorskip("matplotlib")
    path = tmp_path / "run.png"
    training_figure(path, HISTORY, *arrays(n, wrong), title="A title", class_names=names)
    assert size(path) == (1500, 840)
    assert [p.name for p in tmp_path.iterdir()] == ["run.png"]


def test_the_same_run_gives_the_same_picture(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("one.png", "two.png"):
        training_figure(tmp_path / name, HISTORY, *arrays(), title="A title")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_refuses(tmp_path):
    pytest.importorskip("matplotlib")
    images, labels, probabilities = arrays()
    path = tmp_path / "run.png"
    with pytest.raises(ValueError, match="accuracy and loss of at least one epoch"):
        training_figure(path, {"loss": [1.0]}, images, labels, probabilities, title="")
    for bad in (
        (images[0], labels, probabilities),
        (images, labels[1:], probabilities),
        (images, labels, probabilities[1:]),
        (images[:0], labels[:0], probabilities[:0]),
    ):
        with pytest.raises(ValueError, match=r"\[training_figure\] images"):
            training_figure(path, HISTORY, *bad, title="")
    assert not path.exists()


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn\[plot\]'"):
        training_figure(tmp_path / "run.png", HISTORY, *arrays(), title="")
