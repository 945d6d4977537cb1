"""Epochs of four examples in fastnn, Keras and PyTorch: the same layers, data and batches.

    python bench/examples_peers.py [--threads 2] [--rounds 5] [3 8 10 13]

Wall time counts on a machine that does nothing else; CPU time, of all threads together, says
something on a shared one, too. PyTorch's threads wait for each other by spinning, so beside other
work they measure that work: --threads 1 then.

Runs in one process, in an environment where fastnn and the peers can be imported; a peer that is
not there is left out. Each trains one epoch to warm up, then they take turns. fastnn and Keras are
given by the same lines: only the module that `layers` names differs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastnn

Epoch = Callable[[], Any]


class Work(NamedTuple):
    """What an example trains: layers, how they learn, on what."""

    title: str
    layers: Callable[[Any], list[Any]]
    torch: Callable[[Any], Any]
    loss: str
    optimizer: str
    x: np.ndarray
    y: np.ndarray
    batch_size: int


# ------------------------------------------------------------------ the examples


def row_rnn() -> Work:
    x, y = images()
    return Work(
        "3 row RNN, MNIST",
        lambda layers: [layers.SimpleRNN(150), layers.Dense(10, activation="softmax")],
        lambda torch: last_of(torch, torch.nn.RNN(28, 150, batch_first=True), 150, 10),
        "sparse_categorical_crossentropy", "adam", x, y, 150,
    )  # fmt: skip


def question_pairs() -> Work:
    pairs = fastnn.datasets.generate_question_pairs(4000)
    tokenizer = fastnn.datasets.Tokenizer()
    tokenizer.fit_on_texts(pairs.question1 + pairs.question2)
    x, words = fastnn.datasets.encode_pairs(tokenizer, pairs.question1, pairs.question2)

    def stack(layers: Any) -> list[Any]:
        return [
            layers.Embedding(words, 64, mask_zero=True),
            layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(32)),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]

    return Work(
        "8 question pairs", stack, lambda torch: pairs_module(torch, words),
        "binary_crossentropy", "adam", x, pairs.is_duplicate.astype("float32")[:, None], 16,
    )  # fmt: skip


def cnn() -> Work:
    x, y = images()

    def stack(layers: Any) -> list[Any]:
        return [
            layers.Conv2D(30, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]

    def module(torch: Any) -> Any:
        nn = torch.nn
        head = (nn.Linear(30 * 12 * 12, 100), nn.ReLU(), nn.Linear(100, 10))
        return nn.Sequential(nn.Conv2d(1, 30, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *head)

    return Work(
        "10 CNN, MNIST", stack, module, "sparse_categorical_crossentropy", "adam",
        x[..., None], y, 100,
    )  # fmt: skip


def synthetic() -> Work:
    _, series = fastnn.datasets.seasonal_series()
    x, y = fastnn.datasets.timeseries_windows(series[:1000], 20)

    def stack(layers: Any) -> list[Any]:
        return [
            layers.Bidirectional(layers.LSTM(32, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(32)),
            layers.Dense(1),
        ]

    def module(torch: Any) -> Any:
        lstm = torch.nn.LSTM(1, 32, num_layers=2, bidirectional=True, batch_first=True)
        return last_of(torch, lstm, 64, 1)

    return Work(
        "13 two bidirectional LSTM(32)", stack, module, "huber", "sgd",
        x[..., None] / 100, y / 100, 32,
    )  # fmt: skip


EXAMPLES = {3: row_rnn, 8: question_pairs, 10: cnn, 13: synthetic}


def images() -> tuple[np.ndarray, np.ndarray]:
    data = fastnn.datasets.mnist()
    return data.x_train / np.float32(255), data.y_train


# ------------------------------------------------------------------ PyTorch's modules


def last_of(torch: Any, rnn: Any, features: int, outputs: int) -> Any:
    """A recurrent module and Dense on its last states (of both directions)."""

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = rnn, torch.nn.Linear(features, outputs)

        def forward(self, x: Any) -> Any:
            state = self.rnn(x)[1]
            h = state[0] if isinstance(state, tuple) else state
            count = 2 if rnn.bidirectional else 1
            return self.head(torch.cat(tuple(h[-count:]), dim=1))

    return Last()


def pairs_module(torch: Any, words: int) -> Any:
    nn = torch.nn
    pack = nn.utils.rnn.pack_padded_sequence

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(words, 64, padding_idx=0)
            self.first = nn.LSTM(64, 64, bidirectional=True, batch_first=True)
            self.second = nn.LSTM(128, 32, bidirectional=True, batch_first=True)
            self.head = nn.Sequential(
                nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1)
            )

        def forward(self, x: Any) -> Any:
            lengths = (x != 0).sum(dim=1)
            packed = pack(self.words(x), lengths, batch_first=True, enforce_sorted=False)
            h = self.second(self.first(packed)[0])[1][0]
            return self.head(torch.cat((h[0], h[1]), dim=1))

    return Pairs()


# ------------------------------------------------------------------ who takes part


def with_fastnn(work: Work, threads: int) -> Epoch:
    fastnn.set_num_threads(threads)
    return with_fit(work, fastnn.Sequential, fastnn.layers)


def with_keras(work: Work, threads: int) -> Epoch:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    if not tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    return with_fit(work, keras.Sequential, keras.layers)


def with_fit(work: Work, sequential: Any, layers: Any) -> Epoch:
    model = sequential(work.layers(layers))
    model.compile(optimizer=work.optimizer, loss=work.loss)
    return lambda: model.fit(work.x, work.y, batch_size=work.batch_size, epochs=1, verbose=0)


def with_pytorch(work: Work, threads: int) -> Epoch:
    import torch

    torch.set_num_threads(threads)
    model = work.torch(torch)
    x, y = torch.from_numpy(np.ascontiguousarray(work.x)), torch.from_numpy(work.y)
    if work.title.startswith("10"):
        x = x.permute(0, 3, 1, 2).contiguous()
    losses = {"sparse_categorical_crossentropy": "CrossEntropyLoss", "huber": "HuberLoss"}
    loss = getattr(torch.nn, losses.get(work.loss, "BCEWithLogitsLoss"))()
    optimizers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = optimizers[work.optimizer](model.parameters(), lr=0.001)

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(work.batch_size):
            optimizer.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("examples", nargs="*", type=int, default=[], metavar="example")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # the same cores for all
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    print(f"seconds an epoch, median of {args.rounds}, {args.threads} threads", flush=True)
    for number in args.examples or EXAMPLES:
        work = EXAMPLES[number]()
        epochs: dict[str, Epoch] = {}
        for name, prepare in (
            ("fastnn", with_fastnn),
            ("Keras", with_keras),
            ("PyTorch", with_pytorch),
        ):
            try:
                epochs[name] = prepare(work, args.threads)
            except ImportError as error:
                print(f"without {name}: {error}", file=sys.stderr)
        wall: dict[str, list[float]] = {name: [] for name in epochs}
        cpu: dict[str, list[float]] = {name: [] for name in epochs}
        for turn in range(args.rounds + 1):
            for name, epoch in epochs.items():
                begin, begin_cpu = time.perf_counter(), time.process_time()
                epoch()
                if turn:  # the first one compiles and warms up
                    wall[name].append(time.perf_counter() - begin)
                    cpu[name].append(time.process_time() - begin_cpu)
        words = [
            f"{name} {statistics.median(wall[name]):.2f} (least {min(wall[name]):.2f}, CPU "
            f"{statistics.median(cpu[name]):.2f})"
            for name in epochs
        ]
        print(f"{work.title}: {', '.join(words)}", flush=True)


if __name__ == "__main__":
    main()
