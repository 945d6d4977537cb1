"""The GPU benchmark without a GPU: its rows, and whole runs on the stand-in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import device, fake_cublas

from fastnn.bench import (
    gpu,
    gpu_compile,
    gpu_fit,
    gpu_jobs,
    gpu_kernels,
    gpu_results,
    gpu_rows,
    gpu_steps,
    gpu_timing,
    gpu_torch,
    gpu_verify,
)
from fastnn.cli import main
from fastnn.gradient_check import gradcheck
from fastnn.kernels.cuda import loader, rnn_report
from fastnn.kernels.cuda.rnn_choice import MODEL, choose
from fastnn.kernels.cuda.rnn_shapes import Work

emulated = pytest.mark.skipif(device.unavailable() is not None, reason=str(device.unavailable()))
H100 = rnn_report.CARDS["H100"]


@pytest.fixture
def cupy(monkeypatch):
    """CuPy or its stand-in, of which nothing is a measurement."""
    monkeypatch.setattr(gpu_timing, "_COPY_BYTES", 1 << 16)
    monkeypatch.setenv("CUPY_TF32", "0")
    with device.cupy() as module:
        yield module


# --------------------------------------------------------------------------- rows


def test_the_rows_are_those_of_the_plan():
    rows = gpu_rows.rows()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    recurrent = [row for row in rows if isinstance(row, gpu_rows.RecurrentRow)]
    assert len(recurrent) == 3 * 7 * 4 * 2 * 4
    assert names[0] == "lstm-H768-B16-T1024-float16"
    assert [row.T for row in recurrent] == [1024, *[256] * 336, *[1024] * 335]
    first = {(row.cell, row.H, row.precision) for row in recurrent[1:85]}
    assert len(first) == 3 * 7 * 4
    assert [r.name for r in gpu_rows.chosen(("gru-H64-B1-T256-tf",), rows)] == [
        "gru-H64-B1-T256-tf32"
    ]
    with pytest.raises(ValueError, match="no GPU row"):
        gpu_rows.chosen(("nothing",), rows)


def test_bytes_that_windows_move():
    row = gpu_rows.MemoryRow("max", (2, 6, 6, 4), 2, "float32")
    assert gpu_jobs.moved_bytes(row) == 2 * 36 * 4 * 4 + 2 * 9 * 4 * (4 + 1)
    row = gpu_rows.MemoryRow("im2col", (2, 3, 6, 5), 3, "float16")
    assert gpu_jobs.moved_bytes(row) == 2 * 3 * (30 + 4 * 3 * 9) * 2


def test_what_the_host_verifies_runs_the_kernel_that_is_timed():
    pytest.importorskip("ml_dtypes")
    for row in gpu_rows.rows():
        small = gpu_verify.small(row)
        assert gpu_compile.variants(small, H100) == gpu_compile.variants(row, H100)
        if isinstance(row, gpu_rows.RecurrentRow):
            assert small == row._replace(T=small.T) and small.T in (2, 4)


# --------------------------------------------------------------------------- runs


def run_smallest(target, *options):
    arguments = ["--time-per-row", "0.01", "--json", str(target), *options]
    return main(["bench", "gpu", "--rows", "smallest", *arguments])


@emulated
def test_a_run(cupy, tmp_path, capsys):
    target = tmp_path / "gpu.json"
    assert run_smallest(target, "--compile", "1") == 0
    document = json.loads(target.read_text())
    assert [row["name"] for row in document["rows"]] == [r.name for r in gpu_rows.smallest()]
    for row in document["rows"]:
        assert row["error_to_reference"] <= gpu_verify.TOLERANCE[row["precision"]]
        assert row["ms"]["fastnn"] > 0 and row["steps"] >= 1
        assert ("cost" in row) == (row["kind"] == "OptionRow")
    assert {"tf32", "copy_bandwidth", "device"} <= set(document["runs"][0])
    printed = capsys.readouterr().out
    assert "lstm-H6-B2-T3-float32" in printed and "compiled" in printed


@emulated
def test_a_run_goes_on_where_another_ended(cupy, tmp_path, capsys):
    target = tmp_path / "gpu.json"
    names = [row.name for row in gpu_rows.smallest()]
    assert run_smallest(target, "--limit", "1e-9", "--compile", "0") == 0
    assert json.loads(target.read_text())["rows"] == []
    assert "rows not run" in capsys.readouterr().out
    document = {
        "command": "gpu",
        "runs": [],
        "rows": [{"name": name, "ms": {"fastnn": 1.0}} for name in names[1:-1]],
        "running": names[0],
    }
    target.write_text(json.dumps(document))
    assert run_smallest(target, "--compile", "0") == 1  # one row has failed, in the run before
    rows = {row["name"]: row for row in json.loads(target.read_text())["rows"]}
    assert "did not end" in rows[names[0]]["error"]
    assert rows[names[1]] == {"name": names[1], "ms": {"fastnn": 1.0}}
    assert rows[names[-1]]["verified"] and "running" not in document["rows"]


@emulated
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ('{"command": "gpu-steps"}', "not of `bench gpu`"),
        ('{"command": "gpu", "rows": [], "runs": [{"device": "another"}]}', "is of another"),
    ],
)
def test_a_file_that_cannot_be_continued_is_refused(cupy, tmp_path, capsys, text, message):
    target = tmp_path / "gpu.json"
    target.write_text(text)
    assert run_smallest(target) == 2
    assert message in capsys.readouterr().err
    assert target.read_text() == text


def test_a_row_that_hangs_ends_the_process_and_is_remembered(tmp_path):
    target = tmp_path / "gpu.json"
    code = (
        "import sys, time, pathlib; from fastnn.bench.gpu_results import Results\n"
        "results = Results(pathlib.Path(sys.argv[1]), 'gpu', {'device': 'none'})\n"
        "with results.row('long', 0.1): time.sleep(20)"
    )
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True)
    assert done.returncode == 1 and "Timeout" in done.stderr
    assert json.loads(target.read_text())["running"] == "long"
    results = gpu_results.Results(target, "gpu", {"device": "none"})
    assert results.rows[0]["name"] == "long" and "did not end" in results.rows[0]["error"]


@emulated
def test_a_wrong_result_is_no_time(cupy, monkeypatch):
    right = gpu_jobs.job

    def wrong(row, copies):
        run = right(row, copies)
        is_ours = not isinstance(copies[0]["x"], np.ndarray)
        return (lambda k: tuple(a + 1 for a in run(k))) if is_ours else run

    monkeypatch.setattr(gpu_jobs, "job", wrong)
    result = {}
    with pytest.raises(ArithmeticError, match="differs from the reference"):
        gpu.measure(gpu_rows.smallest()[3], 0.01, result, {})
    assert "ms" not in result and "verified" not in result


@emulated
def test_what_is_compiled_ahead_is_all_that_a_row_needs(cupy):
    from fastnn.kernels.cuda import rnn_persistent

    card = rnn_persistent.card(0)
    for row in gpu_rows.smallest():
        failures = gpu_compile.compile_all(gpu_compile.variants(row, card), 1)
        compiled = loader._module.cache_info().misses
        gpu.measure(row, 0.01, {}, {})
        assert not failures and loader._module.cache_info().misses == compiled, row.name
    bad = gpu_compile.Variant("pool", (("FNN_DTYPE", 3),))
    assert gpu_compile.compile_all([bad], 1)[0].startswith("pool: ")


@emulated
def test_differences_on_the_device(cupy, monkeypatch):
    monkeypatch.setattr(gpu_verify, "_CHUNK", 8)
    a, b = (cupy.asarray(np.arange(12.0).reshape(6, 2) + k) for k in (0.0, 0.0))
    assert gpu_verify.difference(a, b) == 0
    a[3, 1] += 5.5
    assert gpu_verify.difference(a, b) == pytest.approx(0.5)
    assert gpu_verify.difference(a.T, b.T) == pytest.approx(0.5)
    a[5, 0] = np.nan
    assert np.isnan(gpu_verify.difference(a, b))


# --------------------------------------------------------------------------- PyTorch's side

TORCH_ROWS = [
    gpu_rows.RecurrentRow("lstm", 6, 2, 3, "float32"),
    gpu_rows.RecurrentRow("gru", 5, 2, 3, "float32"),
    gpu_rows.RecurrentRow("simple_rnn", 5, 2, 3, "bfloat16"),
    *(row for row in gpu_rows.smallest() if row.name in ("conv-small-float32", "max-2x2-float32")),
    gpu_rows.MemoryRow("im2col", (2, 3, 6, 5), 3, "float32"),
    gpu_rows.MemoryRow("average", (2, 6, 6, 4), 2, "float32"),
]


@emulated
@pytest.mark.oracle
@pytest.mark.parametrize("row", TORCH_ROWS, ids=lambda row: row.name)
def test_pytorch_computes_the_same_on_the_same_memory(cupy, row):
    """On the stand-in PyTorch's tensors lie on the host, as does all memory."""
    pytest.importorskip("torch")
    if row.precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
    from fastnn import dispatch

    copies = [gpu_jobs.inputs(row, gpu_jobs.device_normal(gpu_jobs.dtype_of(row.precision)))]
    result = {}
    with dispatch.use_backend("cupy"):
        jobs = {"fastnn": gpu_jobs.job(row, copies)} | gpu_torch.jobs(row, copies)
        gpu_verify.against_peers(row, jobs, result)
        job = jobs.get("torch_nhwc", jobs["torch"])  # NCHW images are a copy
        before = gpu_torch.array(job(0)[0]).get()
        copies[0]["x"][...] = 0
        assert not np.array_equal(gpu_torch.array(job(0)[0]).get(), before)
    assert set(result["difference"]) == set(jobs) - {"fastnn"}
    assert max(result["difference"].values()) <= gpu_verify.TOLERANCE[row.precision]


