"""5. Predict and generate a time series.

The series is t sin(t) / 3 + 2 sin(5 t), t from 0 to 30 in steps of 0.1. A network of 100 ReLU units
sees 20 values and says, at every step, what the next one is. Its 100 outputs a step become one in
two ways that are equal:

- TimeDistributed(Dense(1)): the same small layer at every step (once OutputProjectionWrapper);
- stack, Dense, unstack: all steps of all samples as rows of one matrix, one product.

Then: save, load in a new process, predict, and let the network go on with its own
predictions from a seed (black in the picture).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from support import BLUE, GREEN, INK, MUTED, ORANGE, RED, compare, dress, picture, start

import fastnn
from fastnn import layers

STEP, STEPS, NEURONS, BATCH = 0.1, 20, 100, 50

IN_A_NEW_PROCESS = """
import sys, numpy as np, fastnn
model, instance, prediction = sys.argv[1:]
np.save(prediction, fastnn.load_model(model).predict(np.load(instance)))
"""


def series(t):
    return t * np.sin(t) / 3 + 2 * np.sin(5 * t)


def windows(rng, number):
    """Instances [N, 20, 1] from anywhere in 0..30, and the same one step later."""
    begin = rng.uniform(0, 30 - STEPS * STEP, (number, 1))
    values = series(begin + STEP * np.arange(STEPS + 1))[:, :, None].astype("float32")
    return values[:, :-1], values[:, 1:]


def main(argv=None):
    options = start(__file__, __doc__, argv)
    iterations = 60 if options.quick else 1500
    model = train_time_distributed(options.seed, iterations)
    rnn, dense = train_stacked(options.seed, iterations)

    t = 12.2 + STEP * np.arange(STEPS + 1)
    values = series(t)[None, :, None].astype("float32")
    instance, target = values[:, :-1], values[:, 1:]
    prediction = predict_in_a_new_process(model, instance)
    apart = compare(
        "predictions of the two networks", prediction, stacked(rnn, dense, instance, False)
    )
    error = float(np.mean((prediction - target) ** 2))
    print(f"mean squared error on this instance: {error:.4f}")

    length = 300
    seeds = {
        "from zeros": np.zeros(STEPS),
        "from the series itself": series(STEP * np.arange(STEPS)),
    }
    generated = {name: generate(model, seed, length) for name, seed in seeds.items()}
    picture(options, draw, t, values, prediction, generated, size=(9.6, 6))
    return {"prediction": prediction, "apart": apart, "error": error}


def train_time_distributed(seed, iterations):
    """With a model: fastnn keeps the books."""
    fastnn.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = fastnn.Sequential(
        [
            layers.SimpleRNN(NEURONS, activation="relu", return_sequences=True),
            layers.TimeDistributed(layers.Dense(1)),
        ]
    )
    model.compile(fastnn.optimizers.Adam(learning_rate=0.001), "mean_squared_error")
    for iteration in range(1, iterations + 1):
        loss = model.train_on_batch(*windows(rng, BATCH))
        if iteration % (iterations // 5) == 0:
            print(f"iteration {iteration}: mean squared error {loss:.4f}")
    return model


def stacked(rnn, dense, x, training=True):
    hidden = rnn(x, training)  # [B, T, 100]
    rows = dense(hidden.reshape(-1, NEURONS), training)  # [B * T, 1]
    return rows.reshape(*hidden.shape[:2], 1)


def train_stacked(seed, iterations):
    """By hand: forward, loss, backward, step."""
    fastnn.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    rnn = layers.SimpleRNN(NEURONS, activation="relu", return_sequences=True)
    dense = layers.Dense(1)
    optimizer = fastnn.optimizers.Adam(learning_rate=0.001)
    for _ in range(iterations):
        x, y = windows(rng, BATCH)
        _, saved = fastnn.loss_forward(y, stacked(rnn, dense, x), loss="mean_squared_error")
        d_rows = dense.backward(fastnn.loss_backward(saved).reshape(-1, 1))
        rnn.backward(d_rows.reshape(*x.shape[:2], NEURONS))
        optimizer.apply(rnn.gradients + dense.gradients, rnn.weights + dense.weights)
    return rnn, dense


def predict_in_a_new_process(model, instance):
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in ("model.safetensors", "x.npy", "y.npy")]
        model.save(paths[0])
        np.save(paths[1], instance)
        home = os.pathsep.join(path for path in sys.path if path)  # finds fastnn where we did
        command = [sys.executable, "-c", IN_A_NEW_PROCESS, *paths]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": home})
        return np.load(paths[2])


def generate(model, seed, length):
    """The seed, then the network's own predictions, each seen by the next."""
    values = list(seed)
    for _ in range(length):
        last = np.reshape(values[-STEPS:], (1, STEPS, 1)).astype("float32")
        values.append(float(model.predict_on_batch(last)[0, -1, 0]))
    return np.array(values)


def draw(figure, t, values, prediction, generated):
    top, bottom = figure.subfigures(2, 1)
    whole, one = top.subplots(1, 2, width_ratios=(1.6, 1))
    time = np.arange(0, 30, STEP)
    whole.plot(time, series(time), color=MUTED, lw=1.5)
    whole.plot(t[:-1], values[0, :-1, 0], color=RED, lw=3)
    dress(whole, "the series, and in red the test instance", "t")
    one.plot(t[:-1], values[0, :-1, 0], "o", color=RED, ms=4, label="instance")
    one.plot(t[1:], values[0, 1:, 0], "o", color=BLUE, ms=10, mfc="none", label="target")
    one.plot(t[1:], prediction[0, :, 0], "x", color=INK, ms=5, label="prediction")
    dress(one, "one step ahead", "t", legend=True)
    colors = (ORANGE, GREEN)
    for axes, color, (name, values) in zip(
        bottom.subplots(1, 2), colors, generated.items(), strict=True
    ):
        steps = np.arange(len(values))
        axes.plot(steps, values, color=color, lw=1.5)
        axes.plot(steps[:STEPS], values[:STEPS], color=INK, lw=3)
        dress(axes, f"300 steps generated {name}", "step")


if __name__ == "__main__":
    main()
