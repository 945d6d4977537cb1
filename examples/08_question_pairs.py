"""8. Do two questions ask the same?

Quora's pairs (question1, question2, is_duplicate), where the file is in
$FASTNN_DATA/question-pairs; otherwise pairs that are made up, and the program says so.

A pair is one sequence: the first question, a separator, the second, then zeros. Zeros are padding:
the embedding masks them, and they change nothing.
"""

import time

import numpy as np
from support import BLUE, GREEN, MUTED, ORANGE, compare, dress, picture, start

import fastnn
from fastnn import datasets, layers


def build(input_dim):
    return fastnn.Sequential(
        [
            layers.Embedding(input_dim, 64, mask_zero=True),
            layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(32)),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=12, quick_epochs=2)
    pairs = datasets.question_pairs(limit=400 if options.quick else None, seed=options.seed)
    print(f"data     {pairs.source}")
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(len(pairs.is_duplicate))
    train, test = np.split(order, [int(0.8 * len(order))])

    tokenizer = datasets.Tokenizer(oov_token="?")  # the vocabulary is that of the training pairs
    for questions in (pairs.question1, pairs.question2):
        tokenizer.fit_on_texts([questions[i] for i in train])
    x, input_dim = datasets.encode_pairs(tokenizer, pairs.question1, pairs.question2, maxlen=40)
    y = pairs.is_duplicate
    seen = {x[i].tobytes() for i in train}
    test = np.array([i for i in test if x[i].tobytes() not in seen])
    print(
        f"{input_dim - 2:,} words, up to {x.shape[1]} in a pair; {len(test):,} test pairs are new"
    )

    model = build(input_dim)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    begin = time.perf_counter()
    history = model.fit(
        x[train], y[train], batch_size=16, epochs=options.epochs, verbose=2,
        validation_data=(x[test], y[test]), validation_batch_size=100,
    ).history  # fmt: skip
    print(f"{(time.perf_counter() - begin) / options.epochs:.1f} s an epoch")
    accuracy = history["val_accuracy"][-1]
    usual = max(y[test].mean(), 1 - y[test].mean())
    print(f"test accuracy {accuracy:.2%}; always the same answer: {usual:.2%}")

    likely = model.predict(x[test])[:, 0]
    wider = np.pad(x[test], ((0, 0), (0, 25)))
    apart = compare("with 25 more zeros behind each", likely, model.predict(wider)[:, 0])
    shown = [
        (pairs.question1[i], pairs.question2[i], y[i], p)
        for i, p in zip(test[:5], likely[:5], strict=True)
    ]
    for first, second, same, p in shown:
        print(f"  {p:.2f} ({'same' if same else 'not the same'}): {first} / {second}")
    picture(options, draw, history, likely, y[test], size=(9.6, 3.2))
    return {"accuracy": accuracy, "loss": history["loss"], "apart": apart}


def draw(figure, history, likely, same):
    curve, bars = figure.subplots(1, 2)
    epochs = np.arange(1, 1 + len(history["loss"]))
    curve.plot(epochs, history["accuracy"], "o-", color=BLUE, label="training")
    curve.plot(epochs, history["val_accuracy"], "o-", color=ORANGE, label="test")
    dress(curve, "accuracy", "epoch", legend=True)
    edges = np.linspace(0, 1, 21)
    kinds = ((0, MUTED, "do not ask the same"), (1, GREEN, "ask the same"))
    bars.hist(
        [likely[same == kind] for kind, _, _ in kinds],
        edges,
        stacked=True,
        color=[color for _, color, _ in kinds],
        label=[label for _, _, label in kinds],
    )
    dress(bars, "what the network says of the test pairs", "probability", "pairs", legend=True)


if __name__ == "__main__":
    main()
