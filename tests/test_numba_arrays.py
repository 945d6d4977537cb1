"""Arrays on the device: `DeviceArray` behaves as NumPy's arrays do, and operations keep it there.

These run on a GPU, or in the simulator (`test_numba_simulator` starts them there).
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from device_models import assert_same, on_numba

import fastnn
from fastnn import dispatch

pytestmark = pytest.mark.usefixtures("numba_chosen")


@pytest.fixture
def upload():
    """A NumPy array as a Numba device array (in the simulator, whose shapes refuse -1, as ours)."""
    from numba import cuda

    from fastnn.kernels.numba.device import SIMULATED

    return (lambda x: fastnn.asarray(cuda.to_device(x))) if SIMULATED else cuda.to_device


# --------------------------------------------------------------------------- the array itself

VIEWS = {
    "whole": lambda a: a,
    "row": lambda a: a[1],
    "column": lambda a: a[:, 2],
    "reversed": lambda a: a[::-1, ::-2],
    "new axis": lambda a: a[:, None, 1:],
    "element": lambda a: a[1, 2],
    "ellipsis": lambda a: a[..., 0],
    "transposed": lambda a: a.T,
    "permuted": lambda a: a[None].transpose(2, 0, 1),
    "swapped": lambda a: a.swapaxes(0, 1)[1:],
    "reshaped": lambda a: a.reshape(2, 6),
    "reshaped view": lambda a: a.T.reshape(-1),
    "nothing": lambda a: a[3:],
    "broadcast": lambda a: np.broadcast_to(a[1:2], (3, 4)),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["float32", "int64", "bool"])
def test_a_view_is_numpys(upload, view, kind):
    host = (np.arange(12).reshape(3, 4) % 5).astype(kind)
    x = fastnn.asarray(upload(host))
    expected, actual = VIEWS[view](host), VIEWS[view](x)
    assert on_numba(actual)
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual.get(), expected)
    np.testing.assert_array_equal(np.asarray(actual), expected)


def test_a_mask_as_an_index_is_refused(upload):
    x = fastnn.asarray(upload(np.arange(4.0)))
    with pytest.raises(TypeError, match=r"^\[DeviceArray\] an index of ndarray"):
        x[np.array([True, False, True, False])]
    for index in (True, (False, 1), [0, 1]):
        with pytest.raises(TypeError, match=r"^\[DeviceArray\] an index of (bool|list)"):
            x[index]


ARITHMETIC = {
    "number": lambda a, b: a * 2 + 1,
    "number before": lambda a, b: 1 / (3 + a),
    "arrays": lambda a, b: a - b * a,
    "broadcast": lambda a, b: a[:, None] + b[None, :, :1],
    "negative": lambda a, b: -a,
    "larger": lambda a, b: np.maximum(a, b),
    "roots": lambda a, b: np.sqrt(a * a),
    "comparison": lambda a, b: (a < b) | (a >= 1.5),
    "equal": lambda a, b: (a == a[:1]) & (b != 0),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_is_numpys(upload, rng, dtype, name):
    a, b = (rng.standard_normal((3, 4)).astype(dtype) for _ in range(2))
    expected = ARITHMETIC[name](a, b)
    actual = ARITHMETIC[name](fastnn.asarray(upload(a)), fastnn.asarray(upload(b)))
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual.get(), expected, rtol=1e-6)


FUNCTIONS = {
    "sum": lambda a, b: a.sum(),
    "sum of an axis": lambda a, b: a.sum(axis=1, keepdims=True),
    "sum of booleans": lambda a, b: (a > b).sum(axis=0),
    "sum of long rows": lambda a, b: np.repeat(a, 50, axis=1).sum(axis=1),
    "mean": lambda a, b: a.mean(axis=(0, 1)),
    "extremes": lambda a, b: a.max(axis=0) - a.min(axis=0),
    "any": lambda a, b: (a > 0.5).any(axis=0) & ~(a > b).all(axis=1, keepdims=True),
    "argmax": lambda a, b: a.argmax(axis=-1),
    "where": lambda a, b: np.where(a > b, a, 0),
    "concatenate": lambda a, b: np.concatenate([a, b[:, ::2], a], axis=1),
    "stack": lambda a, b: np.stack((a[0], b[1])),
    "split": lambda a, b: np.split(a, [1, 2], 1)[1],
    "repeat": lambda a, b: np.repeat(a[:, None], 3, axis=1),
    "vdot": lambda a, b: np.vdot(a, b),
    "like": lambda a, b: np.full_like(a, 2.0) + np.ones_like(a, shape=(4,)) - np.zeros_like(a),
    "matrices": lambda a, b: (a @ b.T)[None] @ a,
    "matrix and vector": lambda a, b: np.dot(a, b[0]) + a[0] @ b.T,
    "variance": lambda a, b: np.var(a, axis=1) + np.std(b),
    "elementary": lambda a, b: np.log1p(np.exp(a)) + np.hypot(a, b) + np.sign(a) * np.square(b),
    "take": lambda a, b: np.take(a, [2, 0, 2], axis=1),
    "tile": lambda a, b: np.tile(a, (2, 1, 2)),
    "roll": lambda a, b: np.roll(a, (1, -2), (0, 1)) + np.roll(a, 5),
    "running sums": lambda a, b: np.cumsum(a, axis=0) + np.cumsum(a > 0).reshape(a.shape),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_numpys(upload, rng, dtype, name):
    a, b = (rng.standard_normal((3, 4)).astype(dtype) for _ in range(2))
    a[1, 2] = a[1, 1]
    expected = FUNCTIONS[name](a, b)
    actual = FUNCTIONS[name](fastnn.asarray(upload(a)), fastnn.asarray(upload(b)))
    assert on_numba(actual)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    np.testing.assert_allclose(actual.get(), expected, rtol=2e-5, atol=1e-6)


def test_comparisons_as_a_whole(upload):
    a = np.array([1.0, np.inf, np.nan, -np.inf])
    x = fastnn.asarray(upload(a))
    others = (a, a + 1e-9, -a, np.array([1.0, 2.0, np.nan, -np.inf]), a[:3])
    for other in others:
        for equal_nan in (False, True):
            assert np.array_equal(x, other, equal_nan) == np.array_equal(a, other, equal_nan)
            if len(other) == len(a):
                expected = np.isclose(a, other, equal_nan=equal_nan)
                np.testing.assert_array_equal(np.isclose(x, other, equal_nan=equal_nan), expected)
                assert np.allclose(other, x, equal_nan=equal_nan) == expected.all()
    assert int(np.count_nonzero(x > 0)) == 2


def test_nan_wins_and_nothing_adds_up_to_zero(upload):
    x = fastnn.asarray(upload(np.array([[1.0, np.nan, 3.0], [-0.0, 2.0, 2.0]])))
    np.testing.assert_array_equal(x.max(axis=1).get(), [np.nan, 2])
    np.testing.assert_array_equal(x.min(axis=1).get(), [np.nan, -0.0])
    np.testing.assert_array_equal(x.argmax(axis=1).get(), [1, 1])
    assert float(x[:, 3:].sum()) == 0 and not x[:, 3:].any() and bool(x[:, 3:].all())
    with pytest.raises(ValueError, match="max of no elements"):
        x[:0].max()


WRITES = {
    "number": lambda a: a.__setitem__((slice(None), 1), 5),
    "array": lambda a: a.__setitem__(..., a[::-1, ::-1]),
    "shifted": lambda a: a.__setitem__(slice(1, None), a[:-1]),
    "row into all": lambda a: a.__setitem__((slice(None), slice(None, None, 2)), a[:1, 1::2]),
    "in place": lambda a: a[:, 1:].__imul__(a[:, :-1]),
    "out": lambda a: np.add(a[1], 1, out=a[0]),
    "transposed": lambda a: np.subtract(a[:, :3], a[:, :3].T, out=a[:, :3]),
    "conversion": lambda a: a.__setitem__(0, a[1] > 0),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_writing_is_numpys(upload, rng, name, kind):
    host = rng.integers(-9, 9, (3, 4)).astype(kind)
    x = fastnn.asarray(upload(host))
    WRITES[name](host), WRITES[name](x)
    np.testing.assert_array_equal(x.get(), host)


def test_a_view_knows_its_base(upload):
    x = fastnn.asarray(upload(np.zeros((2, 3))))
    assert x.base is None and x[0][1:].base is x and x.reshape(6).T.base is x
    assert x.copy().base is None


def test_other_libraries_are_told_on_which_stream_its_work_is():
    from fastnn.kernels.numba.array import DeviceArray

    memory = SimpleNamespace(__cuda_array_interface__={"data": (64, False), "stream": None})
    told = DeviceArray(memory, np.zeros((2, 3)), 2).__cuda_array_interface__
    assert told["stream"] == 1  # the legacy default stream
    assert told["data"] == (64 + 16, False) and told["shape"] == (2, 3)


def test_what_has_no_kernel_is_refused(upload):
    x = fastnn.asarray(upload(np.ones((2, 2))))
    for call in (np.linalg.inv, np.sort, np.arcsin, np.add.reduce, np.cumprod):
        with pytest.raises(TypeError, match=r"\[DeviceArray\] np\..* has no kernel here"):
            call(x)
    with pytest.raises(TypeError, match="out is a ndarray"):
        np.add(x, 1, out=np.ones((2, 2)))
    with pytest.raises(ValueError, match="is needed"):
        np.add(x, 1, out=x[0])


def test_reductions_and_conversions(upload, rng):
    a = rng.integers(-50, 50, (5, 7))
    x = fastnn.asarray(upload(a))
    assert int(x.min()) == a.min() and int(x.max()) == a.max()
    assert (x < -49).any() == (a < -49).any() and not (x > 50).any()
    assert x.astype(np.int64, copy=False) is x
    np.testing.assert_array_equal(x.astype("float32").get(), a.astype("float32"))


def test_set_copies_to_the_device(upload, rng):
    x = fastnn.asarray(upload(np.zeros((2, 3))))
    value = rng.standard_normal((2, 3))
    x.set(value)
    np.testing.assert_array_equal(x.get(), value)
    with pytest.raises(ValueError, match=r"\(2, 3\) is needed"):
        x.set(np.zeros(3))
    x.T[1:].set(2 * value.T[1:])
    np.testing.assert_array_equal(x.get(), value * [[1, 2, 2]])


# --------------------------------------------------------------------------- operations there


def test_arrays_are_owned():
    from numba import cuda

    backend = dispatch.load("test", "numba")
    x = cuda.to_device(np.zeros(3))
    assert backend.owns(x) and backend.owns(fastnn.asarray(x)) and backend.owns(np.zeros(3))
    assert not backend.owns([0.0]) and not backend.owns(np.ma.zeros(3))
    assert fastnn.asarray(fastnn.asarray(x)).shape == (3,)


def test_a_layer_of_calls_stays_on_the_device(upload, rng):
    """Forward and backward of every family, device arrays in, device arrays out."""
    image = rng.random((2, 5, 5, 3))
    kernel, bias = rng.standard_normal((3, 3, 3, 4)), rng.standard_normal(4)
    labels = np.array([1, 0])

    def run(move):
        y, conv = fastnn.conv2d_forward(move(image), move(kernel), move(bias), activation="relu")
        p, pool = fastnn.stochastic_pool2d_forward(y, pool_size=2, strides=1, training=True, seed=5)
        a, silu = fastnn.activation_forward(p, "silu")
        d, dropout = fastnn.dropout_forward(a, rate=0.25, seed=3)
        z, dense = fastnn.dense_forward(d.reshape(2, -1), move(np.ones((16, 2))))
        value, loss = fastnn.loss_forward(
            move(labels), z, loss="sparse_categorical_crossentropy", from_logits=True
        )
        dz = fastnn.loss_backward(loss, 2.0)
        dense_grads = fastnn.dense_backward(dz, dense)
        dd = fastnn.dropout_backward(dense_grads.dx.reshape(*a.shape), dropout)
        dp = fastnn.activation_backward(dd, silu)
        grads = fastnn.conv2d_backward(fastnn.stochastic_pool2d_backward(dp, pool), conv)
        return value, [y, p, z, dz, dense_grads.dkernel, *grads]

    with dispatch.use_backend("numpy"):
        expected_value, expected = run(lambda a: a)
    value, actual = run(upload)
    assert value == pytest.approx(expected_value, rel=1e-12)
    assert_same(actual, expected, on_numba, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch_major", [False, True])
def test_a_recurrent_call_stays_on_the_device(upload, rng, batch_major):
    import rnn_cases

    case = rnn_cases.SMALL["everything"]
    problem = rnn_cases.make(case, "lstm")
    x = problem.x.swapaxes(0, 1).copy() if batch_major else problem.x
    options = {
        key: upload(value) if isinstance(value, np.ndarray) else value
        for key, value in problem.options.items()
    }

    def run(x, weights, initial, options):
        x = x.swapaxes(0, 1) if batch_major else x
        out, saved = fastnn.rnn_forward(x, weights, initial, **options)
        return out, fastnn.rnn_backward(fastnn.RnnOutput(*out), saved)

    with dispatch.use_backend("numpy"):
        expected = run(x, problem.weights, problem.initial, problem.options)
    weights = fastnn.RnnWeights(*map(upload, problem.weights))
    initial = tuple(map(upload, problem.initial))
    actual = run(fastnn.asarray(upload(x)), weights, initial, options)

    def compare(one, other):
        if isinstance(other, tuple):
            for pair in zip(one, other, strict=True):
                compare(*pair)
        else:
            assert on_numba(one)
            np.testing.assert_allclose(one.get(), other, rtol=1e-9, atol=1e-12)
            assert np.argsort(one.strides).tolist() == np.argsort(other.strides).tolist()

    compare(tuple(actual), tuple(expected))


def test_conv1d_embedding_and_columns_of_device_arrays(upload, rng):
    x, kernel = rng.standard_normal((2, 7, 3)), rng.standard_normal((3, 3, 2))
    indices, table = rng.integers(0, 5, (2, 4)), rng.standard_normal((5, 3))
    image = rng.standard_normal((1, 2, 4, 4))

    def run(move):
        y, saved = fastnn.conv1d_forward(move(x), move(kernel), padding="causal")
        grads = fastnn.conv1d_backward(y, saved)
        e, embedding = fastnn.embedding_forward(move(indices), move(table))
        cols = fastnn.im2col(move(image), 2, 2)
        back = fastnn.col2im(cols, (1, 2, 4, 4), 2, 2)
        return [y, grads.dx, grads.dkernel, e, fastnn.embedding_backward(e, embedding), cols, back]

    with dispatch.use_backend("numpy"):
        expected = run(lambda a: a)
    assert_same(run(upload), expected, on_numba, rtol=1e-10, atol=1e-12)


def test_values_on_the_device_are_checked_too(upload):
    with pytest.raises(ValueError, match=r"0 <= indices < 5 is needed"):
        fastnn.embedding_forward(upload(np.array([1, 7])), upload(np.ones((5, 2))))
    with pytest.raises(ValueError, match="negative values"):
        fastnn.stochastic_pool2d_forward(upload(-np.ones((1, 2, 2, 1))), pool_size=2)
    weights = fastnn.RnnWeights(upload(np.ones((2, 3))), upload(np.ones((3, 3))))
    with pytest.raises(ValueError, match="0 to T = 4 is needed"):
        fastnn.rnn_forward(
            upload(np.ones((4, 2, 2))), weights, cell="simple_rnn", lengths=upload(np.array([1, 5]))
        )


def test_numpy_beside_the_device_goes_there(upload, rng):
    x, kernel = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    y, saved = fastnn.dense_forward(upload(x), kernel)
    assert on_numba(y)
    np.testing.assert_allclose(y.get(), x @ kernel)
    assert on_numba(fastnn.dense_backward(y, saved).dkernel)
    assert type(fastnn.dense_forward(x, kernel)[0]) is np.ndarray


def test_another_backend_refuses_device_arrays(upload):
    x = upload(np.ones((2, 2)))
    with (
        dispatch.use_backend("numpy"),
        pytest.raises(TypeError, match="an array of the backend 'numpy' is needed"),
    ):
        fastnn.dense_forward(x, np.ones((2, 2)))


def test_the_backward_pass_sends_only_what_is_new(rng, monkeypatch):
    """Of host arrays the copies on the device live from forward to backward, and no longer."""
    import gc

    from fastnn.backends import numba_gpu
    from fastnn.kernels.numba import array

    uploads = []
    upload = array.upload
    monkeypatch.setattr(array, "upload", lambda v: uploads.append(v.size) or upload(v))
    x = rng.standard_normal((3, 2, 2))
    weights = fastnn.RnnWeights(rng.standard_normal((2, 12)), rng.standard_normal((3, 12)))

    def both(change=None):
        with dispatch.use_backend("numba"):
            out, saved = fastnn.rnn_forward(x, weights, cell="lstm")
            sent = len(uploads)
            if change:
                saved = change(saved)
            grads = fastnn.rnn_backward(fastnn.RnnOutput(np.ones_like(out.y)), saved)
        host = saved._replace(backend="numpy")
        expected = fastnn.rnn_backward(fastnn.RnnOutput(np.ones_like(out.y)), host)
        np.testing.assert_allclose(grads.weights.kernel, expected.weights.kernel, rtol=1e-9)
        return uploads[sent:]

    assert both() == [x[..., :1].size * 3]  # dy alone
    other = rng.standard_normal((3, 2, 2))
    assert len(both(lambda saved: saved._replace(x=other))) == 7  # dy, x, W, U, y, c, gates
    gc.collect()
    assert not numba_gpu._Kept._by_y
