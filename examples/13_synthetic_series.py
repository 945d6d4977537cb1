"""13. Forecast four years of daily values: trend, seasons and noise.

A window of 20 days goes in, the next day comes out. First the learning rate is swept from 1e-8
upwards, 100 epochs. Twice the rate with the lowest loss is taken, because it is then lowered to
zero along a cosine, over 400 epochs. At a constant rate the noise of the last steps decides how
good the result is.

The stacks see levels that training never showed them, because the trend goes on. The last model
predicts only how the next day differs from the mean of the window, which helps most.

No forecast can be better than the noise: its mean absolute value is 5 * sqrt(2 / pi) = 3.99.
"""

import numpy as np
from support import BLUE, GREEN, MUTED, ORANGE, RED, dress, picture, start

import fastnn
from fastnn import layers

SPLIT, WINDOW = 1000, 20


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=400, quick_epochs=10)
    _, series = fastnn.datasets.seasonal_series()
    x, y = fastnn.datasets.timeseries_windows(series, WINDOW)
    train, valid = slice(None, SPLIT - WINDOW), slice(SPLIT - WINDOW, None)

    def fit(build, rates, epochs):
        """Train a new model, epoch by epoch at these rates."""
        fastnn.set_random_seed(options.seed)
        model = build()
        model.compile(fastnn.optimizers.SGD(momentum=0.9), "huber", metrics=["mae"])
        schedule = fastnn.callbacks.LearningRateScheduler(lambda epoch, rate: rates[epoch])
        model.fit(x[train], y[train], batch_size=32, epochs=epochs, verbose=0, callbacks=[schedule])
        return model, np.array(model.history.history["loss"])

    naive = np.abs(x[valid][:, -1:] - y[valid]).mean()
    average = np.abs(x[valid][:, -3:].mean(axis=1, keepdims=True) - y[valid]).mean()
    errors = {"the day before": naive, "mean of 3 days": average}
    sweeps, forecasts = {}, {}
    for name, build in MODELS.items():
        if options.quick and name in ("2 x BiLSTM", "3 x BiLSTM"):
            continue
        epochs = 10 if options.quick else 100
        rates = LOWEST[name] * 10 ** (np.arange(epochs) * 5 / epochs)  # a factor of 100,000
        losses = fit(build, rates, epochs)[1]
        pick = 2 * rates[np.nanargmin(smooth(losses))]
        sweeps[name] = rates, losses, pick
        decay = 0.5 * (1 + np.cos(np.pi * np.arange(options.epochs) / options.epochs))
        model, _ = fit(build, pick * decay, options.epochs)
        forecasts[name] = model.predict(x[valid])[:, 0]
        errors[name] = np.abs(forecasts[name] - y[valid][:, 0]).mean()
        print(f"{name}: rate {pick:.1e}, validation MAE {errors[name]:.2f}")
    print(f"baselines: the day before {naive:.2f}, the mean of 3 days {average:.2f}")
    picture(options, draw, series, sweeps, forecasts, errors, size=(9.6, 6.4))
    return {name: float(error) for name, error in errors.items()}


def smooth(losses):
    """Mean of five neighbours: one lucky epoch is no reason."""
    padded = np.pad(losses, 2, mode="edge")
    return np.convolve(padded, np.full(5, 0.2), mode="valid")


# ------------------------------------------------------------------ the models


def stack(*recurrent):
    """[B, 20] -> [B, 20, 1] -> recurrent layers -> one number, times 100."""
    return fastnn.Sequential(
        [
            layers.Lambda(lambda x: np.expand_dims(x, axis=-1)),
            *recurrent,
            layers.Dense(1),
            layers.Lambda(lambda x: x * 100.0),
        ]
    )


def simple_rnn():
    return stack(layers.SimpleRNN(40, return_sequences=True), layers.SimpleRNN(40))


def bidirectional(number):
    return stack(
        *(
            layers.Bidirectional(layers.LSTM(32, return_sequences=i < number - 1))
            for i in range(number)
        )
    )


def gru():
    return stack(layers.GRU(32, return_sequences=True), layers.GRU(32))


def from_the_mean():
    """The mean of the window, plus what a GRU makes of the differences from it."""
    inputs = layers.Input((WINDOW,))
    level = layers.Lambda(lambda x: np.mean(x, axis=1, keepdims=True))(inputs)
    shape = layers.Lambda(lambda x: (x - np.mean(x, axis=1, keepdims=True))[:, :, None] / 20)
    step = layers.Dense(1)(layers.GRU(16)(shape(inputs)))
    return fastnn.Model(inputs, layers.Add()([level, layers.Lambda(lambda x: x * 20)(step)]))


MODELS = {
    "SimpleRNN": simple_rnn,
    "1 x BiLSTM": lambda: bidirectional(1),
    "2 x BiLSTM": lambda: bidirectional(2),
    "3 x BiLSTM": lambda: bidirectional(3),
    "GRU": gru,
    "from the mean": from_the_mean,
}
# Where the sweep begins; the last model's output is scaled by 20, not 100.
LOWEST = dict.fromkeys(MODELS, 1e-8) | {"from the mean": 1e-6}


def draw(figure, series, sweeps, forecasts, errors):
    top, bottom = figure.subfigures(2, 1)
    whole, sweep = top.subplots(1, 2, width_ratios=(1.5, 1))
    day = np.arange(len(series))
    whole.plot(day[:SPLIT], series[:SPLIT], color=MUTED, lw=0.8, label="training")
    whole.plot(day[SPLIT:], series[SPLIT:], color=BLUE, lw=0.8, label="validation")
    dress(whole, "the series", "day", legend=True)
    rates, losses, pick = sweeps["SimpleRNN"]
    sweep.loglog(rates, losses, color=ORANGE, lw=1.5)
    sweep.axvline(pick, color=RED, lw=1, ls="--")
    sweep.annotate(f" {pick:.1e}", (pick, losses.max() * 0.7), color=RED, size=9)
    dress(sweep, "SimpleRNN: loss in the sweep", "learning rate", "Huber loss")
    near, bars = bottom.subplots(1, 2, width_ratios=(1.5, 1))
    shown = slice(40, 160)
    near.plot(day[SPLIT:][shown], series[SPLIT:][shown], ".", color=MUTED, ms=4, label="values")
    for name, color in (("SimpleRNN", ORANGE), ("from the mean", GREEN)):
        near.plot(day[SPLIT:][shown], forecasts[name][shown], color=color, lw=1.5, label=name)
    dress(near, "forecasts, one day ahead", "day", legend=True)
    names = list(errors)
    drawn = bars.barh(names, list(errors.values()), color=[MUTED] * 2 + [BLUE] * len(forecasts))
    bars.bar_label(drawn, fmt=" %.2f", size=9)
    bars.axvline(3.99, color=RED, lw=1, ls="--")
    dress(bars, "validation MAE (red: the noise)")
    bars.invert_yaxis()
    bars.margins(x=0.15)


if __name__ == "__main__":
    main()
