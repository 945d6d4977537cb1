"""3. A recurrent network reads digits row by row.

An image of 28 x 28 pixels is a sequence of 28 steps with 28 inputs. 150 tanh units read it from top
to bottom; their last state decides. Adam with rate 0.001, batches of 150.

The picture shows what the network thinks after each row that it has read.
"""

import time

import numpy as np
from support import BLUE, GREEN, ORANGE, dress, load_images, picture, show_image, start

import fastnn
from fastnn import layers

NEURONS = 150


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=6, quick_epochs=3)
    data = load_images("mnist", 1000 if options.quick else None)
    model = fastnn.Sequential([layers.SimpleRNN(NEURONS), layers.Dense(10, activation="softmax")])
    model.compile(
        optimizer=fastnn.optimizers.Adam(learning_rate=0.001),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    begin = time.perf_counter()
    history = model.fit(
        data.x_train,
        data.y_train,
        batch_size=150,
        epochs=options.epochs,
        validation_data=(data.x_test, data.y_test),
        verbose=2,
    ).history
    seconds = time.perf_counter() - begin
    accuracy = history["val_accuracy"][-1]
    print(f"validation accuracy {accuracy:.2%}, {seconds:.1f} s")

    thoughts = think_aloud(model, data.x_test[:1])
    picture(options, draw, history, data.x_test[0], thoughts, size=(9.6, 3.4))
    return {"accuracy": accuracy, "loss": history["loss"], "thoughts": thoughts}


def think_aloud(model, image):
    """Class probabilities after 1, 2, ... rows: the same weights, asked at every step."""
    rnn, dense = model.layers
    every_step = layers.SimpleRNN(NEURONS, return_sequences=True)
    every_step.build((None, None, image.shape[2]))
    every_step.set_weights(rnn.get_weights())
    return dense(every_step(image))[0]


def draw(figure, history, image, thoughts):
    curve, digit, mind = figure.subplots(1, 3, width_ratios=(1.6, 1, 1))
    epochs = np.arange(1, 1 + len(history["accuracy"]))
    curve.plot(epochs, history["accuracy"], "o-", color=BLUE, label="training")
    curve.plot(epochs, history["val_accuracy"], "o-", color=ORANGE, label="validation")
    dress(curve, "accuracy", "epoch", legend=True)
    show_image(digit, image, aspect="auto")
    dress(digit, "what it reads", "", "row")
    digit.grid(False)
    mind.imshow(thoughts, cmap="Greens", vmin=0, vmax=1, aspect="auto")
    dress(mind, "what it thinks so far", "digit", "after row")
    mind.grid(False)
    mind.set_xticks(range(10))
    mind.title.set_color(GREEN)


if __name__ == "__main__":
    main()
