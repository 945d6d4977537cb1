"""11. A first network: two inputs, 3 and 2 sigmoid neurons, 2 outputs.

Each layer is a matrix product, a bias and an activation. And the softmax, which must not overflow.
"""

import numpy as np
from support import BLUE, INK, MUTED, ORANGE, compare, picture, start

import fastnn
from fastnn import layers

X = np.array([[1, 2]], "float32")
WEIGHTS = [
    np.array([[1, 3, 5], [2, 4, 6]], "float32"),
    np.array([[1, 2], [3, 4], [5, 6]], "float32"),
    np.array([[1, 2], [3, 4]], "float32"),
]


def main(argv=None):
    options = start(__file__, __doc__, argv)

    x, by_hand = X, [X]
    for number, W in enumerate(WEIGHTS, start=1):
        a = x @ W  # the biases are zero
        x = a if number == len(WEIGHTS) else 1 / (1 + np.exp(-a))  # the last one: identity
        print(f"layer {number}: {a[0]} becomes {x[0]}")
        by_hand.append(x)

    model = fastnn.Sequential(
        [
            layers.Input((2,)),
            layers.Dense(3, activation="sigmoid"),
            layers.Dense(2, activation="sigmoid"),
            layers.Dense(2),
        ]
    )
    for layer, W in zip(model.layers[1:], WEIGHTS, strict=True):
        layer.set_weights([W, np.zeros(W.shape[1])])
    y = model(X)
    model.summary()
    compare("the model and the lines above", y, by_hand[-1])

    scores = np.array([[1010, 1000, 990]], "float32")
    with np.errstate(over="ignore", invalid="ignore"):
        naive = np.exp(scores) / np.exp(scores).sum()
    probabilities, _ = fastnn.activation_forward(scores, "softmax")
    print(f"softmax of {scores[0]}: exp(x) / sum gives {naive[0]},")
    print(f"exp(x - max) / sum, as fastnn does it: {probabilities[0]}")

    picture(options, draw, by_hand, size=(7.2, 3.4))
    return {"y": y, "softmax": probabilities}


def draw(figure, values):
    """Neurons as circles with their values, weights as lines: the thicker the larger."""
    axes = figure.add_subplot()
    axes.axis("off")
    places = [[(2.5 * i, (v.shape[1] - 1) / 2 - j) for j in range(v.shape[1])]
              for i, v in enumerate(values)]  # fmt: skip
    for W, left, right in zip(WEIGHTS, places[:-1], places[1:], strict=True):
        for i, a in enumerate(left):
            for j, b in enumerate(right):
                axes.plot(*zip(a, b, strict=True), color=MUTED, lw=0.6 * W[i, j], alpha=0.5)
                x, y = (0.76 * p + 0.24 * q for p, q in zip(a, b, strict=True))
                axes.text(x, y, f"{W[i, j]:.0f}", size=9, color=INK, ha="center", va="center",
                          bbox={"fc": "white", "ec": "none", "pad": 0.8})  # fmt: skip
    for row, v in zip(places, values, strict=True):
        for (x, y), value in zip(row, v[0], strict=True):
            last = row is places[-1] or row is places[0]
            axes.plot(x, y, "o", ms=40, color="white", mec=ORANGE if last else BLUE, mew=2)
            axes.text(x, y, f"{value:.4g}", size=9, color=INK, ha="center", va="center")
    for row, name in zip(places, ("input", "sigmoid", "sigmoid", "identity"), strict=True):
        axes.text(row[0][0], 1.75, name, size=10, color=MUTED, ha="center")
    axes.set_xlim(-0.6, 8.1)
    axes.set_ylim(-1.6, 2)


if __name__ == "__main__":
    main()
