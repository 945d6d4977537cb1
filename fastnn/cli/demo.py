"""``python -m fastnn demo``: a network learns handwritten digits, from data to picture."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from fastnn.cli import options
from fastnn.cli.errors import UsageError

HELP = "train a network on MNIST (offline: on the digits that come with fastnn)"

EXTRAS = {
    "tqdm": ("progress bar", "progress"),
    "safetensors": ("saved model", "io"),
    "matplotlib": ("picture", "plot"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``demo``."""
    parser.add_argument(
        "--model",
        choices=("rnn", "lstm", "gru", "cnn"),
        default="rnn",
        help="SimpleRNN (default), LSTM or GRU of 150 units that reads row by row; convolutions",
    )
    parser.add_argument(
        "--data",
        choices=("auto", "mnist", "fashion_mnist", "digits"),
        default="auto",
        help="auto (default): MNIST, or where it cannot be had the digits that come with fastnn",
    )
    parser.add_argument("--epochs", type=options.positive, help="default: 6; digits 30")
    parser.add_argument("--batch-size", type=options.positive, help="default: 150; digits 30")
    parser.add_argument(
        "--seed",
        type=options.seed,
        default=0,
        help="of the weights, the split and the order (default: 0)",
    )
    parser.add_argument(
        "--out",
        type=options.folder,
        default="runs/demo",
        help="folder for the results (default: runs/demo)",
    )
    options.add_backend(parser)
    options.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    """Load, train, test, save, draw."""
    backend = options.choose_backend(args.backend)
    options.choose_threads(args.threads, backend)

    # Here and not above: the other commands need not wait for the layers.
    from fastnn.cli import demo_recipe as recipe
    from fastnn.cli.demo_checkpoint import BestModel
    from fastnn.seeding import set_random_seed

    try:
        data, why = recipe.load_data(args.data)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    if why is not None:
        print(f"MNIST cannot be had: {why}")
    print(f"data     {data.source}")

    set_random_seed(args.seed)
    part = recipe.split(data, args.seed)
    model, words = recipe.build_model(args.model, part.x_train.shape[1:], len(data.class_names))
    plan = recipe.PLANS[data.name]
    epochs, batch_size = args.epochs or plan.epochs, args.batch_size or plan.batch_size
    print(f"model    {words}; {model.count_params():,} weights")
    print(
        f"training {len(part.x_train):,} images ({len(part.x_val):,} more for validation), batches "
        f"of {batch_size}, Adam {recipe.LEARNING_RATE}, seed {args.seed}, backend {backend}"
    )
    have = _extras()
    path = _prepare(args.out) / f"{args.model}-{data.name}.safetensors"

    kept = BestModel(path if have["safetensors"] else None)
    started = time.perf_counter()
    try:
        history = model.fit(
            part.x_train,
            part.y_train,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=(part.x_val, part.y_val),
            callbacks=[kept],
            verbose=1 if sys.stdout.isatty() else 2,
        )
        seconds = time.perf_counter() - started
        kept.restore()
        predicted = model.predict(part.x_test, batch_size=1000, verbose=0)
    except KeyboardInterrupt:
        print(f"\nstopped in epoch {kept.epoch + 1} of {epochs}; {kept.left_behind()}")
        return 130
    right = int((predicted.argmax(axis=1) == part.y_test).sum())
    accuracy = right / len(part.y_test)
    print(
        f"test accuracy {accuracy:.2%}: {right:,} of {len(part.y_test):,} images right; "
        f"trained in {seconds:.1f} s"
    )
    if kept.best and have["safetensors"]:
        print(f"model    {path} (epoch {kept.best}, the lowest validation loss)")
    if have["matplotlib"]:
        from fastnn.plotting import training_figure

        picture = path.with_suffix(".png")
        subtitle = f"{words} · {len(part.x_train):,} training images · {seconds:.1f} s on {backend}"
        title = f"{accuracy:.1%} of {plan.title} right after {_count(epochs, 'epoch')}"
        training_figure(
            picture,
            history.history,
            part.x_test,
            part.y_test,
            predicted,
            title=title,
            subtitle=subtitle,
            class_names=data.class_names,
        )
        print(f"picture  {picture}")
    return 0


def _extras() -> dict[str, bool]:
    """Which optional packages are there; says what the demo leaves out without the others."""
    have = {package: find_spec(package) is not None for package in EXTRAS}
    for package, (what, extra) in EXTRAS.items():
        if not have[package]:
            print(f"no {what}: {package} is not installed; pip install 'fastnn[{extra}]' is needed")
    return have


def _prepare(folder: str | Path) -> Path:
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}; a folder to write is needed") from None
    return path


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
