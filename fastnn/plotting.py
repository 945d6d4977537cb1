"""Pictures of a training run. Needs matplotlib: ``pip install 'fastnn[plot]'``.

Drawn with matplotlib's Agg canvas directly: no window, no pyplot, no global state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.files import whole_file

__all__ = ["history_figure", "training_figure"]

INK, MUTED, GRID = "#1f2430", "#717a8c", "#e6e9ef"
TRAIN, VALIDATION, WRONG = "#2f6fde", "#ef8a17", "#d1344b"
MISTAKES = 4
DPI = 150


def training_figure(
    path: str | os.PathLike[str],
    history: Mapping[str, Sequence[float]],
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    title: str,
    subtitle: str = "",
    class_names: Sequence[str] = (),
    columns: int = 13,
) -> None:
    """Draw learning curves above a row of test images with their predictions, as a PNG file.

    Parameters
    ----------
    path
        The file; written under a temporary name and moved into place.
    history
        Per epoch: ``accuracy``, ``val_accuracy``, ``loss``, ``val_loss`` (those that are there).
    images
        ``[N, height, width]``, larger is darker.
    labels
        int ``[N]``, the true classes.
    probabilities
        ``[N, classes]``, what the model thinks of each image.
    title, subtitle
        The two lines at the top.
    class_names
        One a class; without them the numbers are shown.
    columns
        How many images: the first of them in order, then the first ones that are wrong.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The arrays do not belong together, or there is nothing to draw.
    """
    figure = _figure("training_figure", 10, 5.6)
    _check(history, images, labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    rows = figure.add_gridspec(
        2, 2, height_ratios=(2.5, 1), left=0.065, right=0.975, top=0.79, bottom=0.085, hspace=0.5
    )
    figure.text(0.065, 0.945, title, size=16, weight="bold", color=INK, va="center")
    figure.text(0.065, 0.892, subtitle, size=10, color=MUTED, va="center")
    _curves(figure.add_subplot(rows[0, 0]), history, "accuracy", scale=100.0, unit="%")
    _curves(figure.add_subplot(rows[0, 1]), history, "loss", scale=1.0, unit="")
    shown = _chosen(predicted == labels, columns)
    names = list(class_names) or [str(i) for i in range(probabilities.shape[1])]
    _digits(figure, rows[1, :], images, labels, predicted, probabilities, shown, names, columns)
    _save(figure, Path(path))


def history_figure(
    history: Mapping[str, Sequence[float]],
    path: str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
    epochs: Sequence[int] | None = None,
) -> Any:
    """Draw every number of a history over the epochs, validation beside training.

    Parameters
    ----------
    history
        Name to one value an epoch; ``val_<name>`` is drawn beside ``<name>``.
    path
        A PNG file, if one is wanted; written under a temporary name and moved into place.
    names
        Which numbers, without ``val_``; default: all.
    title
        The line at the top.
    epochs
        Their numbers, from 0; default: one after the other.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        There is no epoch, or no number of a name.
    """
    own = [key for key in history if not key.startswith("val_")]
    own += [key for key in history if key.removeprefix("val_") not in own]
    chosen = own if names is None else list(names)
    unknown = [name for name in chosen if name not in own]
    if unknown or not chosen or not any(len(values) for values in history.values()):
        raise ValueError(
            f"[history_figure] {', '.join(unknown) or 'nothing'} of a history with "
            f"{', '.join(history) or 'nothing'}; numbers of at least one epoch are needed"
        )
    columns = min(len(chosen), 2)
    rows = -(-len(chosen) // columns)
    figure = _figure("history_figure", 5 * columns, 3.4 * rows + 0.4)
    for i, name in enumerate(chosen):
        axes = figure.add_subplot(rows, columns, i + 1)
        _curves(axes, history, name, scale=1.0, unit="", epochs=epochs)
    figure.suptitle(title, size=14, weight="bold", color=INK, x=0.02, ha="left")
    figure.tight_layout()
    if path is not None:
        _save(figure, Path(path))
    return figure


def _figure(owner: str, width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"[{owner}] matplotlib is not there ({error}); pip install 'fastnn[plot]' is needed"
        ) from error
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _check(
    history: Mapping[str, Sequence[float]],
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    if not len(history.get("accuracy", ())) or not len(history.get("loss", ())):
        raise ValueError(
            f"[training_figure] history has {', '.join(history) or 'nothing'}; "
            "accuracy and loss of at least one epoch are needed"
        )
    n = len(images)
    if n == 0 or images.ndim != 3 or labels.shape != (n,) or probabilities.shape[:1] != (n,):
        raise ValueError(
            f"[training_figure] images {images.shape}, labels {labels.shape}, probabilities "
            f"{probabilities.shape}; [N, height, width], [N] and [N, classes] are needed"
        )


def _chosen(right: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first images, and of the first mistakes that are not among them."""
    mistakes = np.flatnonzero(~right)
    first = np.arange(min(len(right), columns - min(MISTAKES, len(mistakes))))
    return first, mistakes[mistakes >= len(first)][: columns - len(first)]


