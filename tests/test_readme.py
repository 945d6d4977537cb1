"""The README is true: its Python runs, its files exist, its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastnn import dispatch

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["y"].shape == (32, 20, 64) and names["dx"].shape == (32, 20, 8)
    loss, accuracy = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out)[-2:])
    assert accuracy > 0.3 and loss < 2.3  # chance is 0.1 and ln 10


FOLDERS = ("fastnn", "kernels", "tests", "bench", "docs", "examples")
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "docs/design.md", "docs/contract.md", "docs/performance.md"),
    *("bench/README.md", "examples/README.md", "fastnn/data/README.md"),
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+?)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_files_that_are_named_exist():
    """By the end of their path: `conv.inc` is any file of that name."""
    found = [f"/{p.relative_to(ROOT).as_posix()}" for f in FOLDERS for p in (ROOT / f).rglob("*.*")]
    found += [f"/{path.name}" for path in ROOT.iterdir()]
    missing = []
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        names = re.findall(r"`([\w/.]+\.(?:py|pyx|pxd|inc|h|c|cu|cuh|cpp|sh|md|toml))`", text)
        ends = tuple(f"/{name}" for name in set(names))
        missing += [(document, end) for end in ends if not any(p.endswith(end) for p in found)]
    assert missing == []


def test_the_way_of_an_lstm():
    """The files of the table lie where it says, and have what it says to look for."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/.]+)` \| (`.+?`) \|", text, re.MULTILINE)
    assert len(rows) == 5
    for file, names in rows:
        source = (ROOT / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"(def|class|static \w+) {name}\b", source), (file, name)


def test_make_targets_exist():
    used = set(re.findall(r"\bmake ([a-z]+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert {"demo", "test", "bench"} <= used <= targets


def test_every_backend_has_its_row():
    table = README.split("## Backends")[1].strip().split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert rows.pop(0) == "FASTNN_BACKEND" and set(rows) == set(dispatch.NAMES)


def test_every_variable_is_described():
    sources = [*ROOT.glob("fastnn/**/*.py"), *ROOT.glob("kernels/**/*.py*")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.suffix != ".pyc")
    used = set(re.findall(r"[\"'](FASTNN_[A-Z_]+)", text))
    described = set(re.findall(r"^\| `([A-Z_]+)`", README, re.MULTILINE))
    assert used <= described and "FASTNN_DATA" in used
