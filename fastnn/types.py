"""The records that pass between operations: windows, weights, outputs, saved state, gradients.

All are named tuples: immutable, cheap to make (a kernel call may take 50 us), and they unpack.
`xp.ndarray` below means a NumPy or a CuPy array, whichever the caller uses.

Letters in shapes: T time steps, B batch, I inputs, H units, G gates of the cell
(1 simple_rnn, 4 lstm, 3 gru).
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "ActivationSaved",
    "AdamStep",
    "Array",
    "ConvGrads",
    "ConvSaved",
    "DenseGrads",
    "DenseSaved",
    "DropoutSaved",
    "EmbeddingSaved",
    "LossSaved",
    "LossSpec",
    "Pair",
    "PoolSaved",
    "RmspropStep",
    "RnnGrads",
    "RnnOutput",
    "RnnSaved",
    "RnnSpec",
    "RnnWeights",
    "SgdStep",
    "Window",
]

Array = Any
Pair = tuple[int, int]


def _brief(value: Any) -> str:
    """An array as its dtype and shape, wherever it stands in a record."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        parts = [_brief(item) for item in value]
        if hasattr(value, "_fields"):
            named = zip(value._fields, parts, strict=True)
            return f"{type(value).__name__}({', '.join('='.join(pair) for pair in named)})"
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
    return repr(value)


class Window(NamedTuple):
    """How a filter or a pool walks over an image, all resolved to integers.

    ``padding`` is ``((top, bottom), (left, right))``.
    """

    kernel: Pair
    strides: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair = (1, 1)


# --------------------------------------------------------------------------- convolution


class ConvSaved(NamedTuple):
    """What conv2d_backward needs. No column matrix is kept: patches are read again from ``x``."""

    backend: str
    x: Array  # [B, h, w, C] or [B, C, h, w]
    kernel: Array  # [kh, kw, C/groups, O]
    bias: Array | None  # [O]
    y: Array  # [B, oh, ow, O] or [B, O, oh, ow], after the activation
    window: Window
    groups: int
    data_format: str  # "channels_last" or "channels_first"
    activation: str | None  # None, "relu", "tanh", "sigmoid": those whose derivative y alone gives

    def __repr__(self) -> str:
        return _brief(self)


class ConvGrads(NamedTuple):
    """Gradients of conv2d, in the shapes of x, kernel and bias.

    ``dbias`` is None without a bias, ``dx`` if it was not needed.
    """

    dx: Array | None
    dkernel: Array
    dbias: Array | None


# --------------------------------------------------------------------------- pooling


class PoolSaved(NamedTuple):
    """What a pooling backward needs.

    ``offsets`` has y's shape: the chosen cell of each window, ``row * pool_width + column``, in
    uint8 where the window has at most 256 cells and int32 otherwise; None for average pooling.
    After a fused ReLU -1 (in uint8 255, for at most 255 cells) says that no cell has a gradient.
    ``x`` is kept only by stochastic pooling at inference, whose output is a weighted sum.
    """

    backend: str
    kind: str  # "max", "avg", "stochastic"
    x_shape: tuple[int, ...]
    window: Window
    data_format: str
    offsets: Array | None = None
    x: Array | None = None
    count_include_pad: bool = False

    def __repr__(self) -> str:
        return _brief(self)


# --------------------------------------------------------------------------- recurrent


class RnnWeights(NamedTuple):
    """Weights of one recurrent direction, in Keras's layout.

    Gate order along the last axis: LSTM i f g o, GRU z r h. ``bias`` is added to ``x W``,
    ``recurrent_bias`` to ``h U`` (they differ only for a GRU with ``reset_after``).
    """

    kernel: Array  # [I, G*H]
    recurrent_kernel: Array  # [H, G*H]
    bias: Array | None = None  # [G*H]
    recurrent_bias: Array | None = None  # [G*H]


class RnnSpec(NamedTuple):
    """The choices of one recurrent call, validated. Noise depends on ``seed`` and indices alone."""

    cell: str  # "simple_rnn", "lstm", "gru"
    activation: str  # "tanh" or "relu" (simple_rnn); "tanh" for the others
    reset_after: bool
    reverse: bool
    lengths: Array | None  # int64 [B]
    mask: Array | None  # bool [T, B]
    resets: Array | None  # bool [T, B]
    recurrent_dropout: float  # 0.0: none
    zoneout: tuple[float, float]  # rates for h and c; (0.0, 0.0): none
    seed: int | None


class RnnOutput(NamedTuple):
    """What a recurrent forward gives; in ``d_output`` a None field means no gradient there.

    ``y`` [T, B, H]: h at every step, zero past a row's length.
    ``final`` : [B, H], or for LSTM the pair (h, c): the state after each row's last step.
    ``states`` : [T, B, H] (the same array as y), or for LSTM the pair (all h, all c); None when
    ``keep`` is None.
    """

    y: Array | None
    final: Any = None
    states: Any = None


