"""Real data sets for examples, demos and tests.

========================  ==============================================  =========================
name                      x                                               y
========================  ==============================================  =========================
``mnist``                 uint8 ``[N, 28, 28]``, 0 to 255                 digit, 0 to 9
``fashion_mnist``         uint8 ``[N, 28, 28]``, 0 to 255                 garment, 0 to 9
``digits``                uint8 ``[N, 8, 8]``, 0 to 16                    digit, 0 to 9
``japanese_vowels``       float32 ``[N, 29, 12]``, zeros past a length    speaker, 0 to 8
``sunspots``              float32 ``[N, window, 1]``                      float32 ``[N, 1]``
========================  ==============================================  =========================

Labels are int64 ``[N]``. A data set is looked for in ``$FASTNN_DATA/<folder>``, then in the cache
(``$XDG_CACHE_HOME/fastnn``, else ``~/.cache/fastnn``), then downloaded there and checked against
the SHA-256 digest of the official file. ``digits`` and ``sunspots`` come with fastnn.

Beside these: `question_pairs` (texts; see `Tokenizer`, `pad_sequences`, `encode_pairs`), and the
series of `sunspot_series` and `seasonal_series`, which `timeseries_windows` cuts.

    data = fastnn.datasets.load("mnist")
    data.x_train, data.y_train, data.x_test, data.y_test
    print(data.source)          # which data this is, and where it came from
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastnn.datasets.fetch import (
    DatasetUnavailableError,
    RemoteFile,
    cache_dir,
    data_dir,
    locate,
    obtain,
)
from fastnn.datasets.questions import (
    QuestionPairs,
    generate_question_pairs,
    question_pairs,
    read_question_pairs,
)
from fastnn.datasets.readers import TimeSeries, read_csv, read_idx, read_ts
from fastnn.datasets.series import seasonal_series, timeseries_windows
from fastnn.datasets.text import Tokenizer, encode_pairs, pad_sequences

__all__ = [
    "Dataset",
    "DatasetUnavailableError",
    "QuestionPairs",
    "TimeSeries",
    "Tokenizer",
    "cache_dir",
    "data_dir",
    "digits",
    "encode_pairs",
    "fashion_mnist",
    "generate_question_pairs",
    "japanese_vowels",
    "load",
    "mnist",
    "names",
    "pad_sequences",
    "question_pairs",
    "read_csv",
    "read_idx",
    "read_question_pairs",
    "read_ts",
    "seasonal_series",
    "sunspot_series",
    "sunspots",
    "timeseries_windows",
]

_EMBEDDED = Path(__file__).resolve().parent.parent / "data"

_IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

_MNIST_SIZES = (9912422, 28881, 1648877, 4542)
_MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

_FASHION_SIZES = (26421880, 29515, 4422102, 5148)
_FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)

_VOWELS = (
    RemoteFile(
        "JapaneseVowels_TRAIN.ts",
        487971,
        "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    ),
    RemoteFile(
        "JapaneseVowels_TEST.ts",
        649132,
        "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    ),
)
_VOWELS_MIRRORS = (
    "https://raw.githubusercontent.com/aeon-toolkit/aeon/main/aeon/datasets/data/JapaneseVowels/",
)

_DIGITS_TRAIN = 1437
_SUNSPOTS_TRAIN = 0.8


class Dataset(NamedTuple):
    """A data set in memory, split into training and test parts.

    ``source`` is a sentence that says which data this is and where it came from. ``lengths_*``
    (int64 ``[N]``) are there for sequences of different lengths, ``class_names`` for classes.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str
    class_names: tuple[str, ...] = ()
    lengths_train: np.ndarray | None = None
    lengths_test: np.ndarray | None = None


def mnist() -> Dataset:
    """MNIST: handwritten digits, 28 x 28 grey pixels (LeCun, Cortes, Burges; CC BY-SA 3.0).

    Returns
    -------
    Dataset
        x uint8 ``[60000, 28, 28]`` and ``[10000, 28, 28]``, 0 white to 255 black; y int64. Files in
        ``$FASTNN_DATA/mnist`` may hold fewer images.

    Raises
    ------
    DatasetUnavailableError
        The files are not on this machine and no mirror could be reached.
    ValueError
        A file is truncated, or images and labels do not belong together.
    """
    classes = tuple("0123456789")
    files = _remote(_MNIST_SIZES, _MNIST_SHA256)
    return _idx_dataset("mnist", "MNIST", "mnist", files, _MNIST_MIRRORS, classes)


