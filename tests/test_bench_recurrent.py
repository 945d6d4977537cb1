"""The benchmarks of recurrent layers against themselves: options, memory, and busy cores."""

from __future__ import annotations

import json
import os
import time

import pytest

from fastnn import cli
from fastnn.bench import busy, inputs, memory, options, ours, rows
from fastnn.bench.jobs import Unsupported
from fastnn.bench.process import WorkerError, usable_cores
from fastnn.kernels.cells import CELLS

TINY = rows.RnnRow("tiny", 5, 9, 3, (rows.RnnLayer("lstm", 4),))
WHOLE = rows.RnnRow("whole", 5, 9, 3, (rows.RnnLayer("gru", 4, bidirectional=True),))
NO_PEAK = pytest.mark.skipif(
    memory.unavailable() is not None, reason="the peak of memory cannot be reset here"
)


@pytest.mark.parametrize("cell", CELLS)
def test_every_option_has_a_job_that_is_right(cell, backend):
    row = TINY._replace(layers=(rows.RnnLayer(cell, 4),))
    jobs = options.jobs(row, inputs.make(row))
    assert next(iter(jobs)) == options.PLAIN and len(jobs) == 7
    for name, job in jobs.items():
        assert rows.TRAINING in job, name
        for work in job.values():
            work.call()
            assert work.checked()["y"].shape == (5, 9, 4)


def test_an_option_that_is_wrong_is_seen(monkeypatch):
    jobs = options.jobs(TINY, inputs.make(TINY))
    monkeypatch.setitem(options.compare.TOLERANCE, "float32", -1.0)
    with pytest.raises(ArithmeticError, match="differs from the numpy backend"):
        jobs["mask"][rows.TRAINING].checked()


def test_whole_rows_are_not_for_these():
    assert rows.is_one_layer(TINY) and not rows.is_one_layer(WHOLE)
    for make in (options.jobs, ours.steps):
        with pytest.raises(Unsupported, match="one direction"):
            make(WHOLE, inputs.make(WHOLE))


def test_lengths_are_measured_for_an_equal_number_of_steps():
    found = {
        cost.option: cost for cost in options.measure(TINY, 1, 0.02) if cost.mode == "training"
    }
    assert len(found) == 7 and found[options.PLAIN].ratio == (1, 1, 1)
    assert found["mask"].share == 1 and 0 < found[options.LENGTHS].share < 1


@NO_PEAK
def test_memory_of_a_step():
    row = TINY._replace(T=200, B=50, layers=(rows.RnnLayer("lstm", 60),))
    gates, states = memory.measure(row, 1, {})
    assert (gates.variant, states.variant) == ('keep="gates"', 'keep="states"')
    plane = 200 * 50 * 64 * 4
    if ours.running()["backend"] == "cython":
        assert gates.held == 5 * plane and states.held == plane
    assert gates.held >= 2.5 * states.held
    numbers = 200 * 50 * (60 + 3) + (3 + 60 + 1) * 240  # y, dx, and the weights' gradients
    assert gates.outputs == 4 * numbers
    slack, area = 1 << 18, 3 << 20  # pages, counted late; what is kept for the next call
    for one in (gates, states):
        assert -slack < one.resident - one.held < area
        if ours.running()["backend"] == "cython":
            assert -slack < one.peak - one.held < 3 * area


@NO_PEAK
def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "GROUPS", {**rows.GROUPS, "recurrent": (TINY, WHOLE)})
    for group, count in (("options", 12), ("memory", 2)):
        target = tmp_path / f"{group}.json"
        arguments = ["--threads", "1", "--time-per-row", "0.01", "--json", str(target)]
        assert cli.main(["bench", group, "--peers", "none", *arguments]) == 0
        document = json.loads(target.read_text())
        assert len(document["results"]) == count and document["settings"]["group"] == group
        assert document["settings"]["running"] == ours.running()
        assert "backend" in document["versions"]["fastnn"]
        assert "tiny" in capsys.readouterr().out
    assert cli.main(["bench", "options", "--rows", "whole"]) == 2
    assert "one direction" in capsys.readouterr().err


def test_busy_cores_work_only_when_told():
    clock = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0

    def used(process):
        with open(f"/proc/{process.pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13])) / clock

    if not os.path.exists("/proc/self/stat"):
        pytest.skip("no /proc here")
    with busy.BusyCores(usable_cores()[:1]) as cores:
        (process,) = cores._processes
        end = time.monotonic() + 20
        with cores.at_work():
            while used(process) < 0.1:  # as long as it takes on a busy machine
                assert time.monotonic() < end
                time.sleep(0.01)
        before = used(process)
        time.sleep(0.2)
        assert used(process) - before <= 2 / clock
    assert process.poll() is not None


def test_growth_beside_a_busy_core(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "GROUPS", {**rows.GROUPS, "recurrent": (TINY,)})
    target = tmp_path / "b.json"
    arguments = ["--peers", "none", "--threads", "1", "--time-per-row", "0.02", "--busy", "1"]
    files = ["--json", str(target), "--png", str(tmp_path / "b.png")]
    assert cli.main(["bench", "recurrent", *arguments, *files]) == 0
    assert "busy / alone" in capsys.readouterr().out
    document = json.loads(target.read_text())
    assert document["settings"]["busy"] == 1
    for result in document["results"]:
        assert result["ours"]["growth"]["median"] > 0


def test_a_process_that_fails_is_told(tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise WorkerError("died with code 3")
        yield

    monkeypatch.setattr(options, "measure", failing)
    target = str(tmp_path / "o.json")
    assert cli.main(["bench", "options", "--rows", "rnn_ts", "--json", target]) == 1
    assert "died with code 3" in capsys.readouterr().err
