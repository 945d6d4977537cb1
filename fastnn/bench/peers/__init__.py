"""The other libraries, a module each, imported only in the worker that runs it.

A peer's module is written with the fastest form that a user of it would come to; where the fastest
depends on the shape, it offers variants, and the fastest is what counts.
"""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """Where a participant's module is, what it needs, and what it is called."""

    module: str
    packages: tuple[str, ...]  # as `import` calls them
    title: str
    install: str


PEERS: dict[str, Peer] = {
    "torch": Peer(
        "fastnn.bench.peers.torch",
        ("torch",),
        "PyTorch",
        "pip install torch==2.13.0",
    ),
    "jax": Peer("fastnn.bench.peers.jax", ("jax",), "JAX", "pip install jax"),
    "tensorflow": Peer(
        "fastnn.bench.peers.tensorflow",
        ("tensorflow", "keras"),
        "Keras on TensorFlow",
        "pip install tensorflow-cpu keras",
    ),
    "onnxruntime": Peer(
        "fastnn.bench.peers.onnxruntime",
        ("onnxruntime", "onnx"),
        "ONNX Runtime",
        "pip install onnxruntime onnx",
    ),
}

OURS = Peer("fastnn.bench.ours", ("numpy",), "fastnn", "")
