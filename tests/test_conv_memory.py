"""What a convolution needs beside inputs and outputs is bounded, whatever its column matrix is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).parent / "conv_memory_probe.py"
MOST = 8 << 20
SLACK = 1 << 20  # the kernel counts pages late, and Python's own blocks


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="the peak of memory cannot be reset here",
)
def test_extra_memory_of_every_row_of_the_benchmark():
    environment = {
        **os.environ,
        "FASTNN_BACKEND": "cython",
        "FASTNN_NUM_THREADS": "2",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = subprocess.run(
        [sys.executable, str(PROBE)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 4 * 13
    over = {
        name: f"{(int(most) - int(outputs)) / 2**20:.1f} MB"
        for name, most, outputs in lines
        if int(most) > int(outputs) + MOST + SLACK
    }
    assert not over
    # what is measured is there: no call comes with less than its outputs
    assert all(int(most) >= 0.8 * int(outputs) for _, most, outputs in lines)
