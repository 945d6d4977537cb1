"""Which backend runs, and what is said when none can."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from importlib.machinery import ModuleSpec

import conftest
import numpy as np
import pytest

import fastnn
from fastnn import dispatch, use_backend
from fastnn.backends import MODULES


@pytest.fixture(autouse=True)
def restore():
    before = dispatch._selected
    yield
    dispatch.set_backend(before)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


X = np.ones((2, 3))


def used() -> str:
    return fastnn.activation_forward(X, "relu")[1].backend


def test_the_innermost_choice_counts(monkeypatch):
    monkeypatch.setattr(dispatch, "_selected", "auto")
    assert fastnn.get_backend() == "auto"
    fastnn.set_backend("numpy")
    assert fastnn.get_backend() == used() == "numpy"
    with use_backend("auto"):
        assert fastnn.get_backend() == "auto"
        with use_backend("numpy"):
            assert fastnn.get_backend() == used() == "numpy"
        assert fastnn.get_backend() == "auto"
    assert fastnn.get_backend() == "numpy"


def test_use_backend_ends_with_an_error():
    before = fastnn.get_backend()
    with pytest.raises(KeyError), use_backend("numpy"):
        raise KeyError
    assert fastnn.get_backend() == before


def test_use_backend_is_of_its_thread_and_set_backend_of_all():
    seen = []
    with use_backend("numpy"):
        fastnn.set_backend("cython")
        thread = threading.Thread(target=lambda: seen.append(fastnn.get_backend()))
        thread.start()
        thread.join()
        assert fastnn.get_backend() == "numpy"
    assert seen == ["cython"]


def test_auto_takes_the_first_that_is_available():
    available = [name for name, reason in dispatch.status().items() if reason is None]
    with use_backend("auto"):
        assert used() == available[0]
        assert type(fastnn.random_uniform(3, seed=1)) is np.ndarray


def test_backward_is_of_the_saved_backend_whatever_is_chosen():
    with use_backend("numpy"):
        y, saved = fastnn.activation_forward(X, "relu")
    with use_backend("cupy"):
        np.testing.assert_array_equal(fastnn.activation_backward(y, saved), X)


@pytest.mark.parametrize("choose", [fastnn.set_backend, lambda name: use_backend(name).__enter__()])
def test_an_unknown_name_is_refused_with_the_list(choose):
    with pytest.raises(
        ValueError,
        match=r"_backend\] 'torch' is not a backend; one of auto, cupy, cython, numba, n",
    ):
        choose("torch")


def test_an_unknown_name_in_the_environment_fails_at_import():
    result = run("import fastnn", FASTNN_BACKEND="torch")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == (
        "ValueError: [FASTNN_BACKEND] 'torch' is not a backend; "
        "one of auto, cupy, cython, numba, numpy is needed"
    )


@pytest.mark.parametrize(
    ("value", "expected"), [("numpy", "numpy"), ("cupy", "cupy"), ("", "auto")]
)
def test_the_environment_chooses(value, expected):
    result = run("import fastnn; print(fastnn.get_backend())", FASTNN_BACKEND=value)
    assert result.stdout.strip() == expected, result.stderr


@pytest.mark.parametrize("name", ["cupy", "numba"])
def test_a_gpu_backend_says_why_it_is_not_there(name):
    reason = dispatch.status()[name]
    if reason is None:
        pytest.skip(f"{name} can run here")
    assert "pip install 'fastnn[" in reason or "driver" in reason or "GPU" in reason
    with (
        pytest.raises(
            fastnn.BackendUnavailableError,
            match=rf"^\[activation_forward\] the backend '{name}' is not available: ",
        ),
        use_backend(name),
    ):
        used()


def test_a_missing_package_is_told_with_its_install_line(monkeypatch):
    from fastnn.backends import cuda_probe

    monkeypatch.setattr(cuda_probe, "find_spec", lambda package: None)
    monkeypatch.setattr(cuda_probe, "_has_driver", lambda: False)
    reasons = "; ".join(cuda_probe.missing("cupy"))
    assert "the package cupy is not installed: pip install 'fastnn[cuda12]'" in reasons
    assert "no NVIDIA driver" in reasons
    monkeypatch.setattr(cuda_probe, "find_spec", lambda package: "found")
    monkeypatch.setattr(cuda_probe, "_has_driver", lambda: True)
    assert cuda_probe.missing("cupy") == []


def test_a_backend_whose_module_is_broken_is_not_available(monkeypatch):
    monkeypatch.delitem(dispatch._loaded, "numba", raising=False)
    monkeypatch.setitem(MODULES, "numba", "fastnn.backends.no_such_module")
    reason = dispatch.status()["numba"]
    assert reason.startswith("its module cannot be imported: No module named")


def test_an_array_of_a_backend_that_cannot_run_gets_the_reason(monkeypatch):
    class ndarray:
        dtype, shape, ndim = np.dtype("f"), (2,), 1

    ndarray.__module__ = "cupy"
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    cupy.ndarray = ndarray
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with (
        use_backend("auto"),
        pytest.raises(
            fastnn.BackendUnavailableError,
            match=r"x is a cupy\..*ndarray, for the backend 'cupy', which is not available: ",
        ),
    ):
        fastnn.activation_forward(ndarray(), "relu")
    with (
        use_backend("numpy"),
        pytest.raises(
            TypeError, match=r"x is a cupy\..*ndarray; an array of the backend 'numpy' is needed"
        ),
    ):
        fastnn.activation_forward(ndarray(), "relu")
    with use_backend("auto"), pytest.raises(TypeError, match=r"kernel is a cupy\..*ndarray; an ar"):
        fastnn.dense_forward(X, ndarray())


def test_an_array_of_nobody_is_refused(backend):
    for nothing in ([1.0], "text", 1.0, None):
        with pytest.raises(TypeError, match=r"^\[activation_forward\] x is (a |None)"):
            fastnn.activation_forward(nothing, "relu")


def test_a_memory_map_is_an_array(backend, tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(4, 4))
    mapped[:] = -1
    y, _ = fastnn.activation_forward(mapped, "relu")
    assert type(y) is np.ndarray and not y.any()


def test_asarray(backend):
    assert type(fastnn.asarray([[1.0, 2.0]])) is np.ndarray
    assert fastnn.asarray(X) is X
    with use_backend("auto"):
        assert fastnn.asarray(X) is X
        assert fastnn.asarray([1.0]).shape == (1,)
    with use_backend("cupy"), pytest.raises(fastnn.BackendUnavailableError, match=r"^\[asarray\]"):
        fastnn.asarray(X)
    assert type(dispatch.asarray_like([1.0], X)) is np.ndarray


def test_two_threads_with_two_backends(rng):
    x = rng.standard_normal((8, 8))
    seen: dict[str, set[str]] = {}

    def work(name: str) -> None:
        with use_backend(name):
            seen[name] = {fastnn.activation_forward(x, "tanh")[1].backend for _ in range(200)}

    available = [name for name, reason in dispatch.status().items() if reason is None]
    threads = [threading.Thread(target=work, args=(name,)) for name in available]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: {name} for name in available}


def test_a_skip_of_a_required_backend_is_a_failure(monkeypatch):
    monkeypatch.setattr(dispatch, "status", lambda: {"cupy": "no such card"})
    monkeypatch.setenv("FASTNN_REQUIRE", "")
    with pytest.raises(pytest.skip.Exception, match="backend cupy: no such card"):
        conftest.need("cupy")
    monkeypatch.setenv("FASTNN_REQUIRE", "numpy, cupy")
    with pytest.raises(pytest.fail.Exception, match="backend cupy: no such card"):
        conftest.need("cupy")
    monkeypatch.setenv("FASTNN_REQUIRE", "tpu")
    with pytest.raises(pytest.UsageError, match="tpu"):
        conftest.need("cupy")


def test_arrays_of_a_recurrent_call_that_are_not_aligned_are_refused(backend):
    def packed(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=[("flag", "i1"), ("value", "f8")])["value"]

    def call(x, initial=None):
        weights = fastnn.RnnWeights(np.ones((2, 3)), np.ones((3, 3)))
        return fastnn.rnn_forward(x, weights, initial, cell="simple_rnn")

    for arrays in [(packed(4, 2, 2),), (np.ones((4, 2, 2)), packed(2, 3))]:
        with pytest.raises(ValueError, match="is not aligned in memory; an aligned array"):
            call(*arrays)
    _, saved = call(np.ones((4, 2, 2)))
    with pytest.raises(ValueError, match=r"d_output.y is not aligned in memory"):
        fastnn.rnn_backward(fastnn.RnnOutput(packed(4, 2, 3)), saved)
