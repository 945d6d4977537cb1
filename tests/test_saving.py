"""Models as files: everything comes back, nothing half-written stays, bad files are told."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest

import fastnn
from fastnn import layers, optimizers

safetensors = pytest.importorskip("safetensors.numpy")


def trained(rng, optimizer="adam"):
    model = fastnn.Sequential(
        [
            layers.Input((6,)),
            layers.Embedding(9, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True, recurrent_dropout=0.2)),
            layers.TimeDistributed(layers.Dense(4, "tanh", kernel_initializer="he_normal")),
            layers.GRU(3, name="tail"),
            layers.Dense(3, "softmax"),
        ],
        name="words",
    )
    model.compile(
        optimizer, "sparse_categorical_crossentropy", metrics=["accuracy", "sparse_top_k"]
    )
    x, y = rng.integers(0, 9, (20, 6)), rng.integers(0, 3, 20)
    model.fit(x, y, batch_size=10, verbose=0)
    return model, x, y


@pytest.mark.parametrize(
    "optimizer", ["adam", optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0), optimizers.RMSprop()]
)
def test_a_model_comes_back_and_trains_on(backend, rng, tmp_path, optimizer):
    model, x, y = trained(rng, optimizer)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = fastnn.load_model(path)
    assert again.get_config() == model.get_config()
    assert again.get_compile_config() == model.get_compile_config()
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.evaluate(x, y) == model.evaluate(x, y)
    for m in (model, again):
        m.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_an_uncompiled_model(rng, tmp_path):
    model = fastnn.Sequential([layers.Input((4,)), layers.Dense(2, dtype="float64")])
    model.save(tmp_path / "m")
    again = fastnn.load_model(str(tmp_path / "m"))
    assert again.optimizer is None and again.weights[0].dtype == np.float64
    np.testing.assert_array_equal(again.weights[0], model.weights[0])


def test_names_in_the_file(rng, tmp_path):
    model, *_ = trained(rng)
    model.save(tmp_path / "m")
    with safetensors.safe_open(tmp_path / "m", framework="np") as file:
        keys, metadata = set(file.keys()), file.metadata()
    assert {"weights/tail.kernel", "optimizer/iterations", "optimizer/0.velocity"} <= keys
    assert json.loads(metadata["config"])["model"]["class_name"] == "Sequential"


def test_weights_alone(rng, tmp_path):
    model, x, _ = trained(rng)
    model.save_weights(tmp_path / "w")
    twin = fastnn.Sequential.from_config(model.get_config())
    twin.load_weights(tmp_path / "w")
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    model.save(tmp_path / "m")
    twin.set_weights([np.zeros(w.shape) for w in twin.weights])
    twin.load_weights(tmp_path / "m")
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    with pytest.raises(ValueError, match="weights alone"):
        fastnn.load_model(tmp_path / "w")
    other = fastnn.Sequential([layers.Input((6,)), layers.Dense(3, name="other")])
    with pytest.raises(ValueError, match="differ in the weight"):
        other.load_weights(tmp_path / "w")


def halve(x):
    return x / 2


def halve_gradient(dy, x, y):
    return dy / 2


class Doubled(layers.Dense):
    """A layer of one's own."""

    def forward_linear(self, x, activation):
        y, saved = super().forward_linear(x, activation)
        return 2 * y, saved


def test_custom_objects(rng, tmp_path):
    model = fastnn.Sequential(
        [layers.Input((4,)), layers.Lambda(halve, halve_gradient), Doubled(2)]
    )
    path = tmp_path / "m"
    model.save(path)
    known = {"halve": halve, "halve_gradient": halve_gradient, "Doubled": Doubled}
    x = rng.normal(size=(3, 4))
    np.testing.assert_array_equal(fastnn.load_model(path, known).predict(x), model.predict(x))
    with pytest.raises(ValueError, match="'halve' is not known"):
        fastnn.load_model(path)
    with pytest.raises(ValueError, match="'Doubled' is not a known layer"):
        fastnn.load_model(path, {k: v for k, v in known.items() if k != "Doubled"})


def test_checkpoints(rng, tmp_path):
    from fastnn.callbacks import ModelCheckpoint

    model, x, y = trained(rng)
    every = ModelCheckpoint(tmp_path / "every-{epoch:02d}.safetensors")
    best = ModelCheckpoint(tmp_path / "best", monitor="loss", save_best_only=True)
    weights = ModelCheckpoint(tmp_path / "weights", save_weights_only=True)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[every, best, weights])
    assert sorted(os.listdir(tmp_path)) == [
        "best",
        "every-01.safetensors",
        "every-02.safetensors",
        "every-03.safetensors",
        "weights",
    ]
    loaded = fastnn.load_model(tmp_path / "every-03.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    best.on_epoch_end(3, {"loss": float("inf")})
    best.on_epoch_end(4, {"loss": float("nan")})
    assert best.best == min(model.history.history["loss"])


# --------------------------------------------------------------------------- bad files


@pytest.fixture
def saved(rng, tmp_path):
    model, *_ = trained(rng)
    path = tmp_path / "model.safetensors"
    model.save(path)
    return path


def test_every_truncation_is_told(saved):
    data = saved.read_bytes()
    for size in (0, 1, 7, 8, 100, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:size])
        with pytest.raises(ValueError, match="truncated or not a safetensors file") as error:
            fastnn.load_model(saved)
        assert "\n" not in str(error.value) and str(saved) in str(error.value)


