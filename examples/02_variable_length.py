"""2. Unrolled, as a sequence, and with lengths: three ways through the same network.

- static: one call a step, the state handed on by hand;
- dynamic: one call for the whole sequence;
- with `lengths`: the second sequence ends after its first step. Outputs past the end are zero, and
  the final state is the one at the end (what TensorFlow 1 called sequence_length).

Then a long sequence: the gates of every step, which the way back needs, can be kept or computed
again. That is how to train on sequences for which memory would be short; nothing is swapped.
"""

import numpy as np
from support import BLUE, ORANGE, compare, dress, picture, start

import fastnn
from fastnn import layers

X = np.array(
    [
        [[0, 1, 2], [9, 8, 7]],
        [[3, 4, 5], [0, 0, 0]],  # the second step is padding
        [[6, 7, 8], [6, 5, 4]],
        [[9, 0, 1], [3, 2, 1]],
    ],
    "float32",
)


def main(argv=None):
    options = start(__file__, __doc__, argv)
    rnn = layers.SimpleRNN(5, return_sequences=True, return_state=True)

    y, final = rnn(X)  # dynamic
    state, steps = np.zeros((4, 5), "float32"), []
    for t in range(2):  # static
        step, state = rnn(X[:, t : t + 1], initial_state=state)
        steps.append(step)
    apart = compare("unrolled and as a sequence", np.concatenate(steps, axis=1), y)

    y, final = rnn(X, lengths=[2, 1, 2, 2])
    print("outputs of the second sequence, of length 1:\n", y[1].round(3))
    print("its final state:\n", final[1].round(3))

    steps, batch = (200, 8) if options.quick else (5000, 16)
    bytes_kept, difference = long_sequence(options.seed, steps, batch, units=64)
    for keep, size in bytes_kept.items():
        print(f'LSTM(64), {steps} steps of {batch} rows, keep="{keep}": {size / 1e6:.1f} MB kept')
    print(f"largest relative difference of the gradients: {difference:.1e}")

    ragged, lengths = many_lengths(options.seed)
    picture(options, draw, ragged, lengths, bytes_kept, steps, size=(9.6, 3.4))
    return {"y": y, "final": final, "apart": apart, "difference": difference}


def long_sequence(seed, steps, batch, units):
    """How much an LSTM keeps for the way back, and whether its gradient depends on that."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, batch, 8)).astype("float32")  # operations are time first
    lstm = layers.LSTM(units)
    lstm.build((None, None, 8))
    weights = fastnn.RnnWeights(*lstm.get_weights())
    kept, gradients = {}, []
    for keep in ("gates", "states"):
        out, saved = fastnn.rnn_forward(x, weights, cell="lstm", keep=keep)
        arrays = (saved.y, saved.c, saved.gates)
        kept[keep] = sum(a.nbytes for a in arrays if a is not None)
        d_out = fastnn.RnnOutput(y=np.ones_like(out.y))
        gradients.append(fastnn.rnn_backward(d_out, saved).weights.kernel)
    one, other = gradients
    return kept, float(np.abs(one - other).max() / np.abs(one).max())


def many_lengths(seed):
    """Eight sequences of different lengths through a GRU, padded to the longest."""
    rng = np.random.default_rng(seed)
    lengths = np.array([24, 21, 17, 14, 11, 8, 5, 2])
    x = rng.normal(size=(8, 24, 3)).cumsum(axis=1)
    return layers.GRU(1, return_sequences=True)(x, lengths=lengths)[:, :, 0], lengths


def draw(figure, ragged, lengths, bytes_kept, steps):
    left, right = figure.subplots(1, 2, width_ratios=(2.4, 1))
    shown = left.imshow(ragged, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    left.plot(lengths - 1, range(len(lengths)), "o", ms=9, mfc="none", mec="black")
    dress(left, "output of eight sequences; circles: the final states", "step", "sequence")
    left.grid(False)
    figure.colorbar(shown, ax=left)
    names = {"gates": "gates and\nstates", "states": "states only"}
    for keep, color in (("gates", ORANGE), ("states", BLUE)):
        bar = right.bar(names[keep], bytes_kept[keep] / 1e6, color=color, width=0.6)
        right.bar_label(bar, fmt="%.1f MB", size=9)
    dress(right, f"kept of {steps:,} steps", "", "MB")
    right.margins(y=0.15)


if __name__ == "__main__":
    main()
