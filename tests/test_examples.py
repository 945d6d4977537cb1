"""Every example runs, quickly and offline; its results are what they must be, on numpy too."""

from __future__ import annotations

import importlib.util
import re
import sys
import urllib.error
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import need

import fastnn
from fastnn import dispatch
from fastnn.datasets import fetch

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
PICTURE_LIMIT = 80_000


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network, an empty cache, and of the data that do not come with fastnn only vowels that
    are made up; children find this fastnn."""

    def urlopen(url, timeout):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_vowels(tmp_path / "data" / "japanese-vowels")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    yield
    sys.modules.pop("support", None)


def make_vowels(folder: Path) -> None:
    """Nine speakers, told apart by the mean of one channel each, in the form of the real files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("TRAIN", 90), ("TEST", 45)):
        lines = [
            "@timeStamps false",
            "@dimensions 12",
            "@classLabel true 1 2 3 4 5 6 7 8 9",
            "@data",
        ]
        for i in range(count):
            x = rng.normal(size=(12, rng.integers(7, 30)))
            x[i % 9] += 2
            channels = [",".join(f"{v:.3f}" for v in row) for row in x]
            lines.append(":".join([*channels, str(i % 9 + 1)]))
        (folder / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def falls(losses) -> bool:
    return losses[-1] < losses[0]


# What must hold of the results of a quick run.
CHECKS = {
    1: lambda r: r["h"].shape == (4, 2, 5) and np.all(np.abs(r["h"]) <= 1),
    2: lambda r: (
        r["apart"] < 1e-5
        and r["difference"] < 1e-4
        and not r["y"][1, 1].any()
        and np.array_equal(r["y"][1, 0], r["final"][1])
    ),
    3: lambda r: falls(r["loss"]) and r["accuracy"] > 0.3 and np.allclose(r["thoughts"].sum(1), 1),
    4: lambda r: falls(r["loss"]) and len(r["shares"]) == 3,
    5: lambda r: r["error"] < 0.5 and r["apart"] < 1e-5,
    6: lambda r: r["none"] > 0.2 and list(r)[-1] == "all three",
    7: lambda r: r["by hand"] < 1e-6 and r["covered"] < 1e-6 and r["echo 60"] < 0.4,
    8: lambda r: falls(r["loss"]) and r["apart"] < 1e-5,
    9: lambda r: (
        np.array_equal(r["plain"], [[18, 19], [9, 18]])
        and np.array_equal(
            r["padded"], [[7, 12, 10, 2], [4, 15, 16, 10], [10, 6, 15, 6], [8, 10, 4, 3]]
        )
        and np.array_equal(r["columns"][0], [1, 2, 3, 0, 1, 2, 3, 0, 1])
    ),
    10: lambda r: all(accuracy > 0.25 for accuracy in r.values()) and len(r) == 6,
    11: lambda r: (
        np.allclose(r["y"], [[3.9998572, 5.999727]]) and np.isclose(r["softmax"][0, 1], 4.54e-5)
    ),
    12: lambda r: falls(r["loss"]) and 0.1 < r["top 1"] <= r["top 2"] <= r["top 3"],
    13: lambda r: r["from the mean"] < r["the day before"],
    14: lambda r: r["the network"] < r["mean of 12 months"],
    15: lambda r: r["accuracy"] > 0.8 and r["apart"] < 1e-5,
}


def number(path: Path) -> int:
    return int(path.stem[:2])


def test_there_are_fifteen():
    assert [number(path) for path in EXAMPLES] == list(range(1, 16)) == sorted(CHECKS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_quick(path, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(fastnn.__file__).parents[1]))
    out = tmp_path / "new" / "folder"
    results = load(path).main(["--quick", "--out", str(out)])
    assert CHECKS[number(path)](results), results
    printed = capsys.readouterr().out
    assert printed.startswith(f"{number(path)}. ")
    assert [file.name for file in out.iterdir()] == [f"{path.stem}.png"]
    picture = (out / f"{path.stem}.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n") and 3_000 < len(picture) < PICTURE_LIMIT


@pytest.mark.parametrize("wanted", [1, 2, 3, 5, 9, 11, 15])
def test_numpy_gives_the_same(wanted, tmp_path, capsys, monkeypatch):
    need("cython")
    path = EXAMPLES[wanted - 1]
    results = {}
    for backend in ("cython", "numpy"):
        monkeypatch.setenv("FASTNN_BACKEND", backend)  # for the processes that an example starts
        with dispatch.use_backend(backend):
            results[backend] = load(path).main(["--quick", "--out", str(tmp_path)])
    for name, one in results["cython"].items():
        if name not in ("apart", "difference"):  # themselves of the size of rounding
            np.testing.assert_allclose(one, results["numpy"][name], rtol=2e-3, atol=2e-3)


def test_without_matplotlib(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert CHECKS[9](load(EXAMPLES[8]).main(["--quick", "--out", str(tmp_path / "out")]))
    assert "pip install 'fastnn[plot]'" in capsys.readouterr().out
    assert list((tmp_path / "out").iterdir()) == []


def test_the_readme_shows_every_example():
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES:
        assert path.name in text, path.name
    links = set(re.findall(r"\]\(([^)#:]+)\)", text))
    assert all((ROOT / "examples" / link).is_file() for link in links)
    pictures = {f"images/{path.name}" for path in (ROOT / "examples" / "images").iterdir()}
    assert pictures <= links
    for picture in pictures:
        assert (ROOT / "examples" / picture).stat().st_size < PICTURE_LIMIT
