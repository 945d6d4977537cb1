"""9. Convolution by hand, and as one matrix product (im2col).

The filter slides over the image; at each place the products of what lies on each other are summed.
im2col writes every patch that the filter sees as a row: then all the sums are one matrix product.

    output size = (input + 2 * padding - filter) // stride + 1
"""

import numpy as np
from support import BLUE, GREEN, INK, MUTED, ORANGE, picture, start

import fastnn
from fastnn import layers

IMAGE = np.array([[1, 2, 3, 0], [0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1]], "float32")
FILTER = np.array([[2, 0, 1], [0, 1, 2], [1, 0, 2]], "float32")
BIAS = 3


def main(argv=None):
    options = start(__file__, __doc__, argv)
    plain = by_hand(IMAGE, FILTER) + BIAS
    print("by hand, bias 3:\n", plain)
    padded = by_hand(np.pad(IMAGE, 1), FILTER)
    print("by hand, padded with one zero on each side, no bias:\n", padded)

    image, kernel = IMAGE[None, :, :, None], FILTER[:, :, None, None]  # [B, h, w, C], [3, 3, C, O]
    y, saved = fastnn.conv2d_forward(image, kernel, np.array([BIAS], "float32"))
    y_padded, _ = fastnn.conv2d_forward(image, kernel, padding=1)
    layer = layers.Conv2D(1, 3, padding="same")
    layer.build(image.shape)
    layer.set_weights([kernel, [0]])
    for name, ours, wanted in (
        ("conv2d_forward", y, plain),
        ("conv2d_forward, padding 1", y_padded, padded),
        ('Conv2D, padding "same"', layer(image), padded),
    ):
        print(f"{name}: {'the same' if np.array_equal(ours[0, :, :, 0], wanted) else 'not so'}")

    # The gradient of the sum of all outputs: each pixel gets what the filter gave it, everywhere.
    dx = fastnn.conv2d_backward(np.ones_like(y), saved).dx[0, :, :, 0]
    print("how much each pixel counts in the sum of the outputs:\n", dx)

    columns = fastnn.im2col(IMAGE[None, None], 3, 3)  # [B * oh * ow, C * fh * fw], channels first
    product = columns @ FILTER.reshape(-1) + BIAS
    print(f"im2col {columns.shape} @ filter (9,) + 3 = {product}")
    counts = fastnn.col2im(np.ones_like(columns), (1, 1, 4, 4), 3, 3)[0, 0]
    print("col2im, the way back, adds the patches up; so many hold each pixel:\n", counts)

    for size, pad, stride in ((4, 0, 1), (4, 1, 1), (28, 0, 1), (28, 2, 1), (28, 2, 2)):
        filter_size = 3 if size == 4 else 5
        formula = (size + 2 * pad - filter_size) // stride + 1
        made = fastnn.im2col(
            np.zeros((1, 1, size, size), "float32"), filter_size, filter_size, stride, pad
        )
        assert len(made) == formula**2
        print(f"input {size}, filter {filter_size}, padding {pad}, stride {stride}: {formula}")

    picture(options, draw, columns, product, size=(9.6, 4.2))
    return {"plain": y[0, :, :, 0], "padded": y_padded[0, :, :, 0], "columns": columns, "dx": dx}


def by_hand(image, kernel):
    """Every sum written out."""
    rows, columns = (i - k + 1 for i, k in zip(image.shape, kernel.shape, strict=True))
    y = np.zeros((rows, columns), "float32")
    for r in range(rows):
        for c in range(columns):
            patch = image[r : r + kernel.shape[0], c : c + kernel.shape[1]]
            y[r, c] = (patch * kernel).sum()
    return y


def draw(figure, columns, product):
    """Image -> patches as rows -> times the filter -> feature map."""
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.axis("off")
    colors = [BLUE, ORANGE, GREEN, "#8a5fd1"]  # one a patch
    table(axes, IMAGE, 0, 0.5, "image\n4 x 4")
    for place, color in enumerate(colors):  # where the four patches lie in the image
        r, c = divmod(place, 2)
        inset = 0.07 * (place + 1)
        outline(axes, c + inset, 0.5 + r + inset, 3 - 2 * inset, color)
    text(axes, 5.1, 2.5, "im2col", "→")
    table(axes, columns, 6.2, 0.5, "a row for each patch\n4 x 9", colors)
    text(axes, 15.9, 2.5, "", "\N{MULTIPLICATION SIGN}")
    table(axes, FILTER.reshape(-1, 1), 16.6, -2, "filter\n9 x 1")
    text(axes, 18.6, 2.5, "", "+ 3 =")
    table(axes, product[:, None], 19.8, 0.5, "sums\n4 x 1", colors)
    text(axes, 21.6, 2.5, "", "→")
    table(axes, product.reshape(2, 2), 22.5, 1.5, "feature map\n2 x 2", np.reshape(colors, (2, 2)))
    axes.set_xlim(-0.3, 24.8)
    axes.set_ylim(7.2, -3.4)


def table(axes, numbers, x, y, title, colors=None):
    """A matrix as a grid of numbers; ``colors`` one a row, or one a number."""
    rows, columns = numbers.shape
    for r in range(rows):
        for c in range(columns):
            color = INK if colors is None else colors[r]
            style = {"color": color if np.ndim(color) == 0 else color[c], "size": 11}
            number = f"{numbers[r, c]:.0f}"
            axes.text(x + c + 0.5, y + r + 0.5, number, ha="center", va="center", **style)
    for r in range(rows + 1):
        axes.plot([x, x + columns], [y + r, y + r], color=MUTED, lw=0.6)
    for c in range(columns + 1):
        axes.plot([x + c, x + c], [y, y + rows], color=MUTED, lw=0.6)
    axes.text(x + columns / 2, y - 0.25, title, ha="center", va="bottom", size=9, color=MUTED)


def outline(axes, x, y, size, color):
    axes.plot([x, x + size, x + size, x, x], [y, y, y + size, y + size, y], color=color, lw=2)


def text(axes, x, y, above, symbol):
    axes.text(x, y, symbol, ha="center", va="center", size=15, color=INK)
    axes.text(x, y - 0.6, above, ha="center", va="bottom", size=9, color=MUTED)


if __name__ == "__main__":
    main()
