"""10. A convolutional network on MNIST and Fashion-MNIST, with three kinds of pooling.

30 filters of 5 x 5, ReLU, pooling 2 x 2, 100 ReLU units, 10 classes. The pooling takes of every
window its maximum, its mean, or in training a random cell, the likelier the larger it is (Zeiler
and Fergus 2013).
"""

import time

import numpy as np
from support import BLUE, GREEN, ORANGE, dress, load_images, picture, show_image, start

import fastnn
from fastnn import layers

POOLINGS = {
    "max": layers.MaxPooling2D,
    "average": layers.AveragePooling2D,
    "stochastic": layers.StochasticPooling2D,
}


def build(pooling):
    return fastnn.Sequential(
        [
            layers.Conv2D(30, 5, activation="relu"),
            POOLINGS[pooling](2),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=10, quick_epochs=2)
    results, curves = {}, {}
    for name in ("mnist", "fashion_mnist"):
        data = load_images(name, 1000 if options.quick else None)
        x_train, x_test = data.x_train[..., None], data.x_test[..., None]  # one channel
        for pooling in POOLINGS:
            fastnn.set_random_seed(options.seed)
            model = build(pooling)
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            begin = time.perf_counter()
            history = model.fit(
                x_train, data.y_train, batch_size=100, epochs=options.epochs, verbose=0,
                validation_data=(x_test, data.y_test), validation_batch_size=500,
            ).history  # fmt: skip
            seconds = time.perf_counter() - begin
            curve = history["val_accuracy"]
            after = [e for e in (5, options.epochs) if e <= options.epochs]
            words = ", ".join(f"{curve[e - 1]:.2%} after epoch {e}" for e in dict.fromkeys(after))
            print(f"{name}, {pooling} pooling: test accuracy {words};", end=" ")
            print(f"{seconds / options.epochs:.1f} s an epoch")
            results[f"{name} {pooling}"] = curve[-1]
            curves[name, pooling] = curve
            if pooling == "max":
                seen, network, names = x_test[:1], model, data.class_names
    picture(options, draw, curves, network, seen, names, size=(9.6, 7.2))
    return results


def draw(figure, curves, model, seen, names):
    """Curves above, then the filters, then what each filter makes of one image."""
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.3, 1, 1))
    colors = dict(zip(POOLINGS, (BLUE, ORANGE, GREEN), strict=True))
    titles = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
    for axes, name in zip(top.subplots(1, 2), titles, strict=True):
        for pooling, color in colors.items():
            curve = curves[name, pooling]
            axes.plot(range(1, len(curve) + 1), curve, "o-", color=color, label=pooling, ms=4)
        dress(axes, f"{titles[name]}: test accuracy", "epoch", legend=True)

    convolution, pool, *_ = model.layers
    filters = np.moveaxis(convolution.get_weights()[0][:, :, 0], -1, 0)
    maps = convolution(seen)
    small = pool(maps)
    middle.suptitle("the 30 filters (max pooling): red adds, blue takes away", size=10)
    limit = np.quantile(np.abs(filters), 0.99)
    for axes, image in zip(middle.subplots(3, 10).flat, filters, strict=True):
        show_image(axes, image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    guess = names[int(model(seen).argmax())]
    bottom.suptitle(f"an image, taken for: {guess}; 14 feature maps; the same pooled", size=10)
    grid = bottom.add_gridspec(2, 16)
    show_image(bottom.add_subplot(grid[:, :2]), seen[0, :, :, 0])
    for i in range(14):
        show_image(bottom.add_subplot(grid[0, 2 + i]), maps[0, :, :, i])
        show_image(bottom.add_subplot(grid[1, 2 + i]), small[0, :, :, i])


if __name__ == "__main__":
    main()
