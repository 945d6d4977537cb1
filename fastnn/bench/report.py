"""What was measured, as tables and as JSON."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from fastnn.bench.measure import Measurement, Spread, Timing
from fastnn.bench.process import usable_cores

FORMAT = 1


def best(measurement: Measurement) -> tuple[str, Spread] | None:
    """The fastest peer and its ratio; None where no peer was timed."""
    found = {name: t.ratio for name, t in measurement.peers.items() if t.ratio is not None}
    if not found:
        return None
    name = min(found, key=lambda name: found[name].median)
    return name, found[name]


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers, at least one."""
    return math.exp(sum(map(math.log, values)) / len(values))


def parts(
    measurements: Iterable[Measurement],
) -> list[tuple[tuple[str, str, int], list[Measurement]]]:
    """``((group, mode, threads), its measurements)``, in the order in which they came."""

    def key(m: Measurement) -> tuple[str, str, int]:
        return (m.group, m.mode, m.threads)

    measurements = list(measurements)
    order = list(dict.fromkeys(map(key, measurements)))
    ordered = sorted(measurements, key=lambda m: order.index(key(m)))
    return [(k, list(members)) for k, members in groupby(ordered, key)]


def tables(measurements: Iterable[Measurement]) -> str:
    """A table for each group, mode and number of threads."""
    return "\n\n".join(_table(*part) for part in parts(measurements))


def mean_line(members: Sequence[Measurement]) -> str:
    """The geometric mean of the best peer over the plain rows, in words; "" without peers."""
    ratios = [found[1].median for m in members if m.plain and (found := best(m))]
    if not ratios:
        return ""
    plain = "plain " if any(not m.plain for m in members) else ""
    return (
        f"best peer / fastnn over {len(ratios)} {plain}rows: geometric mean "
        f"{geometric_mean(ratios):.2f}, least {min(ratios):.2f}"
    )


def _table(key: tuple[str, str, int], members: list[Measurement]) -> str:
    group, mode, threads = key
    labels = list(dict.fromkeys(label for m in members for label in m.peers))
    head = ["row", "fastnn ms", _unit(members), "of peak", "best peer", *labels]
    body = [[m.row, *_own(m), *(_cell(m.peers.get(label)) for label in labels)] for m in members]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [f"{group}, {mode}, {threads} thread{'s' if threads > 1 else ''}"]
    for cells in (head, *body):
        aligned = [text.rjust(w) for text, w in zip(cells, widths, strict=True)]
        lines.append("  ".join([cells[0].ljust(widths[0]), *aligned[1:]]))
    lines += [*_notes(members), *_growth(members, labels)]
    return "\n".join(line for line in lines if line)


def _growth(members: Sequence[Measurement], labels: Sequence[str]) -> list[str]:
    """How much longer calls take beside busy processes, where that was measured."""
    if not any(m.ours.growth for m in members):
        return []
    body = [["busy / alone", "fastnn", *labels]]
    for m in members:
        found = [m.ours, *(m.peers.get(label) for label in labels)]
        body.append([m.row, *(_spread(t.growth if t else None) for t in found)])
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    return [
        "  ".join(
            text.rjust(w) if i else text.ljust(w)
            for i, (text, w) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in body
    ]


def _unit(members: Sequence[Measurement]) -> str:
    return "GB/s" if any(m.bytes for m in members) else "GFLOP/s"


def _own(m: Measurement) -> list[str]:
    assert m.ours.seconds is not None  # fastnn always has a time
    seconds, work, found = m.ours.seconds.median, m.flops or m.bytes, best(m)
    return [
        f"{seconds * 1e3:.3f}",
        "-" if work is None else f"{work / seconds / 1e9:.1f}",
        "-" if m.fraction is None else f"{m.fraction.median:.0%}",
        "-" if found is None else f"{found[1].median:.2f}",
    ]


def _cell(timing: Timing | None) -> str:
    if timing is None or timing.ratio is None:
        return "differs" if timing and timing.difference else "-"
    return _spread(timing.ratio)


def _spread(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.median:.2f} [{spread.low:.2f} {spread.high:.2f}]"


def _notes(members: Sequence[Measurement]) -> list[str]:
    """Below a table: the mean, the ceiling, and why a cell is empty."""
    notes = [mean_line(members)]
    peaks = [m.ceiling_rate for m in members if m.plain and m.fraction and m.ceiling_rate]
    if peaks:
        kinds = " or ".join(dict.fromkeys(m.ceiling for m in members if m.plain))
        notes.append(f"peak: {median(peaks) / 1e9:.0f} {_unit(members)} ({kinds})")
    reasons: dict[tuple[str, str], list[str]] = {}
    for m in members:
        for label, timing in m.peers.items():
            if timing.reason and timing.ratio is None:
                reasons.setdefault((label, timing.reason), []).append(m.row)
    for (label, reason), names in reasons.items():
        where = "" if len(names) == len(members) else f" ({', '.join(names)})"
        notes.append(f"{label}: {reason}{where}")
    return notes


# --------------------------------------------------------------------------- JSON


def document(
    measurements: Iterable[Measurement], versions: Mapping[str, str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, for a file: raw numbers with the machine that gave them."""
    return {**circumstances(versions, settings), "results": [_plain(m) for m in measurements]}


def circumstances(versions: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The machine, what ran, and how: what a file of results begins with."""
    return {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": len(usable_cores()),
        "python": platform.python_version(),
        "versions": dict(versions),
        "settings": dict(settings),
    }


def _plain(m: Measurement) -> dict[str, Any]:
    found = best(m)
    return {
        **m._asdict(),
        "ours": _timing(m.ours),
        "peers": {label: _timing(timing) for label, timing in m.peers.items()},
        "fraction": m.fraction and m.fraction._asdict(),
        "best_peer": found and {"name": found[0], **found[1]._asdict()},
    }


def _timing(timing: Timing) -> dict[str, Any]:
    fields = timing._asdict()
    for name in ("seconds", "ratio", "growth"):
        fields[name] = fields[name] and fields[name]._asdict()
    if fields["difference"] == math.inf:  # JSON has no infinity
        fields["difference"] = "inf"
    return fields


def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
