"""15. Who is speaking? Sequences of different lengths.

Nine men say the vowels /ae/; an utterance is 7 to 29 steps of 12 cepstrum coefficients. A
bidirectional GRU reads it from both ends, and "both ends" must mean its own: what stands behind a
short utterance to fill the array is not read. Two ways to say so:

- `Masking` in front of a model: steps that are zero in all channels do not count;
- `lengths` of a layer's call. Both give the same.
"""

import numpy as np
from support import BLUE, GREEN, MUTED, ORANGE, compare, dress, picture, start

import fastnn
from fastnn import layers


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=60, quick_epochs=8)
    data = fastnn.datasets.japanese_vowels()
    print(f"data     {data.source}")
    x_train, x_test = scaled(data)

    model = fastnn.Sequential(
        [
            layers.Masking(),
            layers.Bidirectional(layers.GRU(64, dropout=0.3, recurrent_dropout=0.3)),
            layers.Dropout(0.5),
            layers.Dense(9, activation="softmax"),
        ]
    )
    model.compile(
        fastnn.optimizers.Adam(learning_rate=0.003),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x_train, data.y_train, batch_size=32, epochs=options.epochs, verbose=0)
    accuracy = model.evaluate(x_test, data.y_test, return_dict=True)["accuracy"]
    wrong = round((1 - accuracy) * len(x_test))
    print(f"test accuracy {accuracy:.2%}: {wrong} of {len(x_test)} utterances wrong")

    _, gru, dropout, dense = model.layers
    by_lengths = dense(dropout(gru(x_test, lengths=data.lengths_test)))
    apart = compare("by the mask and by lengths", model.predict(x_test, len(x_test)), by_lengths)
    counts = np.zeros((9, 9), int)
    np.add.at(counts, (data.y_test, by_lengths.argmax(axis=1)), 1)
    picture(options, draw, data, counts, size=(9.6, 4))
    return {"accuracy": accuracy, "apart": apart}


def scaled(data):
    """Channels with mean 0 and deviation 1 over the real steps of training; zeros past the end."""
    steps = np.arange(data.x_train.shape[1])
    real = steps < data.lengths_train[:, None]
    mean, deviation = data.x_train[real].mean(axis=0), data.x_train[real].std(axis=0)
    return [
        np.where((steps < lengths[:, None])[:, :, None], (x - mean) / deviation, 0)
        for x, lengths in (
            (data.x_train, data.lengths_train),
            (data.x_test, data.lengths_test),
        )
    ]


def draw(figure, data, counts):
    left, right = figure.subfigures(1, 2, width_ratios=(1.3, 1))
    for axes, (speaker, color) in zip(
        left.subplots(3, 1, sharex=True, sharey=True),
        ((0, BLUE), (3, ORANGE), (6, GREEN)),
        strict=True,
    ):
        for i in np.flatnonzero(data.y_test == speaker)[:6]:
            axes.plot(data.x_test[i, : data.lengths_test[i], 1], color=color, lw=1.3, alpha=0.8)
        dress(axes, data.class_names[speaker])
    axes.set_xlabel("step", size=9, color=MUTED)
    left.suptitle("second coefficient of six utterances each", size=10)
    axes = right.add_subplot()
    axes.imshow(np.log1p(counts), cmap="Blues")
    for truth, guess in zip(*np.nonzero(counts), strict=True):
        color = "white" if truth == guess else "#d1344b"
        axes.text(guess, truth, counts[truth, guess], ha="center", va="center", color=color)
    dress(axes, "370 test utterances", "taken for", "spoke")
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(9), range(1, 10))


if __name__ == "__main__":
    main()
