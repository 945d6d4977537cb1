"""A convolution's launches stay within what a grid may be, however many groups there are."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import device

from fastnn.types import Window

REASON = device.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.mark.parametrize(("groups", "batch"), [(1, 64), (300, 64), (512, 256), (65535, 1)])
def test_the_gradient_of_the_kernel_of_many_groups(groups, batch, monkeypatch):
    channels = 2 * groups
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    shape = (batch, 128, 128, channels)
    launched = []
    with device.cupy():
        from fastnn.kernels.cuda import conv

        monkeypatch.setattr(
            conv, "load_kernel", lambda *names: lambda grid, *rest: launched.append(grid)
        )
        monkeypatch.setattr(conv.cupy, "empty", lambda *args: np.empty(1))  # memory is not touched
        monkeypatch.setattr(conv, "combine", lambda parts, result: None)
        steps = tuple(s // 4 for s in np.broadcast_to(np.float32(0), shape).strides)
        call = conv._Call(
            shape, steps, np.dtype("float32"), window, groups, channels, "channels_last"
        )
        conv._implicit_weights(
            call, None, None, np.broadcast_to(np.float32(0), (3, 3, 2, channels))
        )
        segments, each = conv._segments(call, 65535 // groups)
    assert segments * each >= call.pixels > (segments - 1) * each
    assert launched[0][2] == groups * segments <= 65535
