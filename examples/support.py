"""What the examples share: their options, the look of their pictures, images to learn from."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn import datasets
from fastnn.files import write_whole

INK, MUTED, GRID = "#1f2430", "#717a8c", "#e6e9ef"
BLUE, ORANGE, RED, GREEN = "#2f6fde", "#ef8a17", "#d1344b", "#2a9d6f"
DPI = 100


class Options(NamedTuple):
    """What an example was asked for."""

    name: str  # "03_row_rnn"
    quick: bool
    out: Path
    seed: int
    epochs: int


def start(
    file: str, doc: str, argv: list[str] | None, *, epochs: int = 0, quick_epochs: int = 0
) -> Options:
    """Read the command line, seed every default choice, print the title.

    An example that trains by epochs gives their number, and that for ``--quick``.
    """
    parser = argparse.ArgumentParser(
        prog=Path(file).name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller: seconds instead of minutes")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/examples"), help="folder for the results"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    if epochs:
        parser.add_argument("--epochs", type=int, help=f"default {epochs}, quick {quick_epochs}")
    args = parser.parse_args(argv)
    if epochs:
        epochs = args.epochs or (quick_epochs if args.quick else epochs)
    args.out.mkdir(parents=True, exist_ok=True)
    fastnn.set_random_seed(args.seed)
    print(doc.strip().splitlines()[0])
    return Options(Path(file).stem, args.quick, args.out, args.seed, epochs)


def compare(pair: str, a: np.ndarray, b: np.ndarray) -> float:
    """Print how far apart two results are that should be one; return it."""
    difference = float(np.abs(a - b).max())
    if np.array_equal(a, b):
        print(f"{pair}: the same bits")
    else:  # the sums were made in another order
        print(f"{pair}: at most {difference:.1e} apart, of numbers up to {np.abs(a).max():.2g}")
    return difference


# ------------------------------------------------------------------ pictures


def picture(options: Options, draw: Callable[..., None], *data: Any, size: tuple[float, float]):
    """Let ``draw(figure, *data)`` fill a matplotlib figure; save it whole as ``<out>/<name>.png``.

    ``size`` is in inches. Without matplotlib the example goes on and says so.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image  # matplotlib brings it
    except ImportError as error:
        print(f"no picture: {error}; pip install 'fastnn[plot]' is needed")
        return
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw(figure, *data)
    canvas.draw()
    # 256 colours do for all that is drawn here, and the file is a third of the size.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(256, dither=0)
    content = io.BytesIO()
    image.save(content, format="png", optimize=True)
    path = options.out / f"{options.name}.png"
    write_whole(path, content.getvalue())
    print(f"picture  {path}")


def dress(axes: Any, title: str = "", x: str = "", y: str = "", legend: bool = False) -> None:
    """The common look of a plot: a title on the left, named axes, a quiet grid."""
    axes.set_title(title, size=11, color=INK, loc="left")
    axes.set_xlabel(x, size=9, color=MUTED)
    axes.set_ylabel(y, size=9, color=MUTED)
    axes.tick_params(colors=MUTED, labelsize=9, length=0, which="both")
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(GRID)
    if legend:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def show_image(axes: Any, image: np.ndarray, title: str = "", **style: Any) -> None:
    """An image (or a filter) without axes; larger is darker unless ``cmap`` says otherwise."""
    axes.imshow(image, **{"cmap": "gray_r", "interpolation": "nearest", **style})
    axes.set_title(title, size=9, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(GRID)


# ------------------------------------------------------------------ data


class Images(NamedTuple):
    """Grey images as float32 ``[N, height, width]`` in 0..1, labels int64 ``[N]``."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]
    source: str


def load_images(name: str, limit: int | None = None) -> Images:
    """MNIST or Fashion-MNIST; where it cannot be had, the 8 x 8 digits that come with fastnn.

    ``limit`` takes only so many training and test images.
    """
    largest = 255
    try:
        data = datasets.load(name)
    except datasets.DatasetUnavailableError as error:
        print(f"{name} cannot be had: {error}")
        data, largest = datasets.digits(), 16
    print(f"data     {data.source}" + (f"; the first {limit:,} of each" if limit else ""))
    x_train, x_test = (x[:limit] / np.float32(largest) for x in (data.x_train, data.x_test))
    return Images(
        x_train, data.y_train[:limit], x_test, data.y_test[:limit], data.class_names, data.source
    )