# --------------------------------------------------------------------------- steps


@emulated
def test_steps_of_each_kernel(cupy, tmp_path, capsys):
    target = tmp_path / "steps.json"
    arguments = ["bench", "gpu-steps", "--rows", "smallest", "--json", str(target)]
    assert main([*arguments, "--compile", "0"]) == 0
    document = json.loads(target.read_text())
    assert [row["kernel"] for row in document["rows"]] == ["k0", "k1", "k2", "k3", "k3-loop"]
    for row in document["rows"]:
        assert row["error_to_reference"] <= gpu_verify.TOLERANCE["float32"]
        for name in ("forward", "backward"):
            assert row[name]["us"] > 0 and row[name]["plan"]["kernel"] == row["kernel"][:2]
    found = gpu_fit.samples(document)
    assert len(found) == 8
    for sample in found:
        assert sample.model_us(MODEL) == pytest.approx(sample.plan.step_us)
    assert "Model(" in capsys.readouterr().out
    assert main([*arguments, "--compile", "0"]) == 0
    assert json.loads(target.read_text())["rows"] == document["rows"]


def test_rows_of_steps():
    pytest.importorskip("ml_dtypes")
    names = [row.name for row in gpu_steps.rows()]
    assert len(set(names)) == len(names)
    assert gpu_steps.can_run(gpu_steps.chosen(("k1-lstm-H128-B16-T256-bf",))[0], H100)
    assert not gpu_steps.can_run(gpu_steps.chosen(("k0-lstm-H2048-B16-T256-fl",))[0], H100)
    with pytest.raises(ValueError, match="no row of gpu-steps"):
        gpu_steps.chosen(("nothing",))


