"""The CPU runtime: the choice of the ISA, the number of threads, and the one thread pool."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import threads
from fastnn.kernels.cpu import _runtime, cores

ROOT = str(Path(fastnn.__file__).parents[1])
TIMEOUT = 60


@pytest.fixture(autouse=True)
def _restored():
    isa, count = _runtime.isa(), _runtime.get_num_threads()
    yield
    _runtime._set_isa(isa)
    _runtime.set_num_threads(count)


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter where only these of our variables are set."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FASTNN_") and name != "OMP_NUM_THREADS"
    }
    environment["PYTHONPATH"] = os.pathsep.join([ROOT, environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", "from fastnn.kernels.cpu import _runtime as r\n" + code],
        env=environment | variables,
        cwd=os.sep,  # a source tree in the current folder would hide an installed package
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def printed(code: str, **variables: str) -> str:
    done = python(code, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --------------------------------------------------------------------------- the ISA


def test_the_best_isa_is_the_default():
    assert printed("print(r.isa())") == _runtime.isas()[-1]
    assert printed("print(r.isa())", FASTNN_ISA="") == _runtime.isas()[-1]


@pytest.mark.parametrize("isa", _runtime.isas())
def test_a_lower_isa_can_be_forced(isa):
    assert printed("print(r.isa())", FASTNN_ISA=isa.upper()) == isa
    _runtime._set_isa(isa)
    assert _runtime.isa() == isa


def test_isas_go_up_from_base():
    assert _runtime.isas() == _runtime.ISAS[: len(_runtime.isas())]
    assert _runtime.isas()[0] == "base"


def test_an_unknown_isa_is_an_error_at_import():
    done = python("", FASTNN_ISA="avx9")
    assert done.returncode != 0
    assert "[isa] FASTNN_ISA='avx9' given" in done.stderr
    assert ", ".join(_runtime.isas()) in done.stderr


def test_an_isa_that_the_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(_runtime, "isas", lambda: ("base", "avx2"))
    with pytest.raises(ValueError, match=r"\[isa\] 'avx512' given; .* one of base, avx2"):
        _runtime._set_isa("avx512")


# --------------------------------------------------------------------------- how many threads


def test_threads_from_the_environment():
    show = "print(r.get_num_threads())"
    assert printed(show) == str(_runtime.CORES)
    assert printed(show, FASTNN_NUM_THREADS="7") == "7"
    assert printed(show, FASTNN_NUM_THREADS="3", OMP_NUM_THREADS="1") == "3"
    assert printed(show, OMP_NUM_THREADS="1") == "1"
    assert printed(show, OMP_NUM_THREADS="1,4") == "1"
    assert printed(show, OMP_NUM_THREADS="100000") == str(_runtime.CORES)
    assert printed(show, OMP_NUM_THREADS="many") == str(_runtime.CORES)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1025"])
def test_a_wrong_number_of_threads_is_an_error_at_import(value):
    done = python("", FASTNN_NUM_THREADS=value)
    assert done.returncode != 0
    assert "[threads] FASTNN_NUM_THREADS=" in done.stderr
    assert "an integer from 1 to 1024 is needed" in done.stderr


@pytest.mark.parametrize("count", [0, -1, 1025, 2.0, "2", None, True])
def test_set_num_threads_refuses(count):
    with pytest.raises(ValueError, match=r"\[set_num_threads\] .* given; an integer from 1 to"):
        threads.set_num_threads(count)


def test_use_num_threads_restores():
    threads.set_num_threads(2)
    with pytest.raises(KeyError), threads.use_num_threads(4):
        assert threads.get_num_threads() == 4
        raise KeyError
    assert threads.get_num_threads() == 2


def test_threadpoolctl():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    threads.register_threadpoolctl()
    threads.register_threadpoolctl()
    threads.set_num_threads(4)
    found = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "fastnn"]
    assert [i["num_threads"] for i in found] == [4]
    with threadpoolctl.threadpool_limits(1):
        assert threads.get_num_threads() == 1
    assert threads.get_num_threads() == 4
    with threadpoolctl.threadpool_limits(3, user_api="fastnn"):
        assert threads.get_num_threads() == 3


# --------------------------------------------------------------------------- cores and quotas


def groups(root: Path, lines: str, files: dict[str, str]) -> Path:
    for name, text in ({"proc/self/cgroup": lines} | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_quota_of_cgroup_v2(tmp_path):
    files = {
        "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/a/cpu.max": "max 100000\n",
    }
    assert cores.cpu_quota(groups(tmp_path, "0::/a/b\n", files)) == 1.5


def test_quota_of_a_group_above(tmp_path):
    files = {
        "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
        "sys/fs/cgroup/a/cpu.max": "50000 100000",
    }
    assert cores.cpu_quota(groups(tmp_path, "0::/a/b\n", files)) == 0.5


@pytest.mark.parametrize("path", ["/", "/on/the/host"])
def test_quota_of_cgroup_v1_in_a_container(tmp_path, path):
    folder = "sys/fs/cgroup/cpu,cpuacct/"
    files = {folder + "cpu.cfs_quota_us": "200000\n", folder + "cpu.cfs_period_us": "100000\n"}
    lines = f"4:memory:{path}\n3:cpu,cpuacct:{path}\n0::/\n"
    assert cores.cpu_quota(groups(tmp_path, lines, files)) == 2.0


def test_no_quota(tmp_path):
    assert cores.cpu_quota(tmp_path) == np.inf
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu.max": "what\n"}
    assert cores.cpu_quota(groups(tmp_path, "1:cpu:/\n0::/\n", files)) == np.inf


def test_the_quota_is_rounded_up(monkeypatch):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for quota, expected in [(0.1, 1), (1.5, 2), (3.0, 3), (1000.0, 64), (np.inf, 64)]:
        monkeypatch.setattr(cores, "cpu_quota", lambda quota=quota: quota)
        assert cores.available_cores() == expected


# --------------------------------------------------------------------------- run, team, barrier


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 1000])
def test_run_does_each_task_once(tasks, count):
    _runtime.set_num_threads(count)
    for threads_asked in (0, 1, count, 100):
        assert _runtime._selftest_run(tasks, threads_asked) == b"\x01" * tasks


@pytest.mark.parametrize("count", [1, 2, 4])
def test_barriers_keep_a_team_together(count):
    _runtime.set_num_threads(count)
    for _ in range(5):
        size, errors = _runtime._selftest_team(0, 200)
        assert 1 <= size <= count
        assert errors == 0


def test_a_team_has_the_size_asked_for():
    # A team may be smaller while a neighbour takes our cores, but never with more than there are.
    count = _runtime.CORES + 2
    _runtime.set_num_threads(count)
    assert _runtime._selftest_team(0, 10)[0] == count
    assert _runtime._selftest_team(1, 10)[0] == 1
    assert _runtime._selftest_team(10 * count, 10)[0] == count


def test_many_python_threads_at_once():
    _runtime.set_num_threads(3)
    failures: list[object] = []

    def work() -> None:
        for tasks in range(1, 200):
            if _runtime._selftest_run(tasks) != b"\x01" * tasks:
                failures.append(tasks)
            if _runtime._selftest_team(0, 3)[1]:
                failures.append("team")

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(TIMEOUT)
        assert not worker.is_alive()
    assert failures == []


def test_the_number_of_threads_may_change_between_calls():
    for count in [4, 1, 8, 2, 4, 3] * 10:
        _runtime.set_num_threads(count)
        assert _runtime._selftest_run(50) == b"\x01" * 50
        assert _runtime._selftest_team(0, 3)[1] == 0


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one CPU"
)
def test_a_worker_leaves_the_cpu_of_its_caller():
    code = """
