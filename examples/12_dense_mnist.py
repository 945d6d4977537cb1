"""12. A dense network on MNIST, and a search for a better one.

784 pixels, 300 and 100 ReLU units, 10 classes; SGD with rate 0.01, batches of 50, 30 epochs, ended
early when the validation loss does not fall any more. Saved, restored, asked about 20 images.

Then scikit-learn searches: a grid over layers and units, and random draws of layers, units and
learning rate, on a few images and with three-fold cross-validation.
"""

import tempfile
from pathlib import Path

import numpy as np
from support import BLUE, GREEN, INK, ORANGE, RED, dress, load_images, picture, show_image, start

import fastnn
from fastnn import layers
from fastnn.metrics import in_top_k
from fastnn.optimizers import SGD


def build(n_outputs=10, hidden=(300, 100)):
    stack = [layers.Dense(units, activation="relu") for units in hidden]
    return fastnn.Sequential([*stack, layers.Dense(n_outputs, activation="softmax")])


def main(argv=None):
    options = start(__file__, __doc__, argv, epochs=30, quick_epochs=3)
    data = load_images("mnist", 1000 if options.quick else None)
    x_train, x_test = (x.reshape(len(x), -1) for x in (data.x_train, data.x_test))
    y_train, y_test = data.y_train, data.y_test

    model = build()
    model.compile(SGD(learning_rate=0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    early = fastnn.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    history = model.fit(
        x_train, y_train, batch_size=50, epochs=options.epochs, validation_split=0.1,
        callbacks=[early], verbose=2,
    ).history  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "dense.safetensors"))
        restored = fastnn.load_model(Path(folder, "dense.safetensors"))
    probabilities = restored.predict(x_test)
    same = np.array_equal(probabilities, model.predict(x_test))
    print(f"the restored model gives {'the same' if same else 'something else'}")
    found = {f"top {k}": float(in_top_k(y_test, probabilities, k).mean()) for k in (1, 2, 3)}
    for name, share in found.items():
        print(f"{name}: the right digit is among them for {share:.2%} of the test images")
    print("the first 20: said", *probabilities[:20].argmax(axis=1))
    print("              are ", *y_test[:20])

    some = slice(None, 300 if options.quick else 3000)
    searches = search(x_train[some], y_train[some], options)
    shown = data.x_test[:20], probabilities[:20].argmax(axis=1), y_test[:20]
    picture(options, draw, history, shown, searches, size=(9.6, 6.6))
    return found | {"loss": history["loss"]}


def search(x, y, options):
    """Grid and random search; None without scikit-learn."""
    try:
        from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

        from fastnn.sklearn import SequenceClassifier
    except ImportError as error:
        print(f"no search: {error}")
        return None

    def classifier():
        epochs = 3 if options.quick else 10
        return SequenceClassifier(
            build, optimizer=SGD(0.1), epochs=epochs, batch_size=50, random_state=options.seed
        )

    units = (30, 100) if options.quick else (30, 100, 300)
    depths = (1, 2) if options.quick else (1, 2, 3)
    shapes = [(n,) * depth for depth in depths for n in units]
    grid = GridSearchCV(classifier(), {"model__hidden": shapes}, cv=3).fit(x, y)
    rng = np.random.default_rng(options.seed)
    draws = 3 if options.quick else 15
    random = RandomizedSearchCV(
        classifier(),
        {
            "model__hidden": [
                tuple(int(n) for n in rng.integers(20, 300, rng.integers(1, 4))) for _ in range(50)
            ],
            "optimizer": [SGD(rate) for rate in 10 ** rng.uniform(-3, 0, 50)],
        },
        n_iter=draws,
        cv=3,
        random_state=options.seed,
    ).fit(x, y)
    for name, result in (("grid", grid), ("random", random)):
        best = result.best_estimator_
        print(
            f"{name} search: {len(result.cv_results_['params'])} tried, best units "
            f"{best.model_options['hidden']} at rate {best.optimizer.learning_rate:.2g}, "
            f"accuracy {result.best_score_:.2%}"
        )
    table = grid.cv_results_["mean_test_score"].reshape(len(depths), len(units))
    rates = [p["optimizer"].learning_rate for p in random.cv_results_["params"]]
    sizes = [len(p["model__hidden"]) for p in random.cv_results_["params"]]
    return (units, depths, table), (rates, sizes, random.cv_results_["mean_test_score"])


def draw(figure, history, shown, searches):
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    curve, digits = top.subfigures(1, 2)
    axes = curve.add_subplot()
    epochs = np.arange(1, 1 + len(history["loss"]))
    axes.plot(epochs, history["loss"], color=BLUE, label="training")
    axes.plot(epochs, history["val_loss"], color=ORANGE, label="validation")
    dress(axes, "loss", "epoch", legend=True)
    for axes, image, said, truth in zip(
        digits.subplots(4, 5).flat, *(list(one) for one in shown), strict=True
    ):
        show_image(axes, image)
        right = said == truth
        text = f"{said}" if right else f"{said}, is {truth}"
        axes.set_title(text, size=9, color=INK if right else RED, pad=2)
    if searches is None:
        return
    (units, depths, table), (rates, sizes, scores) = searches
    grid, random = bottom.subplots(1, 2)
    grid.imshow(table, cmap="Greens", aspect="auto")
    for i in range(len(depths)):
        for j in range(len(units)):
            light = table[i, j] > (table.min() + table.max()) / 2
            color = "white" if light else INK
            grid.text(j, i, f"{table[i, j]:.1%}", ha="center", va="center", color=color)
    dress(grid, "grid search: accuracy", "units a layer", "layers")
    grid.grid(False)
    grid.set_xticks(range(len(units)), units)
    grid.set_yticks(range(len(depths)), depths)
    for depth, color in zip((1, 2, 3), (BLUE, ORANGE, GREEN), strict=True):
        points = [(r, s) for r, n, s in zip(rates, sizes, scores, strict=True) if n == depth]
        if points:
            label = f"{depth} layer{'s' * (depth > 1)}"
            random.semilogx(*zip(*points, strict=True), "o", color=color, label=label)
    dress(random, "random search: accuracy", "learning rate", legend=True)


if __name__ == "__main__":
    main()