def test_the_fit_finds_constants_that_explain_the_times():
    true = MODEL._replace(cluster_us=1.7, grid_us=0.8, launch_us=24.0, gigahertz=1.9, l2_bytes=30.0)
    found = []
    for H in (64, 256, 1024):
        for B in (1, 16, 256):
            for tensor in (False, True):
                work = Work(1, 4, H, B, 2 if tensor else 4, False, tensor)
                for kernel in ("k0", "k1", "k2", "k3"):
                    plan = choose(H100, work, kernel)
                    if plan.kernel == kernel:
                        sample = gpu_fit.Sample(H100, work, plan, 1.0)
                        found.append(sample._replace(us=sample.model_us(true)))
    fitted = gpu_fit.fit(found)
    assert gpu_fit.error(found, MODEL) > 0.3 > 0.05 > gpu_fit.error(found, fitted)
    assert max(gpu_fit.regret(found, fitted)) < 1.1 < max(gpu_fit.regret(found, MODEL))
    assert gpu_fit.fit(found, true) == true


# --------------------------------------------------------------------------- the first run's script

SCRIPT = Path(__file__).parent.parent / "bench" / "gpu_first_run.sh"


def first_run(*arguments, **environment):
    environment = {**os.environ, "PYTHON": sys.executable, **environment}
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_first_run_logs_each_part(tmp_path):
    cache = tmp_path / "cache"
    done = first_run("--out", tmp_path / "out", "info", CUPY_CACHE_DIR=str(cache))
    assert done.returncode == 0 and "exit code 0" in done.stdout, done.stdout + done.stderr
    log = (tmp_path / "out" / "info.log").read_text()
    assert "backends" in log and "== info, at most 60 s" in log
    assert (tmp_path / "out" / "kernel-cache.tgz").exists()
    late = first_run("--out", tmp_path / "out", "--total", 1, "info", CUPY_CACHE_DIR=str(cache))
    assert late.returncode == 1 and "no time left" in late.stdout