class RnnSaved(NamedTuple):
    """What rnn_backward needs. ``gates`` is None for keep="states" (they are computed again).

    ``gates`` are in the backend's own order; ``gates_by_row`` has them as [T, B, S, H], in which
    order every backend takes them. Activated, S planes: LSTM (i, f, g, o); GRU (z, r, h) and, with
    reset_after, a fourth plane with ``h_prev U_h + b``; SimpleRNN keeps none (h itself is enough).
    ``kept`` is what a backend saves of the noise; cython: a bit for each unit that zoneout held.
    """

    backend: str
    spec: RnnSpec
    keep: str  # "gates" or "states"
    x: Array  # [T, B, I]
    weights: RnnWeights
    initial: Any  # None, [B, H], or (h, c)
    y: Array  # [T, B, H]
    c: Array | None  # [T, B, H], LSTM
    gates: Array | None
    kept: Array | None = None

    @property
    def gates_by_row(self) -> Array | None:
        """The saved gates [T, B, S, H], a copy where the backend has another order.

        cython: [T, Hp / L, B, S, L], L numbers to a line of 64 bytes: a step writes and reads
        whole lines in the order of memory.
        """
        gates: Any = self.gates
        if gates is None or gates.ndim == 4:
            return gates
        T, _, B, S, _ = gates.shape
        return gates.transpose(0, 2, 3, 1, 4).reshape(T, B, S, -1)[..., : self.y.shape[-1]]

    def __repr__(self) -> str:
        return _brief(self)


class RnnGrads(NamedTuple):
    """Gradients of a recurrent call. ``weights`` has None where the weight was None.

    ``initial`` is [B, H] or (dh, dc), also when no initial state was given (it was zero).
    """

    dx: Array | None
    weights: RnnWeights
    initial: Any


# --------------------------------------------------------------------------- the small families


class DenseSaved(NamedTuple):
    """What dense_backward needs."""

    backend: str
    x: Array  # [..., I]
    kernel: Array  # [I, O]
    bias: Array | None  # [O]
    y: Array  # [..., O], after the activation
    activation: str | None

    def __repr__(self) -> str:
        return _brief(self)


class DenseGrads(NamedTuple):
    """Gradients of dense: shapes of x, kernel and bias; None for what there is not."""

    dx: Array | None
    dkernel: Array
    dbias: Array | None


class ActivationSaved(NamedTuple):
    """What activation_backward needs: y where the derivative can be written with it, else x."""

    backend: str
    activation: str
    x: Array | None
    y: Array | None

    def __repr__(self) -> str:
        return _brief(self)


class EmbeddingSaved(NamedTuple):
    """What embedding_backward needs."""

    backend: str
    indices: Array  # integers [...]
    table_shape: tuple[int, int]  # (V, E)
    dtype: Any

    def __repr__(self) -> str:
        return _brief(self)


class DropoutSaved(NamedTuple):
    """What dropout_backward needs: the mask is drawn again from the seed, not stored."""

    backend: str
    rate: float
    seed: int
    noise_shape: tuple[int, ...]

    def __repr__(self) -> str:
        return _brief(self)


class SgdStep(NamedTuple):
    """One step of gradient descent in place: ``weight`` and ``velocity`` change.

    ``w -= rate g``; with a velocity ``v = momentum v - rate g`` and ``w += v`` or, with nesterov,
    ``w += momentum v - rate g``.
    """

    weight: Array  # and all others of its shape
    gradient: Array
    velocity: Array | None
    rate: float
    momentum: float
    nesterov: bool


class RmspropStep(NamedTuple):
    """One step of RMSprop in place: ``weight``, ``velocity``, ``momentum`` and ``average`` change.

    ``v += (g^2 - v) share``, ``d = rate g / sqrt(v + epsilon)``, ``w -= d``; with ``average``
    (centered) ``a += (g - a) share``, and v - a^2 takes v's place in d; with ``momentum``
    ``m = decay m + d`` and ``w -= m``.
    """

    weight: Array  # and all others of its shape
    gradient: Array
    velocity: Array
    momentum: Array | None
    average: Array | None
    share: float  # 1 - rho
    rate: float
    decay: float
    epsilon: float


class AdamStep(NamedTuple):
    """One step of Adam in place: ``weight``, ``momentum``, ``velocity`` and ``largest`` change.

    ``m += (g - m) share_m``, ``v += (g^2 - v) share_v``, ``w -= alpha m / (sqrt(v) + epsilon)``;
    with ``largest`` (amsgrad) the largest v so far takes v's place.
    """

    weight: Array  # and all others of its shape
    gradient: Array
    momentum: Array
    velocity: Array
    largest: Array | None
    share_m: float  # 1 - beta_1
    share_v: float  # 1 - beta_2
    alpha: float
    epsilon: float


class LossSpec(NamedTuple):
    """Which loss, and its constants."""

    loss: str
    from_logits: bool = False
    delta: float = 1.0  # huber


class LossSaved(NamedTuple):
    """What loss_backward needs: d loss / d y_pred, made in the forward pass."""

    backend: str
    spec: LossSpec
    grad: Array

    def __repr__(self) -> str:
        return _brief(self)