def fashion_mnist() -> Dataset:
    """Fashion-MNIST: garments, 28 x 28 grey pixels (Zalando Research; MIT).

    Returns and raises as `mnist`; the folder is ``fashion-mnist``. Debian's package
    ``dataset-fashion-mnist`` serves with ``FASTNN_DATA=/usr/share/datasets``.
    """
    classes = (
        "T-shirt/top", "trouser", "pullover", "dress", "coat",
        "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    files = _remote(_FASHION_SIZES, _FASHION_SHA256)
    return _idx_dataset(
        "fashion_mnist", "Fashion-MNIST", "fashion-mnist", files, _FASHION_MIRRORS, classes
    )


def digits() -> Dataset:
    """The UCI optical digits, 8 x 8 pixels; they come with fastnn (CC BY 4.0).

    Returns
    -------
    Dataset
        x uint8 ``[1437, 8, 8]`` and ``[360, 8, 8]``, 0 to 16; y int64. These are the 1,797 images
        of the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998,
        doi 10.24432/C50P49), in its order; the last 360 are the test part here.
    """
    images = read_idx(_EMBEDDED / "digits-images-idx3-ubyte.gz")
    labels = read_idx(_EMBEDDED / "digits-labels-idx1-ubyte.gz").astype(np.int64)
    n = _DIGITS_TRAIN
    source = (
        f"UCI optical digits: {n:,} training and {len(images) - n:,} test images of 8 x 8 pixels, "
        "from the copy that comes with fastnn"
    )
    return Dataset(
        "digits", images[:n], labels[:n], images[n:], labels[n:], source, tuple("0123456789")
    )


def japanese_vowels() -> Dataset:
    """Japanese vowels: which of nine speakers says /ae/, from 12 LPC cepstrum coefficients.

    Returns
    -------
    Dataset
        x float32 ``[270, 29, 12]`` and ``[370, 29, 12]``, zeros past each case's length;
        ``lengths_train`` and ``lengths_test`` int64, 7 to 29; y int64, 0 to 8. The split is the
        official one (Kudo, Toyama, Shimbo 1999; UCI doi 10.24432/C5NS47; CC BY 4.0).

    Raises
    ------
    DatasetUnavailableError
        The files are not on this machine and no mirror could be reached.
    ValueError
        A file is truncated or is not a ``.ts`` file.
    """
    located = obtain("japanese-vowels", _VOWELS, _VOWELS_MIRRORS)
    train, test = (read_ts(path) for path in located.paths)
    if train.classes != test.classes or not train.series or not test.series:
        raise ValueError(
            f"[datasets.japanese_vowels] {len(train.series)} training cases of "
            f"{len(train.classes)} classes and {len(test.series)} test cases of "
            f"{len(test.classes)}; both parts with the same classes are needed"
        )
    steps = max(len(series) for series in train.series + test.series)
    x_train, lengths_train = _pad(train.series, steps)
    x_test, lengths_test = _pad(test.series, steps)
    source = (
        f"Japanese vowels: {len(x_train):,} training and {len(x_test):,} test utterances of "
        f"{lengths_train.min()} to {steps} steps of {x_train.shape[2]} channels, "
        f"from {located.where}"
    )
    return Dataset(
        "japanese_vowels", x_train, train.labels, x_test, test.labels, source,
        tuple(f"speaker {name}" for name in train.classes), lengths_train, lengths_test,
    )  # fmt: skip


def sunspot_series() -> tuple[np.ndarray, np.ndarray]:
    """Monthly mean sunspot numbers, 1749 to 2008, as they come (public domain).

    Returns
    -------
    time : float64 array [N]
        Years, with their months as twelfths.
    series : float32 array [N]
    """
    table, series, _ = _sunspots()
    return table[:, 0] + (table[:, 1] - 1) / 12, series


def sunspots(window: int = 24) -> Dataset:
    """Monthly mean sunspot numbers, 1749 to 2008; they come with fastnn (public domain).

    Parameters
    ----------
    window
        How many months a sample shows.

    Returns
    -------
    Dataset
        x float32 ``[N, window, 1]``, windows that overlap; y float32 ``[N, 1]``, the month after
        each. The first 80% of the windows are for training, the rest, later in time, for test.

    Raises
    ------
    ValueError
        ``window`` is less than 1 or longer than the series; the file has another form.
    """
    table, series, where = _sunspots()
    if not 1 <= window <= len(series) - 2:
        raise ValueError(
            f"[datasets.sunspots] window={window}; 1 to {len(series) - 2} months are needed"
        )
    x, y = timeseries_windows(series, window)
    x = x[..., None]
    n = int(_SUNSPOTS_TRAIN * len(x))
    source = (
        f"Monthly mean sunspot numbers {table[0, 0]:.0f} to {table[-1, 0]:.0f}: {n:,} training and "
        f"{len(x) - n:,} test windows of {window} months, from {where}"
    )
    return Dataset("sunspots", x[:n], y[:n], x[n:], y[n:], source)


def _sunspots() -> tuple[np.ndarray, np.ndarray, str]:
    """Year, month and number; the numbers alone; where they come from."""
    located = locate("sunspots", ["sunspots_monthly.csv"])
    path = located.paths[0] if located else _EMBEDDED / "sunspots_monthly.csv.gz"
    names, table = read_csv(path)
    if names != ("year", "month", "mean_sunspot_number"):
        raise ValueError(
            f"[datasets.sunspots] {path} has the columns {', '.join(names)}; "
            "year, month, mean_sunspot_number are needed"
        )
    where = located.where if located else "the copy that comes with fastnn"
    return table, table[:, 2].astype(np.float32), where


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "digits": digits,
    "japanese_vowels": japanese_vowels,
    "sunspots": sunspots,
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_LOADERS)