@pytest.mark.parametrize("wrong", ["nothing", "--nothing"])
def test_the_first_run_refuses_what_it_does_not_know(wrong):
    done = first_run(wrong)
    assert done.returncode == 2 and wrong in done.stderr


# --------------------------------------------------------------------------- the command


@pytest.mark.skipif(gpu.unavailable() is None, reason="there is a GPU")
@pytest.mark.parametrize("group", ["gpu", "gpu-steps"])
def test_without_a_gpu_the_reason_is_told(capsys, group):
    assert main(["bench", group]) == 2
    assert f"bench {group}: " in capsys.readouterr().err


def test_the_command_imports_no_gpu_package():
    code = "import sys, fastnn.cli.bench; print('cupy' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# --------------------------------------------------------------------------- every kernel once


@emulated
def test_every_kernel_runs_once(cupy, monkeypatch, capsys):
    """The text of the .cu files names them; half of the runs are left out here."""
    from fastnn.kernels.cuda import blas, rnn_graph

    launched = set()
    if hasattr(cupy, "settings"):
        launch = cupy.RawKernel.__call__

        def record(self, *args, **kwargs):
            launched.add(self.name)
            return launch(self, *args, **kwargs)

        monkeypatch.setattr(cupy.RawKernel, "__call__", record)
    monkeypatch.setattr(gpu_kernels, "TOLERANCE", {"float16": 2e-2})
    monkeypatch.setattr(gpu_kernels, "KERNELS", ("k1", "k3"))
    monkeypatch.setattr(rnn_graph, "CHUNK", 2)
    monkeypatch.setattr(rnn_graph, "_failures", {})
    if hasattr(cupy, "settings"):
        monkeypatch.setattr(blas, "_library", fake_cublas.Library)
    for own in (blas, rnn_graph):  # handles and graphs of this test alone
        monkeypatch.setattr(own, "_own", threading.local())
    assert gpu_kernels.main() == 0
    printed = capsys.readouterr().out
    assert "0 failed" in printed and "one by one" not in printed
    text = "".join(path.read_text() for path in loader.FOLDER.glob("*.cu"))
    text = re.sub(r"(?m)^#.*$|__\w+__ ?\([^)]*\)", "", text)  # bounds and clusters
    named = set(re.findall(r'extern "C" __global__ void\s+(\w+)\(', text))
    assert len(named) >= 40
    assert not launched or named == launched


@emulated
def test_a_wrong_kernel_is_told(cupy, monkeypatch, capsys):
    monkeypatch.setattr(gpu_kernels, "TOLERANCE", {"float32": 0.0})
    right = gpu_kernels._recurrent
    monkeypatch.setattr(gpu_kernels, "_recurrent", lambda rng: list(right(rng))[-1:])
    assert gpu_kernels.main(["k0"]) == 1
    assert "k0 float32 rnn simple_rnn, reverse" in capsys.readouterr().out


@emulated
def test_the_self_test_runs_on_a_device(cupy):
    from fastnn import dispatch

    rng = np.random.default_rng(0)
    with dispatch.use_backend("cupy"):
        inputs = (rng.standard_normal((5, 7)), rng.standard_normal((7, 3)))
        assert gradcheck("dense", *inputs, activation="tanh") < 1e-7
