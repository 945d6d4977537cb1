"""Data sets: the readers on good and bad files, the order of places, downloads that are checked."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from fastnn import datasets
from fastnn.datasets import fetch


def idx_bytes(array: np.ndarray) -> bytes:
    code = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    head = struct.pack(">HBB", 0, code[array.dtype.str[1:]], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return head + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, train: int = 5, test: int = 3) -> dict[str, bytes]:
    """A tiny data set under MNIST's file names; the bytes of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        labels = rng.integers(0, 10, n, np.uint8)
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(images), mtime=0)
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(labels), mtime=0)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return files


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty cache, no $FASTNN_DATA, no network."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def no_network(url, timeout):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", no_network)
    return tmp_path


# --------------------------------------------------------------------------- readers


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_round_trip(tmp_path, dtype, zipped):
    array = np.arange(-12, 12).reshape(2, 3, 4).astype(dtype)
    data = idx_bytes(array)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(data) if zipped else data)
    read = datasets.read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype and read.dtype.isnative and read.flags.writeable


def test_idx_without_items(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8)))
    assert datasets.read_idx(path).shape == (0, 28, 28)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an IDX file is needed"),
        (b"PK\x03\x04 a zip file", "an IDX file is needed"),
        (b"\0\0\x08\x00", "an IDX file is needed"),
        (b"\0\0\x07\x01\0\0\0\1x", "an IDX file is needed"),
        (b"\0\0\x08\x03\0\0\0\1", "ends inside its header"),
        (idx_bytes(np.zeros((4, 5), np.uint8))[:-1], "only 19 data bytes"),
        (idx_bytes(np.zeros((4, 5), np.uint8)) + b"x", "more data bytes"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff12", "only 2 data bytes"),
        (gzip.compress(idx_bytes(np.arange(99).astype("i4")))[:-20], "truncated"),
        (b"\x1f\x8bnot gzip at all", "gzip"),
    ],
)
def test_idx_refuses(tmp_path, data, message):
    path = tmp_path / "bad-file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.read_idx(path)
    assert str(caught.value).startswith("[read_idx] ") and "bad-file" in str(caught.value)


