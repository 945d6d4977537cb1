"""The picture: how much longer the peers take, row by row. Needs matplotlib."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

from fastnn.bench.measure import Measurement
from fastnn.bench.report import best, mean_line, parts
from fastnn.files import write_whole
from fastnn.plotting import DPI, GRID, INK, MUTED

AHEAD, BEHIND = "#2f6fde", "#d1344b"
COLOURS = {
    "torch": "#ef8a17",
    "jax": "#2a9d6f",
    "tensorflow": "#8a5cd6",
    "onnxruntime": "#717a8c",
}
COLUMNS, ROW_INCHES, PANEL_INCHES = 2, 0.27, 1.0
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


def draw(
    path: str | os.PathLike[str], measurements: Sequence[Measurement], title: str, subtitle: str
) -> None:
    """A panel for each group, mode and number of threads, as a PNG file.

    A bar is the fastest peer's time over fastnn's, with its quartiles; a dot is another peer.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        No peer was timed, so there is nothing to draw.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError as error:
        raise ImportError(
            f"[bench] matplotlib is not there ({error}); pip install 'fastnn[plot]' is needed"
        ) from error
    shown = [
        (key, members)
        for key, all_members in parts(measurements)
        if (members := [m for m in all_members if best(m)])
    ]
    if not shown:
        raise ValueError("[bench] no peer was timed; at least one is needed for a picture")
    columns = min(COLUMNS, len(shown))
    lines = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    heights = [
        PANEL_INCHES + ROW_INCHES * max(len(members) for _, members in line) for line in lines
    ]
    top, inches = 0.95, sum(heights) + 1.15
    width = 12.8
    figure = Figure(figsize=(width, inches), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 1 - 0.28 / inches, title, size=15, weight="bold", color=INK, va="center")
    figure.text(0.02, 1 - 0.58 / inches, subtitle, size=9, color=MUTED, va="center")
    grid = figure.add_gridspec(
        len(lines), columns, height_ratios=heights, left=2.05 / width,
        right=0.985, top=1 - (top + 0.25) / inches, bottom=0.55 / inches,
        wspace=0.42, hspace=0.9 * len(lines) / sum(heights),
    )  # fmt: skip
    present = {label.partition(":")[0] for _, ms in shown for m in ms for label in m.peers}
    for i, line in enumerate(lines):
        for j, (key, members) in enumerate(line):
            _panel(figure.add_subplot(grid[i, j]), key, members)
    handles = [
        Line2D([], [], marker="o", ls="", ms=6, color=colour, label=name)
        for name, colour in COLOURS.items()
        if name in present
    ]
    figure.legend(
        handles=handles, loc="upper right", ncols=len(handles), frameon=False, fontsize=9,
        bbox_to_anchor=(0.995, 1 - 0.1 / inches), labelcolor=INK, handletextpad=0.1,
    )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_whole(path, buffer.getvalue())


def _panel(axes: Any, key: tuple[str, str, int], members: Sequence[Measurement]) -> None:
    group, mode, threads = key
    largest, least = 1.0, 1.0
    for y, m in enumerate(members):
        found = best(m)
        assert found is not None  # draw() left out the others
        name, ratio = found
        colour = AHEAD if ratio.median >= 1 else BEHIND
        axes.barh(y, ratio.median - 1, left=1, height=0.62, color=colour, alpha=0.28)
        axes.plot([ratio.low, ratio.high], [y, y], color=INK, lw=1.4, zorder=3)
        for label, timing in m.peers.items():
            if timing.ratio is not None:
                dot = COLOURS[label.partition(":")[0]]
                size = 36 if label == name else 16
                axes.scatter(timing.ratio.median, y, s=size, color=dot, zorder=4, linewidths=0)
                largest, least = max(largest, timing.ratio.median), min(least, timing.ratio.median)
        axes.annotate(
            f"{ratio.median:.2f}", (1, y), xycoords=("axes fraction", "data"), xytext=(-4, 0),
            textcoords="offset points", ha="right", va="center", size=8.5, color=colour,
            weight="bold",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(least / 1.3, max(largest, 2) * 1.9)
    ticks = [tick for tick in TICKS if least / 1.3 <= tick <= largest * 1.3]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(len(members) - 0.5, -0.5)
    axes.set_yticks(range(len(members)), [m.row for m in members])
    axes.tick_params(colors=INK, labelsize=8.5, length=0)
    axes.axvline(1, color=INK, lw=1)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    heading = f"{group}, {mode}, {threads} thread{'s' if threads > 1 else ''}"
    axes.set_title(heading, size=10.5, color=INK, loc="left", pad=17, weight="bold")
    axes.annotate(
        mean_line(members), (0, 1), xycoords="axes fraction", xytext=(0, 5),
        textcoords="offset points", size=8, color=MUTED,
    )  # fmt: skip
    axes.set_xlabel("peer's time / fastnn's", size=8, color=MUTED, labelpad=2)