import os, time
from pathlib import Path

def cpu_of(thread):
    return int(Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[36])

here, there = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, {here})
r.set_num_threads(2)
r._selftest_run(100)
[worker] = [t for t in os.listdir("/proc/self/task") if t != str(os.getpid())]
for _ in range(5):
    r._selftest_run(1000)  # it may be nowhere else
kept = os.sched_getaffinity(int(worker)) == {here}
os.sched_setaffinity(int(worker), {here, there})
end = time.monotonic() + 10
while cpu_of(worker) != there and time.monotonic() < end:
    r._selftest_run(1000)
time.sleep(0.1)  # it may be on its way
print(kept, cpu_of(worker) == there, os.sched_getaffinity(int(worker)) == {here, there})
"""
    assert printed(code, OPENBLAS_NUM_THREADS="1") == "True True True"


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one CPU"
)
def test_workers_are_kept_from_the_cpu_of_their_caller():
    code = """
import os

cpus = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, set(cpus))
r.set_num_threads(2)
r._selftest_run(100)
[worker] = [int(t) for t in os.listdir("/proc/self/task") if t != str(os.getpid())]
for here in cpus * 2:
    os.sched_setaffinity(0, {here})
    r._selftest_run(100)
    print(os.sched_getaffinity(worker) == set(cpus) - {here})
