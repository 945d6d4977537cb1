"""The command line as a user meets it: output, exit codes, one-line errors."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import need

import fastnn
from fastnn import cli, datasets, dispatch


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """What a command chooses does not outlive its test."""
    monkeypatch.setattr(dispatch, "_selected", dispatch._selected)


def run(*arguments, cwd, **environment):
    """``python -m fastnn`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastnn", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_info(capsys, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", "/some/where")
    assert cli.main(["info"]) == 0
    head, backends, packages, settings = capsys.readouterr().out.split("\n\n")
    assert head.startswith(f"fastnn {fastnn.__version__}\n")
    for name, reason in dispatch.status().items():
        words = f"not available: {reason}" if reason else "available"
        assert f"\n  {name:<8} {words}\n" in backends
    assert f"numpy          {np.__version__}" in packages
    assert "/some/where" in settings and str(datasets.cache_dir()) in settings


def test_info_in_a_process(tmp_path):
    done = run("info", cwd=tmp_path)
    assert done.returncode == 0 and "backends" in done.stdout and done.stderr == ""


def test_info_says_what_runs_on_the_cpu(capsys):
    need("cython")
    cli.main(["info"])
    out = capsys.readouterr().out
    assert "isa" in out and "threads" in out


def test_no_command_and_an_unknown_one(capsys):
    assert cli.main([]) == 2
    assert "selftest" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        cli.main(["train"])
    assert caught.value.code == 2
    assert "invalid choice: 'train'" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["FASTNN_ISA", "FASTNN_NUM_THREADS"])
def test_a_wrong_variable_is_told_in_one_line(tmp_path, variable):
    done = run("info", cwd=tmp_path, **{variable: "lots"})
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("fastnn info: [") and variable in line and "'lots'" in line


def test_an_unknown_backend_in_the_environment(tmp_path):
    done = run("info", cwd=tmp_path, FASTNN_BACKEND="cuda")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "[FASTNN_BACKEND] 'cuda'" in last and "numpy" in last


def unavailable() -> str:
    missing = [name for name, reason in dispatch.status().items() if reason]
    if not missing:
        pytest.skip("every backend is available here")
    return missing[0]


@pytest.mark.parametrize("command", ["selftest", "demo"])
def test_a_backend_that_is_not_available(command, capsys):
    name = unavailable()
    assert cli.main([command, "--backend", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fastnn {command}: ") and "not available" in err
    assert err.count("\n") == 1


def test_selftest(capsys, backend):
    assert cli.main(["selftest", "--backend", backend]) == 0
    out = capsys.readouterr().out
    for op in ("conv2d", "max_pool2d", "lstm", "gru", "simple_rnn", "dense", "embedding"):
        assert op in out
    assert "FAIL" not in out


def test_selftest_notices_a_wrong_gradient(capsys, monkeypatch):
    backend = dispatch.load("test", "numpy")
    right = backend.dense_backward

    def wrong(dy, saved, need_dx):
        grads = right(dy, saved, need_dx)
        return grads._replace(dkernel=grads.dkernel * 1.001)

    monkeypatch.setattr(backend, "dense_backward", wrong)
    assert cli.main(["selftest", "--backend", "numpy"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert failed and all("dense" in line or "failed" in line for line in failed)