def load(name: str) -> Dataset:
    """Load a data set by name; see `names`.

    Raises
    ------
    ValueError
        The name is not known, or a file of the set is not what it should be.
    DatasetUnavailableError
        The set is not on this machine and could not be downloaded.
    """
    if name not in _LOADERS:
        raise ValueError(f"[datasets.load] {name!r}; one of {', '.join(_LOADERS)} is needed")
    return _LOADERS[name]()


def _remote(sizes: tuple[int, ...], digests: tuple[str, ...]) -> list[RemoteFile]:
    return [RemoteFile(*row) for row in zip(_IDX_NAMES, sizes, digests, strict=True)]


def _idx_dataset(
    name: str,
    title: str,
    folder: str,
    files: list[RemoteFile],
    mirrors: tuple[str, ...],
    classes: tuple[str, ...],
) -> Dataset:
    """Four IDX files in the manner of MNIST as a `Dataset`."""
    located = obtain(folder, files, mirrors)
    x_train, y_train, x_test, y_test = (read_idx(path) for path in located.paths)
    for x, y, path in ((x_train, y_train, located.paths[0]), (x_test, y_test, located.paths[2])):
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y) or x.dtype != np.uint8:
            raise ValueError(
                f"[datasets.{name}] {path} holds images {x.shape} {x.dtype} for labels {y.shape}; "
                "[N, height, width] uint8 and [N] are needed"
            )
        if y.size and (y.min() < 0 or y.max() >= len(classes)):
            raise ValueError(
                f"[datasets.{name}] labels {y.min()} to {y.max()} beside {path}; "
                f"0 to {len(classes) - 1} are needed"
            )
    height, width = x_train.shape[1:]
    source = (
        f"{title}: {len(x_train):,} training and {len(x_test):,} test images of "
        f"{height} x {width} pixels, from {located.where}"
    )
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    return Dataset(name, x_train, y_train, x_test, y_test, source, classes)


def _pad(series: list[np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Series of different lengths as one float32 ``[N, steps, C]`` array with zeros at the end."""
    lengths = np.asarray([len(one) for one in series], np.int64)
    x = np.zeros((len(series), steps, series[0].shape[1]), np.float32)
    for row, one in zip(x, series, strict=True):
        row[: len(one)] = one
    return x, lengths