def test_csv(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("year, value\n1749,58.5\n\n1750,?\n")
    names, values = datasets.read_csv(path)
    assert names == ("year", "value")
    np.testing.assert_array_equal(values, [[1749, 58.5], [1750, np.nan]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n3", "line 3: 1 fields"),
        ("a,b\n1,two", "line 2: 'two'"),
        ("a,b\n1,\xff", "UTF-8"),
    ],
)
def test_csv_refuses(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        datasets.read_csv(path)


TS = (
    "# a comment\n@problemName toy\n@timeStamps false\n@dimensions 2\n@classLabel true a b\n@data\n"
)


def test_ts(tmp_path):
    path = tmp_path / "toy.ts"
    path.write_text(TS + "1,2,3:4,5,6:b\n7:?:a\n")
    toy = datasets.read_ts(path)
    np.testing.assert_array_equal(toy.series[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(toy.series[1], [[7, np.nan]])
    np.testing.assert_array_equal(toy.labels, [1, 0])
    assert toy.classes == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just a text", "no @data line"),
        (TS.replace("@timeStamps false", "@timeStamps true"), "time stamps"),
        (TS.replace("@dimensions 2", "@dimensions two"), "positive integer"),
        (TS + "1,2:3,4:c", "one of the classes a, b"),
        (TS + "1,2:3,4", "truncated"),
        (TS + "1,2:3:a", r"lengths \[1, 2\]"),
        (TS + "1,2:a", "1 channels; 2 are needed"),
        (TS + "1,x:1,2:a", "'x'; a number is needed"),
    ],
)
def test_ts_refuses(tmp_path, text, message):
    path = tmp_path / "toy.ts"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.read_ts(path)


# --------------------------------------------------------------------------- places


def test_own_folder_comes_before_the_cache(places, monkeypatch):
    write_mnist(places / "own" / "mnist", train=7)
    write_mnist(places / "cache" / "fastnn" / "mnist", train=6)
    cached = datasets.mnist()
    assert len(cached.x_train) == 6 and "from the cache" in cached.source
    monkeypatch.setenv("FASTNN_DATA", str(places / "own"))
    own = datasets.mnist()
    assert "MNIST: 7 training and 3 test images of 28 x 28" in own.source
    assert "$FASTNN_DATA" in own.source
    assert own.x_train.shape == (7, 28, 28) and own.x_train.dtype == np.uint8
    assert own.y_train.shape == (7,) and own.y_train.dtype == np.int64
    assert len(own.x_test) == len(own.y_test) == 3 and len(own.class_names) == 10


def test_unpacked_files_are_found(places):
    folder = places / "cache" / "fastnn" / "mnist"
    for name, data in write_mnist(folder).items():
        (folder / name).unlink()
        (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress(data))
    assert len(datasets.mnist().x_train) == 5


def test_an_incomplete_own_folder_is_told(places, monkeypatch):
    folder = places / "own" / "mnist"
    write_mnist(folder)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("FASTNN_DATA", str(places / "own"))
    with pytest.raises(FileNotFoundError, match="has no t10k-labels"):
        datasets.mnist()


def test_a_wrong_own_folder_is_told(places, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(places / "nowhere"))
    with pytest.raises(NotADirectoryError, match=r"FASTNN_DATA=.*nowhere"):
        datasets.mnist()


def test_labels_that_do_not_fit(places):
    folder = places / "cache" / "fastnn" / "mnist"
    write_mnist(folder)
    labels = folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(ValueError, match=r"\(5, 28, 28\) uint8 for labels \(4,\)"):
        datasets.mnist()
    labels.write_bytes(idx_bytes(np.full(5, 11, np.uint8)))
    with pytest.raises(ValueError, match="labels 11 to 11"):
        datasets.mnist()


# --------------------------------------------------------------------------- downloads


class Mirror:
    """Answers for ``urlopen``: bytes by file name, and what was asked."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.asked = files, []

    def __call__(self, url, timeout):
        self.asked.append(url)
        assert 0 < timeout <= 30
        name = url.rsplit("/", 1)[1]
        if name not in self.files:
            raise urllib.error.HTTPError(url, 404, "not here", {}, None)
        return io.BytesIO(self.files[name])


def remote(files: dict[str, bytes]) -> list[fetch.RemoteFile]:
    return [
        fetch.RemoteFile(name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in files.items()
    ]


MIRRORS = ("https://one.example/mnist/", "https://two.example/mnist/")


def test_download_goes_to_the_cache_once(places, monkeypatch, capsys):
    files = {"a.gz": b"a" * 300_000, "b.gz": b"b"}
    mirror = Mirror(files)
    monkeypatch.setattr(fetch.urllib.request, "urlopen", mirror)
    located = fetch.obtain("set", remote(files), MIRRORS)
    assert [path.read_bytes() for path in located.paths] == list(files.values())
    assert "downloaded from one.example" in located.where
    assert "downloading https://one.example/mnist/a.gz (0.3 MB)" in capsys.readouterr().err
    again = fetch.obtain("set", remote(files), MIRRORS)
    assert again.paths == located.paths and again.where.startswith("the cache")
    assert len(mirror.asked) == 2
    assert sorted(p.name for p in (places / "cache/fastnn/set").iterdir()) == ["a.gz", "b.gz"]


def test_the_second_mirror_helps(places, monkeypatch):
    files = {"a.gz": b"good"}
    answers = {"one.example": b"evil", "two.example": b"good"}

    def urlopen(url, timeout):
        return io.BytesIO(answers[url.split("/")[2]])

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    located = fetch.obtain("set", remote(files), MIRRORS)
    assert "two.example" in located.where
    assert located.paths[0].read_bytes() == b"good"


@pytest.mark.parametrize("sent", [b"", b"goo", b"goat", b"good and more"])
def test_a_wrong_file_is_refused_and_removed(places, monkeypatch, sent):
    monkeypatch.setattr(fetch.urllib.request, "urlopen", Mirror({"a.gz": sent}))
    with pytest.raises(datasets.DatasetUnavailableError, match="not the official file"):
        fetch.obtain("set", remote({"a.gz": b"good"}), MIRRORS)
    assert list((places / "cache/fastnn/set").iterdir()) == []


def test_no_network_is_told(places):
    with pytest.raises(datasets.DatasetUnavailableError) as caught:
        datasets.mnist()
    message = str(caught.value)
    assert "no network in tests" in message and "FASTNN_DATA=<folder>" in message
    assert message.count(";") >= 2 and "\n" not in message


# --------------------------------------------------------------------------- sets


def test_digits(places):
    digits = datasets.load("digits")
    assert digits.x_train.shape == (1437, 8, 8) and digits.x_test.shape == (360, 8, 8)
    assert digits.x_train.dtype == np.uint8
    assert digits.x_train.min() == 0 and digits.x_train.max() == 16
    # The counts of the classes as UCI publishes them.
    labels = np.concatenate([digits.y_train, digits.y_test])
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    np.testing.assert_array_equal(np.bincount(labels), counts)
    # The first image is the well-known zero.
    np.testing.assert_array_equal(digits.x_train[0, 0], [0, 0, 5, 13, 9, 1, 0, 0])
    assert digits.y_train[0] == 0
    assert "comes with fastnn" in digits.source


def test_sunspots(places):
    data = datasets.sunspots(window=12)
    series = np.concatenate([data.x_train[0, :, 0], data.y_train[:, 0], data.y_test[:, 0]])
    assert len(series) == 260 * 12
    np.testing.assert_allclose(series[:3], [58.0, 62.6, 70.0], rtol=1e-6)
    np.testing.assert_allclose(series[-1], 0.8, rtol=1e-6)
    np.testing.assert_array_equal(data.x_train[5, 1:, 0], data.x_train[6, :-1, 0])
    np.testing.assert_array_equal(data.x_train[6, -1], data.y_train[5])
    assert data.x_train.shape[1:] == (12, 1) and data.y_test.shape[1:] == (1,)


@pytest.mark.parametrize("window", [0, -1, 3119])
def test_sunspots_window(places, window):
    with pytest.raises(ValueError, match="1 to 3118 months"):
        datasets.sunspots(window)


def test_japanese_vowels(places, monkeypatch):
    folder = places / "own" / "japanese-vowels"
    folder.mkdir(parents=True)
    (folder / "JapaneseVowels_TRAIN.ts").write_text(TS + "1,2,3:4,5,6:b\n7:8:a\n")
    (folder / "JapaneseVowels_TEST.ts").write_text(TS + "1,2:3,4:a\n")
    monkeypatch.setenv("FASTNN_DATA", str(places / "own"))
    data = datasets.load("japanese_vowels")
    assert data.x_train.shape == (2, 3, 2) and data.x_train.dtype == np.float32
    np.testing.assert_array_equal(data.lengths_train, [3, 1])
    np.testing.assert_array_equal(data.x_train[1], [[7, 8], [0, 0], [0, 0]])
    np.testing.assert_array_equal(data.lengths_test, [2])
    np.testing.assert_array_equal(data.y_train, [1, 0])


def test_an_unknown_name(places):
    with pytest.raises(ValueError, match="'cifar'; one of mnist, fashion_mnist, digits"):
        datasets.load("cifar")
