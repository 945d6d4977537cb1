"""The GPU benchmark without a GPU: its rows, and a whole run on the stand-in."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from cuda_emulator import device

from fastnn.bench import gpu, gpu_jobs, gpu_rows
from fastnn.cli import main


def test_the_rows_are_those_of_the_plan():
    rows = gpu_rows.rows()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    recurrent = [row for row in rows if isinstance(row, gpu_rows.RecurrentRow)]
    assert len(recurrent) == 3 * 7 * 4 * 2 * 4
    assert names[0] == "lstm-H768-B16-T1024-float16"
    assert [r.name for r in gpu_rows.chosen(("gru-H64-B1-T256-tf",), rows)] == [
        "gru-H64-B1-T256-tf32"
    ]
    with pytest.raises(ValueError, match="no GPU row"):
        gpu_rows.chosen(("nothing",), rows)


def test_bytes_that_pooling_moves():
    row = gpu_rows.MemoryRow("max", (2, 6, 6, 4), 2, "float32")
    assert gpu_jobs.moved_bytes(row) == 2 * 36 * 4 * 4 + 2 * 9 * 4 * (4 + 1)


@pytest.mark.skipif(device.unavailable() is not None, reason=str(device.unavailable()))
def test_a_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "_COPY_BYTES", 1 << 16)  # nothing of the stand-in's is a measurement
    with device.cupy():
        target = tmp_path / "gpu.json"
        arguments = ["--time-per-row", "0.01", "--json", str(target)]
        assert main(["bench", "gpu", "--rows", "smallest", *arguments]) == 0
    document = json.loads(target.read_text())
    assert [row["name"] for row in document["rows"]] == [r.name for r in gpu_rows.smallest()]
    for row in document["rows"]:
        assert row["error_to_reference"] <= gpu.TOLERANCE[row["precision"]]
        assert row["ms"]["fastnn"] > 0 and row["steps"] >= 5
    assert {"tf32", "copy_bandwidth", "driver", "device"} & set(document["environment"])
    assert "lstm-H6-B2-T3-float32" in capsys.readouterr().out


@pytest.mark.skipif(device.unavailable() is not None, reason=str(device.unavailable()))
def test_a_wrong_result_is_no_time(monkeypatch):
    right = gpu_jobs.job

    def wrong(row, copies):
        run = right(row, copies)
        is_ours = not isinstance(copies[0]["x"], np.ndarray)
        return (lambda k: tuple(a + 1 for a in run(k))) if is_ours else run

    monkeypatch.setattr(gpu_jobs, "job", wrong)
    with device.cupy():
        result = gpu.measure(gpu_rows.smallest()[3], 0.01)
    assert "ms" not in result and "differs from the reference" in result["error"]


@pytest.mark.skipif(gpu.unavailable() is None, reason="there is a GPU")
def test_without_a_gpu_the_reason_is_told(capsys):
    assert main(["bench", "gpu"]) == 2
    assert "bench gpu: " in capsys.readouterr().err


def test_the_command_imports_no_gpu_package():
    code = "import sys, fastnn.cli.bench; print('cupy' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
