"""Both directions of a bidirectional layer at once: which stream, what waits for what."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import device as cuda_device

from fastnn import dispatch, layers

REASON = cuda_device.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


class Stream:
    """A stream that writes down what happens to it."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def record(self):
        self.log.append(f"record {self.name}")
        return self.name

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")

    def __enter__(self):
        self.log.append(f"enter {self.name}")

    def __exit__(self, *details):
        self.log.append(f"leave {self.name}")


@pytest.fixture
def log(monkeypatch):
    """What the two streams do."""
    with cuda_device.cupy() as cupy:
        from fastnn.kernels.cuda import streams

        entries = []
        monkeypatch.setattr(streams, "_side_stream", lambda device: Stream("side", entries))
        monkeypatch.setattr(
            streams.cupy.cuda, "get_current_stream", lambda: Stream("main", entries)
        )
        dispatch.load("test", "cupy")
        entries.append(cupy)
        yield entries


ONCE = [
    "record main",
    "side waits for main",
    "enter side",
    "leave side",
    "record side",
    "main waits for side",
]


def test_the_side_begins_at_the_fork_and_the_join_waits_for_it(log):
    from fastnn.kernels.cuda import streams

    cupy = log.pop()
    x = cupy.zeros(3)
    assert streams.sharing() == 1
    with dispatch.side_by_side(x) as side, side:
        assert streams.sharing() == 2
        with dispatch.side_by_side(x) as inner, inner:  # inside a fork: nothing
            pass
    assert log == ONCE and streams.sharing() == 1


def test_an_error_inside_joins_too(log):
    x = log.pop().zeros(3)
    with pytest.raises(KeyError), dispatch.side_by_side(x) as side, side:
        raise KeyError
    assert log == ONCE


def test_arrays_of_the_host_have_no_streams(log):
    del log[:]
    with dispatch.side_by_side(np.zeros(3)) as side, side:
        pass
    assert log == []


def test_a_bidirectional_layer_runs_its_directions_side_by_side(log):
    cupy = log.pop()
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    layer = layers.Bidirectional(layers.GRU(5, return_sequences=True))
    expected = layer(x, training=True)
    expected_dx = layer.backward(np.ones_like(expected))
    twin = layers.Bidirectional(layers.GRU(5, return_sequences=True))
    with dispatch.use_backend("cupy"):
        twin.build((2, 3, 4))
        twin.set_weights(layer.get_weights())
        del log[:]
        y = twin(cupy.asarray(x), training=True)
        assert log == ONCE
        dx = twin.backward(cupy.ones(y.shape, "float32"))
        assert log == 2 * ONCE
    np.testing.assert_allclose(cupy.asnumpy(y), expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(cupy.asnumpy(dx), expected_dx, rtol=0, atol=2e-5)
