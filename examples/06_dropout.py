"""6. Dropout in a deep recurrent network: of inputs, outputs and states.

TensorFlow 1 had a DropoutWrapper with three keep probabilities. Here they are

- input_keep_prob:   LSTM(..., dropout=rate)
- output_keep_prob:  LSTM(..., output_dropout=rate)
- state_keep_prob:   LSTM(..., recurrent_dropout=rate)

each with one mask a sequence: a unit that is dropped is dropped at all steps (Gal and Ghahramani
2016). Rates are the share that is dropped, not kept. Two layers of 100 units learn
digits from so few images that they could learn them by heart. At inference nothing is dropped.
"""

import numpy as np
from support import BLUE, GREEN, MUTED, ORANGE, RED, dress, load_images, picture, start

import fastnn
from fastnn import layers

KINDS = {
    "none": {},
    "inputs": {"inputs": 0.3},
    "outputs": {"outputs": 0.3},
    "states": {"states": 0.3},
    "all three": {"inputs": 0.3, "outputs": 0.3, "states": 0.3},
}


def build(inputs=0.0, outputs=0.0, states=0.0):
    rates = {"dropout": inputs, "output_dropout": outputs, "recurrent_dropout": states}
    return fastnn.Sequential(
        [
            layers.LSTM(100, return_sequences=True, **rates),
            layers.LSTM(100, **rates),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=60, quick_epochs=5)
    data = load_images("mnist", 300 if options.quick else None)
    few = slice(None, 300 if options.quick else 1000)
    curves, accuracies = {}, {}
    for kind, rates in KINDS.items():
        fastnn.set_random_seed(options.seed)
        model = build(**rates)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        curves[kind] = model.fit(
            data.x_train[few], data.y_train[few], batch_size=50, epochs=options.epochs, verbose=0,
            validation_data=(data.x_test[:1000], data.y_test[:1000]), validation_batch_size=500,
        ).history  # fmt: skip
        loss, accuracies[kind] = model.evaluate(data.x_test, data.y_test, batch_size=500)
        print(
            f"dropout of {kind}: training loss {curves[kind]['loss'][-1]:.3f}, test loss "
            f"{loss:.3f}, test accuracy {accuracies[kind]:.2%}"
        )
    twice = [model(data.x_test[:5]) for _ in range(2)]
    print(f"inference twice: {'the same' if np.array_equal(*twice) else 'not the same'}")
    noisy = [model(data.x_test[:5], training=True) for _ in range(2)]
    print(f"training twice: {'the same' if np.array_equal(*noisy) else 'not the same'}")
    picture(options, draw, curves, size=(9.6, 3.6))
    return accuracies


def draw(figure, curves):
    loss, accuracy = figure.subplots(1, 2)
    for (kind, curve), color in zip(curves.items(), (MUTED, BLUE, GREEN, ORANGE, RED), strict=True):
        epochs = np.arange(1, 1 + len(curve["loss"]))
        loss.plot(epochs, curve["val_loss"], color=color, label=kind, lw=1.6)
        accuracy.plot(epochs, curve["val_accuracy"], color=color, lw=1.6)
    dress(loss, "loss of 1,000 test images, by what is dropped", "epoch", legend=True)
    dress(accuracy, "accuracy on them", "epoch")
    top = max(max(curve["val_accuracy"]) for curve in curves.values())
    accuracy.set_ylim(top - 0.12, top + 0.01)


if __name__ == "__main__":
    main()
