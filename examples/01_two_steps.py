"""1. Two time steps by hand: what a recurrent layer computes.

Five tanh neurons see three inputs at each of two steps:

    h0 = tanh(x0 W + b)
    h1 = tanh(x1 W + h0 U + b)

First with plain operations, then with fastnn.layers.SimpleRNN and the same weights.
"""

import numpy as np
from support import RED, compare, dress, picture, start

import fastnn
from fastnn import layers

X0 = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 0, 1]], "float32")  # four samples, step 0
X1 = np.array([[9, 8, 7], [0, 0, 0], [6, 5, 4], [3, 2, 1]], "float32")  # the same four, step 1
NEURONS = 5


def main(argv=None):
    options = start(__file__, __doc__, argv)
    rng = np.random.default_rng(options.seed)
    W = 0.3 * rng.normal(size=(3, NEURONS)).astype("float32")
    U = 0.3 * rng.normal(size=(NEURONS, NEURONS)).astype("float32")
    b = np.zeros(NEURONS, "float32")

    # NumPy alone.
    h0 = np.tanh(X0 @ W + b)
    h1 = np.tanh(X1 @ W + h0 @ U + b)

    # fastnn's own operations: x and h side by side, W above U, one product a step.
    WU = np.concatenate([W, U])
    before = np.zeros_like(h0)
    o0, _ = fastnn.dense_forward(np.concatenate([X0, before], 1), WU, b, activation="tanh")
    o1, _ = fastnn.dense_forward(np.concatenate([X1, o0], 1), WU, b, activation="tanh")

    # The layer wants samples first: [4 samples, 2 steps, 3 inputs].
    rnn = layers.SimpleRNN(NEURONS, return_sequences=True)
    rnn.build((None, 2, 3))
    rnn.set_weights([W, U, b])
    y = rnn(np.stack([X0, X1], axis=1))

    print("h after step 0:\n", h0.round(4))
    print("h after step 1:\n", h1.round(4))
    compare("SimpleRNN and dense_forward", y, np.stack([o0, o1], 1))
    compare("SimpleRNN and NumPy", y, np.stack([h0, h1], 1))
    picture(options, draw, y, size=(6.4, 2.6))
    return {"h": y}


def draw(figure, y):
    for step, axes in enumerate(figure.subplots(1, 2)):
        shown = axes.imshow(y[:, step], cmap="RdBu", vmin=-1, vmax=1)
        dress(axes, f"h after step {step}", "neuron", "sample")
        axes.grid(False)
        axes.set_yticks(range(4))
        # The second sample sees only zeros at step 1; what is left there is its memory.
        if step == 1:
            axes.axhspan(0.5, 1.5, fill=False, ec=RED, lw=2)
            axes.text(4.7, 1, "x1 = 0:\nmemory", size=9, color=RED, va="center")
    figure.colorbar(shown, ax=figure.axes, shrink=0.8)


if __name__ == "__main__":
    main()
