"""The Numba backend without a GPU: the tests of the operations, in Numba's simulator.

The simulator has to be chosen before Numba is imported, so pytest runs in a process of its own. It
takes milliseconds for what a GPU does in microseconds; the selection below is every operation,
option and direction on the small cases. All there is::

    NUMBA_ENABLE_CUDASIM=1 FASTNN_REQUIRE=numba pytest -k numba        # hours
    FASTNN_REQUIRE=numba pytest -k numba                               # on a GPU
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

if find_spec("numba") is None:
    pytest.skip("numba is not installed: pip install 'fastnn[test]'", allow_module_level=True)

# files -> which of their tests, and how many at least
QUICK = {
    "test_numba_arrays.py test_numba_models.py": ("test", 170),
    "test_noise.py": ("numba and not numpys", 10),
    "test_ops_dense.py test_ops_activation.py test_ops_embedding.py test_ops_loss.py": (
        "numba and not (many or sums or softmax_and_cross or labels_of_any) "
        "and not (float64 and (layouts or there or nothing or agrees or limits))",
        200,
    ),
    "test_ops_pool*.py": (
        "numba and not (geometry or 256 or frequencies or many) "
        "and not (float64 and (layouts or there or batch or agrees))",
        100,
    ),
    "test_ops_conv*.py": (
        "numba and not (many or geometry or central or direction or conv1d or primes) "
        "and not (float64 and (agrees or layouts)) and not (agrees and (tanh or relu))",
        80,
    ),
    "test_ops_rnn*.py": (
        "numba and ((contract and float32 and (everything or mask_row or bias or T1 or zoneout)) "
        "or (keep_changes and (everything or reverse_lengths)) or (central and all1) "
        "or nothing_is_read or rates_of or missing or (empty and gates) or expected_state "
        "or (different and float64 and everything and not cython))",
        80,
    ),
}


def simulated(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=HERE.parent,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_PERFORMANCE_WARNINGS": "1"}
        | environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )  # fmt: skip


def contract(name: str) -> subprocess.CompletedProcess[str]:
    files = [str(path) for pattern in name.split() for path in sorted(HERE.glob(pattern))]
    return simulated(
        *("-m", "pytest", "-p", "no:cacheprovider", "-k", QUICK[name][0], *files),
        FASTNN_REQUIRE="numba",
    )


@pytest.mark.parametrize("name", QUICK)
def test_the_contract_in_the_simulator(name):
    result, least = contract(name), QUICK[name][1]
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed and int(passed[1]) >= least, result.stdout[-500:]
    assert "failed" not in result.stdout


def test_info_names_the_simulator():
    result = simulated("-m", "fastnn", "info")
    assert result.returncode == 0, result.stderr
    assert re.search(r"numba +available\n +device: Numba's simulator", result.stdout), result.stdout