def foreign(path, metadata):
    safetensors.save_file({"a": np.ones(3)}, path, metadata)


def bfloat16(path):
    tensor = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    header = json.dumps({"weights/a": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" * 9), "truncated or not a safetensors file"),
        (lambda p: p.write_bytes(b"\xff" * 64), "truncated or not a safetensors file"),
        (lambda p: foreign(p, None), "without fastnn's configuration"),
        (lambda p: foreign(p, {"format": "pt"}), "without fastnn's configuration"),
        (lambda p: foreign(p, {"format": "fastnn"}), "broken configuration"),
        (lambda p: foreign(p, {"format": "fastnn", "config": "{"}), "broken configuration"),
        (lambda p: foreign(p, {"format": "fastnn", "config": "[" * 10**5}), "broken configuration"),
        # with ml_dtypes NumPy can hold them
        (bfloat16, "tensors that NumPy cannot hold|without fastnn's configuration"),
        (lambda p: foreign(p, {"format": "fastnn", "config": '{"version": 99}'}), "version 99"),
        (lambda p: foreign(p, {"format": "fastnn", "config": '{"version": 1}'}), "weights alone"),
    ],
)
def test_foreign_files_are_told(tmp_path, write, message):
    path = tmp_path / "file"
    write(path)
    with pytest.raises(ValueError, match=message) as error:
        fastnn.load_model(path)
    assert "\n" not in str(error.value) and "needed" in str(error.value)


@pytest.mark.parametrize("path", [["model", "config", "layers"], ["compile"], ["noise"]])
def test_a_configuration_with_holes_is_told(saved, path):
    with safetensors.safe_open(saved, framework="np") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    place = config
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    safetensors.save_file(tensors, saved, metadata | {"config": json.dumps(config)})
    with pytest.raises(ValueError, match="configuration that does not fit") as error:
        fastnn.load_model(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(noise=[[1]]),
        lambda config: config.update(noise=[["a", "b"]]),
    ],
)
def test_a_configuration_that_does_not_fit_is_told(saved, change):
    with safetensors.safe_open(saved, framework="np") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    change(config)
    safetensors.save_file(tensors, saved, metadata | {"config": json.dumps(config)})
    with pytest.raises(ValueError, match=r"^\[load_model\] .* does not fit") as error:
        fastnn.load_model(saved)
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written_is_told(rng, tmp_path):
    model, *_ = trained(rng)
    for path in (tmp_path / "no" / "model", tmp_path):
        with pytest.raises(OSError, match=r"^\[save\] .* is needed$"):
            model.save(path)
    assert os.listdir(tmp_path) == []


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "no", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"\[load_model\].*is needed"):
            fastnn.load_model(path)


def test_weights_that_do_not_fit_the_configuration(saved):
    with safetensors.safe_open(saved, framework="np") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    for name, change, message in (
        ("weights/tail.kernel", lambda t: t[:-1], "is needed"),
        ("weights/tail.kernel", None, "differ in the weight 'tail.kernel'"),
        ("weights/tail.kernel", lambda t: t.astype(np.complex64), "complex64; real numbers"),
        ("optimizer/0.velocity", lambda t: t[:-1], "is needed"),
        ("optimizer/0.velocity", lambda t: t.astype(np.complex64), "complex64; real numbers"),
        ("optimizer/iterations", lambda t: t - 10**6, "number of iterations"),
    ):
        broken = dict(tensors)
        if change is None:
            del broken[name]
        else:
            broken[name] = np.ascontiguousarray(change(broken[name]))
        safetensors.save_file(broken, saved, metadata)
        with pytest.raises(ValueError, match=message):
            fastnn.load_model(saved)


def test_a_failed_save_leaves_the_old_file(rng, tmp_path, monkeypatch):
    model = trained(rng)[0]
    path = tmp_path / "m"
    model.save(path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m"]


def test_what_cannot_be_saved_is_told(tmp_path):
    with pytest.raises(ValueError, match="is not built"):
        fastnn.Sequential([layers.Dense(2)]).save(tmp_path / "m")
    odd = layers.Dense(2, kernel_initializer=np.zeros)
    model = fastnn.Sequential([layers.Input((2,)), odd])
    with pytest.raises(TypeError, match="JSON is needed"):
        model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    model = fastnn.Sequential([layers.Input((2,)), layers.Dense(2)])
    for run in (lambda: model.save(tmp_path / "m"), lambda: fastnn.load_model(tmp_path / "m")):
        with pytest.raises(ImportError, match=r"pip install 'fastnn\[io\]' is needed"):
            run()
