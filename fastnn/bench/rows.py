"""What is measured: every row's shape, as data. The only list; command, suite and tests read it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

INFERENCE, TRAINING = "inference", "training"


class RnnLayer(NamedTuple):
    """One recurrent layer of a row, which gives its whole sequence."""

    cell: str  # "simple_rnn", "lstm", "gru" (reset after, with two biases)
    units: int
    activation: str = "tanh"
    bidirectional: bool = False


class RnnRow(NamedTuple):
    """Recurrent layers over ``[T, B, I]``; training has a gradient at every step of the output."""

    name: str
    T: int
    B: int
    I: int
    layers: tuple[RnnLayer, ...]
    dtype: str = "float32"
    ragged: bool = False  # lengths uniform in 1 .. T
    recurrent_dropout: float = 0.0  # in training
    plain: bool = True  # counts in the geometric mean of its group
    modes: tuple[str, ...] = (INFERENCE, TRAINING)


class ConvRow(NamedTuple):
    """A convolution with a bias over ``[B, C, *size]``, without an activation."""

    name: str
    B: int
    C: int
    size: tuple[int, ...]  # (h, w), or (length,)
    filters: int
    kernel: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1
    dtype: str = "float32"
    plain: bool = True
    modes: tuple[str, ...] = (INFERENCE, TRAINING)


class PoolRow(NamedTuple):
    """Pooling without padding over ``[B, C, *size]``."""

    name: str
    kind: str  # "max", "average", "stochastic"
    B: int
    C: int
    size: tuple[int, int]
    pool: int
    stride: int
    dtype: str = "float32"
    plain: bool = True
    modes: tuple[str, ...] = (INFERENCE, TRAINING)
    apart: tuple[str, ...] = ("torch",)  # whose variants are each timed: NCHW is what users have


class DenseRow(NamedTuple):
    """A network of dense layers, ReLU between them.

    Training is a whole step: forward, softmax cross-entropy, backward, gradient descent.
    """

    name: str
    B: int
    widths: tuple[int, ...]
    dtype: str = "float32"
    plain: bool = True
    modes: tuple[str, ...] = (INFERENCE, TRAINING)


class EpochRow(NamedTuple):
    """A whole epoch of training with Adam on images of 28 x 28, as a user writes it."""

    name: str
    network: str  # "rnn": image rows as steps; "cnn": 5x5 convolution, max pooling, dense
    units: int  # recurrent units, or filters
    batch: int
    images: int = 10_000
    dtype: str = "float32"
    plain: bool = True
    modes: tuple[str, ...] = (TRAINING,)


Row = RnnRow | ConvRow | PoolRow | DenseRow | EpochRow


def _rnn(
    name: str, shape: tuple[int, int, int], cell: str, units: int, count: int = 1, **options: Any
) -> RnnRow:
    """``count`` equal layers; options of a layer and of the row."""
    layer = {k: options.pop(k) for k in ("activation", "bidirectional") if k in options}
    return RnnRow(name, *shape, (RnnLayer(cell, units, **layer),) * count, **options)


RECURRENT: tuple[RnnRow, ...] = (
    _rnn("rnn_mnist", (28, 150, 28), "simple_rnn", 150),
    _rnn("rnn_ts", (20, 50, 1), "simple_rnn", 100, activation="relu"),
    _rnn("rnn_deep3", (28, 150, 28), "simple_rnn", 100, count=3, activation="relu"),
    _rnn("lstm_mnist", (28, 150, 28), "lstm", 150),
    _rnn("gru_mnist", (28, 150, 28), "gru", 150),
    RnnRow(
        "bilstm_quora",
        *(32, 16, 64),
        (RnnLayer("lstm", 64, bidirectional=True), RnnLayer("lstm", 32, bidirectional=True)),
    ),
    _rnn("bilstm_sunspot", (30, 100, 1), "lstm", 32, count=2, bidirectional=True),
    _rnn("gru_mid", (50, 32, 128), "gru", 256),
    _rnn("lstm_large", (64, 64, 256), "lstm", 512),
    _rnn("lstm_b1_128", (100, 1, 128), "lstm", 128),
    _rnn("lstm_b1_256", (100, 1, 256), "lstm", 256),
    _rnn("lstm_long", (1000, 8, 64), "lstm", 64),
    _rnn("lstm_f64", (28, 150, 28), "lstm", 150, dtype="float64", plain=False),
    _rnn("lstm_ragged", (64, 64, 128), "lstm", 256, ragged=True, plain=False),
    _rnn(
        "lstm_recurrent_dropout",
        *((28, 150, 28), "lstm", 150),
        recurrent_dropout=0.25,
        plain=False,
        modes=(TRAINING,),
    ),
)

CONV: tuple[ConvRow, ...] = (
    ConvRow("dlfs", 100, 1, (28, 28), 30, 5),
    ConvRow("mnist32", 64, 1, (28, 28), 32, 3, pad=1),
    ConvRow("cifar", 64, 3, (32, 32), 32, 3, pad=1),
    ConvRow("vgg64", 32, 64, (32, 32), 64, 3, pad=1),
    ConvRow("r128", 8, 128, (28, 28), 128, 3, pad=1),
    ConvRow("r256", 8, 256, (14, 14), 256, 3, pad=1),
    ConvRow("r512", 8, 512, (7, 7), 512, 3, pad=1),
    ConvRow("1x1", 8, 256, (28, 28), 64, 1),
    ConvRow("s2", 8, 128, (28, 28), 256, 3, stride=2, pad=1),
    ConvRow("stem", 4, 3, (224, 224), 64, 7, stride=2, pad=3),
    ConvRow("depthwise", 8, 128, (28, 28), 128, 3, pad=1, groups=128),
    ConvRow("dilated", 8, 64, (28, 28), 64, 3, pad=2, dilation=2),
    ConvRow("conv1d", 32, 64, (256,), 128, 5),
)

POOL: tuple[PoolRow, ...] = (
    PoolRow("max_dlfs", "max", 100, 30, (24, 24), 2, 2),
    PoolRow("max_vgg", "max", 32, 64, (32, 32), 2, 2),
    PoolRow("max_stem", "max", 4, 64, (112, 112), 3, 2),
    PoolRow("average_dlfs", "average", 100, 30, (24, 24), 2, 2),
    PoolRow("average_vgg", "average", 32, 64, (32, 32), 2, 2),
    PoolRow("average_stem", "average", 4, 64, (112, 112), 3, 2),
    PoolRow("stochastic_dlfs", "stochastic", 100, 30, (24, 24), 2, 2, plain=False),
    PoolRow("stochastic_vgg", "stochastic", 32, 64, (32, 32), 2, 2, plain=False),
)

DENSE: tuple[DenseRow, ...] = (DenseRow("dense_784", 50, (784, 300, 100, 10)),)

EPOCH: tuple[EpochRow, ...] = (
    EpochRow("epoch_rnn", "rnn", 150, 150),
    EpochRow("epoch_cnn", "cnn", 30, 100),
)

GROUPS: dict[str, tuple[Row, ...]] = {
    "recurrent": RECURRENT,
    "conv": CONV,
    "pool": POOL,
    "dense": DENSE,
    "epoch": EPOCH,
}

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def to_json(row: Row) -> list[Any]:
    """A row for another process."""
    return [type(row).__name__, row._asdict()]


def from_json(value: list[Any]) -> Row:
    """The row that `to_json` wrote down."""
    kind, fields = value
    fields = {name: _tuples(field) for name, field in fields.items()}
    if kind == "RnnRow":
        fields["layers"] = tuple(RnnLayer(*layer) for layer in fields["layers"])
    return _KINDS[kind](**fields)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (RnnRow, ConvRow, PoolRow, DenseRow, EpochRow)
}


def is_one_layer(row: Row) -> TypeGuard[RnnRow]:
    """Whether the row is one plain recurrent layer in one direction."""
    return (
        isinstance(row, RnnRow)
        and row.plain
        and len(row.layers) == 1
        and not row.layers[0].bidirectional
    )


def out_size(row: ConvRow | PoolRow) -> tuple[int, ...]:
    """Height and width (or length) of the output."""
    if isinstance(row, PoolRow):
        return tuple((n - row.pool) // row.stride + 1 for n in row.size)
    reach = (row.kernel - 1) * row.dilation + 1
    return tuple((n + 2 * row.pad - reach) // row.stride + 1 for n in row.size)


def layer_inputs(row: RnnRow) -> tuple[int, ...]:
    """The number of inputs of each layer, then that of outputs of the last."""
    sizes = [row.I]
    for layer in row.layers:
        sizes.append(layer.units * (1 + layer.bidirectional))
    return tuple(sizes)


def flops(row: Row, mode: str, steps: int | None = None) -> float | None:
    """Floating-point operations of the matrix products of one call; None where bytes count.

    Training is three times inference: the gradients of inputs and of weights are a product each.

    Parameters
    ----------
    row : Row
    mode : "inference" or "training"
    steps : int, optional
        For a ragged row, the sum of its lengths.
    """
    if isinstance(row, RnnRow):
        steps = row.T * row.B if steps is None else steps
        columns = sum(
            (inputs + layer.units) * GATES[layer.cell] * layer.units * (1 + layer.bidirectional)
            for inputs, layer in zip(layer_inputs(row)[:-1], row.layers, strict=True)
        )
        forward = 2.0 * steps * columns
    elif isinstance(row, ConvRow):
        forward = 2.0 * row.B * row.filters * row.C // row.groups
        for n in out_size(row):
            forward *= n * row.kernel
    elif isinstance(row, DenseRow):
        forward = 2.0 * row.B * sum(a * b for a, b in pairwise(row.widths))
    else:
        return None
    return forward * (3 if mode == TRAINING else 1)


def traffic(row: Row, mode: str) -> float | None:
    """Bytes that pooling has to move: x and y, in training their gradients too."""
    if not isinstance(row, PoolRow):
        return None
    item = 8 if row.dtype == "float64" else 4
    numbers = row.size[0] * row.size[1] + out_size(row)[0] * out_size(row)[1]
    return float(row.B * row.C * numbers * item * (2 if mode == TRAINING else 1))


def select(group: str, names: tuple[str, ...] = ()) -> list[tuple[str, Row]]:
    """``(group, row)`` of one group or of "all", cut down to ``names`` where they are given.

    Raises
    ------
    ValueError
        A name that the group does not have.
    """
    groups = GROUPS if group == "all" else {group: GROUPS[group]}
    rows = [(key, row) for key, members in groups.items() for row in members]
    known = [row.name for _, row in rows]
    for name in names:
        if name not in known:
            raise ValueError(
                f"[bench] {name!r} is not a row of {group}; one of {', '.join(known)} is needed"
            )
    return [(key, row) for key, row in rows if not names or row.name in names]