def _curves(
    axes: Any,
    history: Mapping[str, Sequence[float]],
    key: str,
    scale: float,
    unit: str,
    epochs: Sequence[int] | None = None,
) -> None:
    """One quantity over the epochs, training and validation, each named at its end."""
    ends = []
    for name, label, colour in ((key, "train", TRAIN), (f"val_{key}", "validation", VALIDATION)):
        values = np.asarray(history.get(name, ()), float) * scale
        if not len(values):
            continue
        numbers = np.arange(len(values)) if epochs is None else np.asarray(epochs[-len(values) :])
        marker = {"marker": "o", "ms": 5, "mec": "white", "mew": 1.0} if len(values) <= 40 else {}
        axes.plot(numbers + 1, values, color=colour, lw=2.2, **marker)
        last = f"{values[-1]:.1f}" if unit else _short(values[-1])
        who = f"{label} " if f"val_{key}" in history else ""
        ends.append((values[-1], f"{who}{last}{unit}", colour))
    axes.set_title(f"{key} {unit and f'({unit})'}".strip(), size=11, color=INK, loc="left", pad=8)
    axes.set_xlabel("epoch", size=9, color=MUTED, labelpad=2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(nbins=5)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    axes.grid(axis="y", color=GRID, lw=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    # The words go where the curves are not.
    falling = key == "loss" or _falls(axes.lines[0].get_ydata())
    for i, (_, text, colour) in enumerate(sorted(ends, reverse=True, key=lambda end: end[0])):
        row = 0.92 - 0.085 * i if falling else 0.06 + 0.085 * (len(ends) - 1 - i)
        axes.text(
            0.985, row, text, transform=axes.transAxes, ha="right", va="center",
            size=10, weight="bold", color=colour,
        )  # fmt: skip


def _falls(values: np.ndarray) -> bool:
    return bool(values[-1] < values[0])


def _short(value: float) -> str:
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def _digits(
    figure: Any,
    where: Any,
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    shown: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
    columns: int,
) -> None:
    """The row of images: prediction and its probability below each, the truth where it differs."""
    first, mistakes = shown
    # A narrow empty column parts the two groups.
    widths = [1.0] * len(first) + ([0.35] if len(mistakes) else []) + [1.0] * len(mistakes)
    grid = where.subgridspec(1, len(widths), width_ratios=widths, wspace=0.12)
    cells = [*range(len(first)), *range(len(first) + 1, len(widths))]
    heads = {0: "the first test images", len(first): "its next mistakes"}
    for position, (cell, index) in enumerate(zip(cells, [*first, *mistakes], strict=True)):
        axes = figure.add_subplot(grid[cell])
        axes.imshow(images[index], cmap="gray_r", interpolation="nearest")
        right = predicted[index] == labels[index]
        colour = INK if right else WRONG
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(GRID if right else WRONG)
        guess = predicted[index]
        small = max(len(name) for name in names) > 2
        likely = f"{100 * probabilities[index, guess]:.0f}%"
        truth = "" if right else f"is {names[labels[index]]}"
        note = {"size": 7 if small else 8.5, "color": MUTED if right else WRONG}
        for text, row, style in (
            (names[guess], -0.18, {"size": 8 if small else 13, "weight": "bold", "color": colour}),
            (likely, -0.42, note),
            (truth, -0.61, note),
        ):
            axes.text(0.5, row, text, transform=axes.transAxes, ha="center", va="center", **style)
        if position in heads:
            axes.set_title(heads[position], size=10, color=MUTED, loc="left", pad=6)


def _save(figure: Any, path: Path) -> None:
    with whole_file(path) as out:
        figure.savefig(out, format="png", dpi=DPI)