os.sched_setaffinity(0, set(cpus))
r.set_num_threads(2 * os.cpu_count())  # more than CPUs: none to be kept from
r._selftest_run(100)
print(os.sched_getaffinity(worker) == set(cpus))
"""
    assert printed(code, OPENBLAS_NUM_THREADS="1").split() == ["True"] * 5


def test_idle_workers_sleep():
    _runtime.set_num_threads(4)
    _runtime._selftest_run(100)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


@pytest.mark.parametrize("count", [1, 2, 4])
def test_denormals_are_flushed_inside_and_kept_outside(count):
    _runtime.set_num_threads(count)
    smallest = [np.full(64, np.finfo(dtype).tiny, dtype) for dtype in (np.float32, np.float64)]
    assert all(np.all(x / 2 > 0) for x in smallest)
    for _ in range(20):
        assert _runtime._selftest_denormals(64) == b"\x01" * 64
        assert all(np.all(x / 2 > 0) for x in smallest)


# --------------------------------------------------------------------------- fork and exit


def use_the_pool() -> None:
    """For a process that has no other thread in a kernel: then the pool is to be had."""
    _runtime.set_num_threads(_runtime.CORES + 2)
    assert _runtime._selftest_run(500) == b"\x01" * 500
    assert _runtime._selftest_team(0, 50) == (_runtime.CORES + 2, 0)


def in_a_fork(action: Callable[[], None]) -> None:
    """Run ``action`` in a forked child; a child that hangs is killed and is a failure."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the forked child hangs")


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
ignore_fork_warning = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@needs_fork
@ignore_fork_warning
def test_fork_after_use():
    use_the_pool()
    in_a_fork(use_the_pool)
    in_a_fork(lambda: in_a_fork(use_the_pool))
    use_the_pool()


@needs_fork
@ignore_fork_warning
def test_fork_while_another_thread_computes():
    _runtime.set_num_threads(4)
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            _runtime._selftest_run(200)
            _runtime._selftest_team(0, 20)

    other = threading.Thread(target=compute)
    other.start()
    try:
        for _ in range(20):
            in_a_fork(use_the_pool)
    finally:
        stop.set()
        other.join(TIMEOUT)
    assert not other.is_alive()
    use_the_pool()


@needs_fork
@ignore_fork_warning
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method):
    use_the_pool()
    children = [multiprocessing.get_context(method).Process(target=use_the_pool) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(TIMEOUT)
        assert child.exitcode == 0


@pytest.mark.parametrize("daemon", [False, True], ids=["idle", "daemon thread computing"])
def test_the_interpreter_exits(daemon):
    code = """
import threading
r._selftest_run(100), r._selftest_team(0, 10)
def forever():
    while True:
        r._selftest_run(100), r._selftest_team(0, 10)
if DAEMON:
    threading.Thread(target=forever, daemon=True).start()
print("done")
"""
    assert printed(code.replace("DAEMON", str(daemon)), FASTNN_NUM_THREADS="4") == "done"
