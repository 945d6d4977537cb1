"""python -m fastnn examples: the list, the choice, and a run of programs of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn import cli, dispatch
from fastnn.cli import examples

PROGRAM = '''"""{number}. {title}

More words.
"""

import os, sys
import fastnn
from support import mark

print(mark, sys.argv[1:], os.environ.get("FASTNN_BACKEND"))
sys.exit({code})
'''


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Three programs and what they share; the last one fails."""
    place = tmp_path / "examples"
    place.mkdir()
    (place / "support.py").write_text("mark = 'shared'\n")
    for number, name, code in ((1, "one", 0), (2, "two_words", 0), (11, "bad", 3)):
        text = PROGRAM.format(number=number, title=f"Title of {name}", code=code)
        (place / f"{number:02}_{name}.py").write_text(text)
    monkeypatch.setattr(examples, "folder", lambda: place)
    monkeypatch.delenv("FASTNN_BACKEND", raising=False)
    monkeypatch.setattr(dispatch, "_selected", dispatch._selected)  # --backend sets it
    return place


def test_the_list(programs, capsys):
    assert cli.main(["examples"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "  1  one                    Title of one",
        "  2  two_words              Title of two_words",
        " 11  bad                    Title of bad",
    ]


def test_runs_are_processes_of_their_own(programs, capfd):
    options = ["--quick", "--seed", "4", "--out", str(programs / "out"), "--backend", "numpy"]
    assert cli.main(["examples", "two_words", "1", "01_one.py", *options]) == 0
    out = capfd.readouterr().out.splitlines()
    expected = f"shared ['--quick', '--out', '{programs / 'out'}', '--seed', '4'] numpy"
    assert [line for line in out if "shared" in line] == [expected] * 2
    assert [line for line in out if ".py" in line] == ["--- 02_two_words.py", "--- 01_one.py"]


def test_a_failure_is_told_and_the_rest_runs(programs, capfd):
    assert cli.main(["examples", "11", "1"]) == 1
    out, err = capfd.readouterr()
    assert out.count("shared") == 2
    assert "1 of 2 failed: 11_bad.py" in err


def test_all(programs, capfd):
    assert cli.main(["examples", "all"]) == 1
    assert capfd.readouterr().out.count("shared [] None") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["7"], "example '7'"),
        (["nothing"], "example 'nothing'"),
        (["--quick"], "options without an example"),
    ],
)
def test_wrong_usage(programs, capsys, words, message):
    assert cli.main(["examples", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "needed" in error


def test_no_programs_anywhere(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(examples.fastnn, "__file__", str(tmp_path / "fastnn" / "__init__.py"))
    assert cli.main(["examples"]) == 2
    assert "no example programs" in capsys.readouterr().err


def test_the_real_ones_are_found_from_anywhere():
    root = str(Path(fastnn.__file__).resolve().parents[1])
    result = subprocess.run(
        [sys.executable, "-m", "fastnn", "examples"],
        capture_output=True,
        text=True,
        cwd=os.sep,
        env=os.environ | {"PYTHONPATH": root},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    titles = [line for line in result.stdout.splitlines() if line[:3].strip().isdecimal()]
    assert len(titles) >= 3
    assert all(len(line.split(maxsplit=2)) == 3 for line in titles), "a program without a title"
