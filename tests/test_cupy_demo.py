"""The demo on CuPy: the CPU's accuracy, for the same seed."""

from __future__ import annotations

import re

import pytest
from cuda_emulator import device

import fastnn
from fastnn import dispatch
from fastnn.cli import main

REASON = device.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def test_the_demo_learns_what_it_learns_on_the_cpu(tmp_path, capsys):
    found = {}
    chosen = dispatch._selected
    with device.cupy():
        for backend in ("numpy", "cupy"):
            try:
                arguments = ["--data", "digits", "--epochs", "1", "--batch-size", "300"]
                out = ["--out", str(tmp_path / backend)]
                assert main(["demo", "--backend", backend, *arguments, *out]) == 0
            finally:
                fastnn.set_backend(chosen)
            text = capsys.readouterr().out
            assert f"backend {backend}" in text
            accuracy = re.search(r"test accuracy ([\d.]+)%", text)
            assert accuracy is not None
            found[backend] = float(accuracy[1])
    # One image of those tested may lie on the edge between two digits.
    assert abs(found["cupy"] - found["numpy"]) <= 0.5
