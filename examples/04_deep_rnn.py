"""4. A deep recurrent network whose three layers all have a say.

Three layers of 100 ReLU units read a digit row by row, each the sequence that the one below it
makes. The final states of all three, side by side, go into Dense(10). A stack of layers cannot say
that; fastnn.Model joins layers to a graph.
"""

import numpy as np
from support import BLUE, GREEN, ORANGE, dress, load_images, picture, start

import fastnn
from fastnn import layers

UNITS = 100


def build(steps, features):
    inputs = layers.Input((steps, features))
    sequence, states = inputs, []
    for _ in range(3):
        rnn = layers.SimpleRNN(UNITS, activation="relu", return_sequences=True, return_state=True)
        sequence, state = rnn(sequence)
        states.append(state)
    joined = layers.Concatenate()(states)
    return fastnn.Model(inputs, layers.Dense(10, activation="softmax")(joined))


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=10, quick_epochs=3)
    data = load_images("mnist", 1000 if options.quick else None)
    model = build(*data.x_train.shape[1:])
    model.summary()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        data.x_train,
        data.y_train,
        batch_size=150,
        epochs=options.epochs,
        validation_data=(data.x_test, data.y_test),
        verbose=2,
    ).history
    accuracy = history["val_accuracy"][-1]
    print(f"test accuracy {accuracy:.2%}")

    shares = by_one_layer(model, data.x_test, data.y_test)
    for number, share in enumerate(shares, start=1):
        print(f"with the state of layer {number} alone: {share:.2%}")
    picture(options, draw, history, shares, size=(9.6, 3.2))
    return {"accuracy": accuracy, "loss": history["loss"], "shares": shares}


def by_one_layer(model, x, y):
    """Accuracy when Dense sees the final state of one layer, and zeros for the other two."""
    dense = model.layers[-1]
    kernel, bias = dense.get_weights()
    found = []
    for number in range(3):
        rows = np.zeros_like(kernel)
        rows[UNITS * number : UNITS * (number + 1)] = kernel[UNITS * number : UNITS * (number + 1)]
        dense.set_weights([rows, bias])
        found.append(float((model.predict(x, batch_size=500).argmax(axis=1) == y).mean()))
    dense.set_weights([kernel, bias])
    return found


def draw(figure, history, shares):
    curve, bars = figure.subplots(1, 2, width_ratios=(1.6, 1))
    epochs = np.arange(1, 1 + len(history["accuracy"]))
    curve.plot(epochs, history["accuracy"], "o-", color=BLUE, label="training")
    curve.plot(epochs, history["val_accuracy"], "o-", color=ORANGE, label="test")
    dress(curve, "accuracy", "epoch", legend=True)
    names = [f"layer {number}\nalone" for number in (1, 2, 3)] + ["all three"]
    heights = [*shares, history["val_accuracy"][-1]]
    drawn = bars.bar(names, heights, color=[GREEN] * 3 + [ORANGE], width=0.6)
    bars.bar_label(drawn, [f"{height:.1%}" for height in heights], size=9)
    dress(bars, "test accuracy by what Dense sees")
    bars.margins(y=0.15)


if __name__ == "__main__":
    main()
