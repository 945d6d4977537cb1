"""7. Truncated back-propagation through time, and why gradients vanish.

A long series is learned in windows of k steps: the state is carried over from one window to the
next, the gradient stops at the window's edge. By hand that is a layer with stateful=True, trained
window after window and reset when an epoch ends; fit(..., tbptt_steps=k) does the same.

How large must k be? The task: say what came 12 steps ago. The error can be traced back to the step
that matters only if a window holds it. And how far does a gradient reach at all?
"""

import time

import numpy as np
from support import BLUE, GREEN, ORANGE, compare, dress, picture, start

import fastnn
from fastnn import layers

DELAY = 12


def build(cell=layers.GRU, units=32, **options):
    model = fastnn.Sequential([cell(units, return_sequences=True, **options), layers.Dense(1)])
    model.build((None, None, 1))
    return model


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=40, quick_epochs=2)
    x, y = sunspots()
    k = 50
    by_hand, by_fit, full, covered = (build() for _ in range(4))
    for model in (by_fit, full, covered):
        model.set_weights(by_hand.get_weights())
    train_by_hand(by_hand, x, y, k)
    train(by_fit, x, y, epochs=2, tbptt_steps=k)
    one = compare(
        f"sunspots, weights after 2 epochs in windows of {k}: by hand, by fit",
        *(np.concatenate([w.ravel() for w in m.get_weights()]) for m in (by_hand, by_fit)),
    )
    train(full, x, y, epochs=1)
    train(covered, x, y, epochs=1, tbptt_steps=x.shape[1])
    other = compare(
        "weights after a step: full BPTT, and a window that covers the sequence",
        *(np.concatenate([w.ravel() for w in m.get_weights()]) for m in (full, covered)),
    )

    steps = 240
    x, y = echo(options.seed, 20, steps)
    sizes = (4, 16, 60) if options.quick else (1, 2, 4, 8, 12, 16, 24, 48, 120, 240)
    losses, seconds = {}, {}
    for k in sizes:
        fastnn.set_random_seed(options.seed)
        model = build()
        # As many updates for each: an epoch has steps / k of them.
        epochs = max(1, options.epochs * k // 4)
        train(model, x, y, epochs=epochs, tbptt_steps=k, rate=0.005)
        fresh_x, fresh_y = echo(options.seed + 1, 20, steps)
        losses[k] = float(model.evaluate(fresh_x, fresh_y))
        seconds[k] = 1000 * least_time(model, x, y, k) / (steps / k)
        print(f"echo, k = {k}: mean squared error {losses[k]:.3f}, {seconds[k]:.2f} ms an update")

    norms = {
        cell.__name__: gradient_by_lag(cell, options.seed)
        for cell in (layers.SimpleRNN, layers.LSTM, layers.GRU)
    }
    for name, norm in norms.items():
        print(f"{name}: the gradient 50 steps back is {norm[50] / norm[0]:.0e} of that of the last")
    picture(options, draw, losses, seconds, norms, size=(9.6, 3.6))
    return {"by hand": one, "covered": other, **{f"echo {k}": v for k, v in losses.items()}}


def sunspots():
    """Four rows of 750 months one after the other, [4, 750, 1]; the target is the next month."""
    data = fastnn.datasets.sunspots(window=1)
    series = np.concatenate([data.x_train[:, 0, 0], data.x_test[:, 0, 0]])[-3001:] / 100
    return series[:-1].reshape(4, 750, 1), series[1:].reshape(4, 750, 1)


def echo(seed, rows, steps):
    """White noise; the target is what came DELAY steps before."""
    x = np.random.default_rng(seed).uniform(-1, 1, (rows, steps, 1)).astype("float32")
    y = np.roll(x, DELAY, axis=1)
    y[:, :DELAY] = 0
    return x, y


def train(model, x, y, epochs, rate=0.001, **options):
    model.compile(fastnn.optimizers.Adam(learning_rate=rate), "mean_squared_error")
    model.fit(x, y, batch_size=len(x), epochs=epochs, shuffle=False, verbose=0, **options)


def least_time(model, x, y, k):
    """CPU seconds of an epoch in windows of k, the least of five."""
    times = []
    for _ in range(5):
        begin = time.process_time()
        train(model, x, y, epochs=1, tbptt_steps=k)
        times.append(time.process_time() - begin)
    return min(times)


def train_by_hand(model, x, y, k):
    """Two epochs: window after window, with the state that the last one left."""
    model.layers[0].stateful = True
    model.compile(fastnn.optimizers.Adam(learning_rate=0.001), "mean_squared_error")
    for _ in range(2):
        for begin in range(0, x.shape[1], k):
            model.train_on_batch(x[:, begin : begin + k], y[:, begin : begin + k])
        model.reset_states()


def gradient_by_lag(cell, seed, units=64, steps=100, rows=32):
    """Norm of the last output's gradient by the input, 0, 1, 2... steps before it."""
    fastnn.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    layer = cell(units)
    y = layer(rng.normal(size=(rows, steps, 8)), training=True)
    dx = layer.backward(rng.normal(size=y.shape).astype("float32"))
    return np.linalg.norm(dx, axis=2).mean(axis=0)[::-1]


def draw(figure, losses, seconds, norms):
    left, middle, right = figure.subplots(1, 3)
    k = list(losses)
    left.semilogx(k, list(losses.values()), "o-", color=BLUE)
    left.axvline(DELAY, color=ORANGE, ls="--", lw=1)
    left.text(DELAY * 1.1, max(losses.values()), "the delay", color=ORANGE, size=9, va="top")
    dress(left, "echo: error by window k", "k", "mean squared error")
    left.set_ylim(bottom=0)
    middle.loglog(k, list(seconds.values()), "o-", color=BLUE)
    dress(middle, "CPU time of an update", "k", "ms")
    ticks = [0.5, 1, 2, 5, 10]
    middle.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    middle.minorticks_off()
    for axes in (left, middle):
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
    for (name, norm), color in zip(norms.items(), (ORANGE, BLUE, GREEN), strict=True):
        right.semilogy(norm / norm[0], color=color, label=name)
    dress(right, "gradient's norm, untrained", "steps back", "relative", legend=True)


if __name__ == "__main__":
    main()
