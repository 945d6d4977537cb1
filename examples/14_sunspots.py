"""14. Sunspots: forecast next month from the last 60.

A causal convolution (no output sees a later input) smooths and detects, two LSTM layers remember,
Dense gives the number. Is it better than doing without a network? The baselines are last month, and
the mean of the last few.
"""

import numpy as np
from support import BLUE, GREEN, MUTED, ORANGE, dress, picture, start

import fastnn
from fastnn import layers

WINDOW, SCALE = 60, 100.0  # months; spots


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=30, quick_epochs=4)
    data = fastnn.datasets.sunspots(WINDOW)
    print(f"data     {data.source}")
    model = fastnn.Sequential(
        [
            layers.Conv1D(32, 5, padding="causal", activation="relu"),
            layers.LSTM(32, return_sequences=True),
            layers.LSTM(32),
            layers.Dense(1),
        ]
    )
    rates = 0.003 * 0.5 * (1 + np.cos(np.pi * np.arange(options.epochs) / options.epochs))
    model.compile("adam", "huber", metrics=["mae"])
    history = model.fit(
        data.x_train / SCALE,
        data.y_train / SCALE,
        batch_size=64,
        epochs=options.epochs,
        verbose=0,
        callbacks=[fastnn.callbacks.LearningRateScheduler(lambda epoch, rate: rates[epoch])],
        validation_data=(data.x_test / SCALE, data.y_test / SCALE),
    ).history
    truth = data.y_test[:, 0]
    forecast = SCALE * model.predict(data.x_test / SCALE)[:, 0]
    errors = {"last month": mae(data.x_test[:, -1, 0], truth)}
    for months in (3, 6, 12):
        errors[f"mean of {months} months"] = mae(data.x_test[:, -months:, 0].mean(axis=1), truth)
    errors["the network"] = mae(forecast, truth)
    for name, error in errors.items():
        print(f"{name}: mean absolute error {error:.2f} spots")
    picture(options, draw, data, forecast, errors, history, size=(9.6, 6))
    return errors


def mae(a, b):
    return float(np.abs(a - b).mean())


def draw(figure, data, forecast, errors, history):
    top, bottom = figure.subfigures(2, 1)
    whole = top.add_subplot()
    truth = data.y_test[:, 0]
    months = np.arange(len(truth)) / 12 + 2009 - len(truth) / 12  # the series ends in 2008
    whole.plot(months, truth, ".", color=MUTED, ms=3, label="monthly mean")
    whole.plot(months, forecast, color=BLUE, lw=1.2, label="forecast, a month ahead")
    dress(whole, "sunspots, the test years", "year", legend=True)
    near, curve, bars = bottom.subplots(1, 3, width_ratios=(1.3, 1, 1))
    part = slice(-180, -60)
    near.plot(months[part], truth[part], ".-", color=MUTED, lw=0.5, ms=3)
    near.plot(months[part], forecast[part], color=BLUE, lw=1.5)
    dress(near, "ten of them", "year")
    epochs = np.arange(1, 1 + len(history["loss"]))
    for key, color, label in (("loss", BLUE, "training"), ("val_loss", ORANGE, "test")):
        curve.plot(epochs, history[key], color=color, label=label)
    dress(curve, "Huber loss", "epoch", legend=True)
    drawn = bars.barh(list(errors), list(errors.values()), color=[MUTED] * 4 + [GREEN])
    bars.bar_label(drawn, fmt=" %.1f", size=9)
    dress(bars, "mean absolute error")
    bars.invert_yaxis()
    bars.margins(x=0.18)


if __name__ == "__main__":
    main()
