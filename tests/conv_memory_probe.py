"""Run by test_conv_memory.py: what each row of `bench conv` needs beside its outputs.

Prints a line for each row, format and direction: name, bytes at most, bytes of the outputs. glibc
is told by the environment to give large blocks back, and fastnn keeps none, so no peak is hidden
by the call before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn.bench import inputs, rows


def memory(field: str) -> int:
    """Bytes of a line of the process's status."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


def peak(call: Callable[[], Any]) -> tuple[Any, int]:
    """The result, and how far memory rose above what was there before."""
    fastnn.empty_cache()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = memory("VmRSS")
    result = call()
    return result, memory("VmHWM") - before


def main() -> None:
    for row in rows.CONV:
        arrays = inputs.make(row)
        flat = len(row.size) == 1
        forward: Any = fastnn.conv1d_forward if flat else fastnn.conv2d_forward
        backward: Any = fastnn.conv1d_backward if flat else fastnn.conv2d_backward
        for data_format in ("channels_last", "channels_first"):
            x, dy = arrays["x"], arrays["dy"]
            if data_format == "channels_first":
                x, dy = (np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in (x, dy))
            options = {
                "strides": row.stride,
                "padding": (row.pad, row.pad) if flat else row.pad,
                "dilation": row.dilation,
                "groups": row.groups,
                "data_format": data_format,
            }
            warm = slice(0, 1)  # code, threads and small blocks
            backward(dy[warm], forward(x[warm], arrays["kernel"], arrays["bias"], **options)[1])
            (y, saved), most = peak(lambda: forward(x, arrays["kernel"], arrays["bias"], **options))  # noqa: B023
            print(f"{row.name}.{data_format}.forward", most, y.nbytes)
            grads, most = peak(lambda: backward(dy, saved))  # noqa: B023
            print(f"{row.name}.{data_format}.backward", most, sum(g.nbytes for g in grads))


if __name__ == "__main__":
    main()
