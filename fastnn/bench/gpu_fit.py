"""The constants of the model of a recurrent step, from what ``bench gpu-steps`` measured.

    python -m fastnn.bench.gpu_fit runs/bench/gpu-steps.json

prints a `Model` to put into `fastnn.kernels.cuda.rnn_choice`, how far it and the present one are
from the measurements, and what their choices cost. No GPU is needed.

The constants are changed one after the other by factors that become smaller, as long as the sum of
squares of ``log(model / measured)`` falls: there are few of them, and the model is no smooth
function of them.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple, cast

from fastnn.kernels.cuda.rnn_choice import MODEL, Model, timed
from fastnn.kernels.cuda.rnn_shapes import Card, Plan, Work

_FACTORS = (2.0, 1.4, 1.2, 1.1, 1.05, 1.02)
_SWEEPS = 20
_FIXED = ("cluster_processors",)  # decides how many rounds there are, which no time shows directly


class Sample(NamedTuple):
    """One measurement."""

    card: Card
    work: Work
    plan: Plan
    us: float

    def model_us(self, model: Model) -> float:
        """What a model says of it."""
        return timed(self.card, self.work, self.plan, model).step_us


def samples(document: dict[str, Any]) -> list[Sample]:
    """The measurements of a file of ``bench gpu-steps``."""
    found = []
    for row in document["rows"]:
        if "error" in row or "-" in row["kernel"]:  # k3-loop: another way to launch k3
            continue
        card = Card(**document["runs"][row["run"]]["card"])
        for name in ("forward", "backward"):
            part = row[name]
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in part["plan"].items()}
            plan = Plan(**cast(dict[str, Any], fields))
            found.append(Sample(card, Work(**part["work"]), plan, part["us"]))
    return found


def error(found: list[Sample], model: Model) -> float:
    """Root mean square of ``log(model / measured)``."""
    squares = (math.log(sample.model_us(model) / sample.us) ** 2 for sample in found)
    return math.sqrt(sum(squares) / len(found))


def fit(found: list[Sample], start: Model = MODEL) -> Model:
    """The constants that are nearest to the measurements."""
    model, least = start, error(found, start)
    for factor in _FACTORS:
        for _ in range(_SWEEPS):
            before = least
            for name in Model._fields:
                if name in _FIXED:
                    continue
                for change in (factor, 1 / factor):
                    other = model._replace(**{name: getattr(model, name) * change})
                    now = error(found, other)
                    if now < least:
                        model, least = other, now
                        break
            if least == before:
                break
    return model


def regret(found: list[Sample], model: Model) -> list[float]:
    """For each size and direction, the time of the kernel that a model prefers over the least."""
    groups: dict[tuple[Card, Work], list[Sample]] = defaultdict(list)
    for sample in found:
        groups[sample.card, sample.work].append(sample)
    ratios = []
    for group in groups.values():
        preferred = min(group, key=lambda sample: sample.model_us(model))
        ratios.append(preferred.us / min(sample.us for sample in group))
    return ratios


def report(document: dict[str, Any]) -> str:
    """In words: the model in use, and the one that fits."""
    found = samples(document)
    if not found:
        return "nothing was measured"
    fitted = fit(found)
    return "\n".join(
        [_words("the model", found, MODEL), _words("fitted", found, fitted), _text(fitted)]
    )


def _words(name: str, found: list[Sample], model: Model) -> str:
    costs = regret(found, model)
    away = math.exp(error(found, model))
    return (
        f"{name:<10} off by a factor of {away:.2f} (root mean square); what it chooses takes "
        f"{geometric_mean(costs):.2f} times the best kernel's time, at most {max(costs):.2f}"
    )


def _text(model: Model) -> str:
    fields = (f"    {name}={value:.3g}," for name, value in model._asdict().items())
    return "\n".join(["Model(", *fields, ")"])


if __name__ == "__main__":
    print(report(json.loads(Path(sys.argv[1]).read_text())))
