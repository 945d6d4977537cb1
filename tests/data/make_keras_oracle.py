"""Make keras_oracle.npz: what Keras 3 (TensorFlow, CPU, float64) computes.

Run it where tensorflow-cpu and keras are installed, from anywhere:

    pip install tensorflow-cpu==2.21.0 && python tests/data/make_keras_oracle.py

Every layer case holds inputs ``x0..`` (and ``mask``, ``state0..``), weights ``w0..`` in the order
of ``get_weights``, outputs ``y0..``, a fixed random ``r0..`` of the shapes of the outputs, and
the gradients of ``sum(y * r)``: ``dx0..``, ``dw0..``, ``dstate0..``. Inputs and weights are exact
in float32, so the float64 results serve both dtypes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import tensorflow as tf
from frozen import save
from keras_cases import CASES
from keras_layers import convolution, dense, pooling
from keras_learning import losses, optimizers, training
from keras_recurrent import recurrent


def main() -> None:
    # In this order: all draw from one source, so each family's numbers depend on those before.
    for family in (recurrent, convolution, pooling, dense, losses, optimizers, training):
        family()
    path = Path(__file__).with_name("keras_oracle.npz")
    save(path, CASES, {"keras": keras.__version__, "tensorflow": tf.__version__})
    print(f"{path.name}: {len(CASES)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
