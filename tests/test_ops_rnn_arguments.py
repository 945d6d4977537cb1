"""Arguments of the recurrent operations: forms that are taken, and what bad ones are told."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from rnn_cases import Case, make
from rnn_checks import forward

from fastnn.ops.rnn import rnn_backward, rnn_forward
from fastnn.ops.rnn_arguments import checked_forward
from fastnn.types import RnnOutput, RnnWeights


@pytest.mark.parametrize("kind", [list, tuple, *"bBhHiIlLqQ"])
def test_lengths_in_any_integer_form(backend, kind):
    problem = make(Case(lengths="zeros"), "lstm")
    expected, _ = forward(problem)
    given = problem.options["lengths"]
    given = kind(given.tolist()) if isinstance(kind, type) else given.astype(kind)
    problem.options["lengths"] = given
    output, saved = forward(problem)
    np.testing.assert_array_equal(output.y, expected.y)
    assert saved.spec.lengths.dtype == np.int64


def test_options_in_the_record_are_resolved(backend):
    problem = make(Case(), "gru_after")
    _, saved = forward(problem)
    assert saved.spec == ("gru", "tanh", True, False, None, None, None, 0.0, (0.0, 0.0), None)
    problem.options.update(zoneout=np.float32(0.5), seed=np.int64(3), lengths=[5, 5, 5])
    _, saved = forward(problem)
    assert saved.spec.zoneout == (0.5, 0.0)
    assert type(saved.spec.seed) is int
    assert saved.spec.lengths is None  # all rows have all steps


def test_initial_may_be_a_list(backend):
    problem = make(Case(), "lstm")
    expected, _ = forward(problem)
    output, saved = forward(problem._replace(initial=list(problem.initial)))
    np.testing.assert_array_equal(output.y, expected.y)
    assert type(saved.initial) is tuple


T, B, I, H = 5, 3, 2, 4


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def weights(gates=4, **changes):
    good = RnnWeights(ones(I, gates * H), ones(H, gates * H), ones(gates * H), ones(gates * H))
    return good._replace(**changes)


# (changes to a good LSTM call, the error, what it must say)
BAD = [
    ({"x": ones(B, I)}, ValueError, r"x is float32 \[3, 2\]; \[T, B, I\] is needed"),
    ({"x": ones(T, B, 0)}, ValueError, r"x is float32 \[5, 3, 0\]"),
    ({"x": ones(T, B, I, dtype=np.int64)}, TypeError, "x is int64.*float32 or float64"),
    ({"x": ones(T, B, I, dtype=np.float16)}, TypeError, "x is float16"),
    ({"x": ones(T, B, I, dtype=">f4")}, TypeError, "x is >f4"),
    ({"x": ones(T, B, I, dtype=np.float64)}, TypeError, "x is float64 and kernel is float32"),
    ({"x": [[[1.0, 2.0]]]}, TypeError, "x is a list"),
    ({"x": None}, TypeError, "x is None"),
    ({"x": ones(T, B, I + 1)}, ValueError, r"kernel is float32 \[2, 16\]; \[3, 16\] is needed"),
    ({"weights": (ones(I, 16), ones(H, 16))}, TypeError, "weights is a tuple; RnnWeights"),
    ({"weights": weights(kernel=None)}, TypeError, "kernel is None"),
    ({"weights": weights(recurrent_kernel=None)}, TypeError, "recurrent_kernel is None"),
    (
        {"weights": weights(kernel=ones(I, 12))},
        ValueError,
        r"kernel is float32 \[2, 12\]; \[2, 16\]",
    ),
    ({"weights": weights(kernel=ones(I * 16))}, ValueError, r"kernel is float32 \[32\]; \[2, 16\]"),
    (
        {"weights": weights(gates=3)},
        ValueError,
        r"recurrent_kernel is float32 \[4, 12\]; \[H, 4\*H\]",
    ),
    ({"weights": weights(recurrent_kernel=ones(16))}, ValueError, r"\[H, 4\*H\]"),
    ({"weights": weights(recurrent_kernel=ones(0, 0))}, ValueError, "H of at least 1"),
    (
        {"weights": weights(recurrent_kernel=ones(H, 16, dtype=np.float64))},
        TypeError,
        "x is float32 and recurrent_kernel is float64",
    ),
    ({"weights": weights(bias=ones(15))}, ValueError, r"bias is float32 \[15\].*\[16\]"),
    ({"weights": weights(bias=ones(1, 16))}, ValueError, r"bias is float32 \[1, 16\].*\[16\]"),
    ({"weights": weights(bias=ones(16, dtype=np.float64))}, TypeError, "bias is float64"),
    ({"weights": weights(recurrent_bias=ones(4))}, ValueError, r"recurrent_bias is float32 \[4\]"),
    ({"weights": weights(bias=[0.0] * 16)}, TypeError, "bias is a list"),
    ({"cell": "rnn"}, ValueError, "cell is 'rnn'; one of simple_rnn, lstm, gru"),
    ({"cell": None}, ValueError, "cell is None"),
    ({"cell": ["lstm"]}, ValueError, "cell is"),
    ({"activation": "relu"}, ValueError, "activation of lstm is 'relu'; one of tanh"),
    ({"activation": None}, ValueError, "activation of lstm is None"),
    ({"keep": "all"}, ValueError, "keep is 'all'; one of gates, states, None"),
    ({"keep": True}, ValueError, "keep is True"),
    (
        {"initial": ones(B, H)},
        TypeError,
        r"initial is an array float32 \[3, 4\]; the pair \(h, c\)",
    ),
    ({"initial": (ones(B, H),)}, TypeError, "initial is a tuple of 1; the pair"),
    ({"initial": (ones(B, H), None)}, TypeError, "initial c is a NoneType; an array"),
    ({"initial": (ones(B, H), ones(H))}, ValueError, r"initial c is float32 \[4\]"),
    ({"initial": (ones(1, H), ones(B, H))}, ValueError, r"initial h is float32 \[1, 4\]"),
    ({"initial": (ones(B, H), ones(B, H, dtype=np.float64))}, TypeError, "initial c is float64"),
    ({"lengths": [1, 2]}, ValueError, r"lengths is int64 \[2\].*\[3\]"),
    ({"lengths": 3}, TypeError, "lengths is a int; 3 integers"),
    ({"lengths": [1, 2, 6]}, ValueError, "lengths reach from 1 to 6; 0 to T = 5"),
    ({"lengths": [-1, 2, 3]}, ValueError, "lengths reach from -1 to 3"),
    ({"lengths": np.array([1, 2, 2**63], np.uint64)}, ValueError, "lengths reach from 1 to 9223"),
    ({"lengths": [2**70, 1, 1]}, TypeError, "lengths is object"),
    ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths is float64"),
    ({"lengths": [True, False, True]}, TypeError, "lengths is bool"),
    ({"lengths": [[1], [2, 3], 4]}, TypeError, "lengths is a list of 3; 3 integers"),
    ({"lengths": np.ones((B, 1), int)}, ValueError, r"lengths is int64 \[3, 1\]"),
    ({"mask": np.ones((B, T), bool)}, ValueError, r"mask is bool \[3, 5\].*\[5, 3\]"),
    ({"mask": ones(T, B)}, TypeError, "mask is float32.*bool is needed"),
    ({"mask": [[True] * B] * T}, TypeError, "mask is a list"),
    ({"resets": np.ones(T, bool)}, ValueError, r"resets is bool \[5\].*\[5, 3\]"),
    ({"resets": np.ones((T, B), np.int8)}, TypeError, "resets is int8"),
    ({"recurrent_dropout": 1.0, "seed": 1}, ValueError, "recurrent_dropout is 1.0; 0 <="),
    ({"recurrent_dropout": -0.1, "seed": 1}, ValueError, "recurrent_dropout is -0.1"),
    ({"recurrent_dropout": float("nan"), "seed": 1}, ValueError, "recurrent_dropout is nan"),
    ({"recurrent_dropout": float("inf"), "seed": 1}, ValueError, "recurrent_dropout is inf"),
    ({"recurrent_dropout": "x", "seed": 1}, TypeError, "recurrent_dropout is 'x'; a number"),
    ({"recurrent_dropout": 0.5}, ValueError, "recurrent_dropout is 0.5 and seed is None"),
    ({"recurrent_dropout": 0.5, "keep": None}, ValueError, "seed is None"),
    ({"zoneout": 0.5}, ValueError, r"zoneout is \(0.5, 0.5\) and seed is None"),
    ({"zoneout": 0.5, "keep": "states"}, ValueError, "or keep=None"),
    ({"zoneout": (0.5,), "seed": 1}, ValueError, "zoneout is .*a pair of rates"),
    ({"zoneout": (0.1, 1.5), "seed": 1}, ValueError, "zoneout of c is 1.5"),
    ({"zoneout": (-0.1, 0.5), "seed": 1}, ValueError, "zoneout of h is -0.1"),
    ({"zoneout": float("nan"), "seed": 1}, ValueError, "zoneout is nan"),
    ({"seed": -1}, ValueError, "seed is -1"),
    ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
    ({"seed": 1.5}, TypeError, "seed is 1.5; an integer"),
    ({"x": np.broadcast_to(np.float32(1), (2**40, 2**18, I))}, ValueError, r"2\*\*60 elements"),
]


@pytest.mark.parametrize("changes, error, message", BAD, ids=[bad[2] for bad in BAD])
def test_bad_input_is_told(backend, changes, error, message):
    arguments = {"x": ones(T, B, I), "weights": weights(), "cell": "lstm"} | changes
    with pytest.raises(error, match=rf"^\[rnn_forward\] .*{message}"):
        rnn_forward(**arguments)


def test_bad_input_of_other_cells_is_told(backend):
    x = ones(T, B, I)
    with pytest.raises(ValueError, match=r"zoneout of c is 0\.5; 0 is needed, gru has no c"):
        rnn_forward(x, weights(3), cell="gru", zoneout=(0.5, 0.5), seed=1)
    with pytest.raises(TypeError, match="initial is a tuple of 2; an array"):
        rnn_forward(x, weights(3), (ones(B, H), ones(B, H)), cell="gru")
    with pytest.raises(
        ValueError, match="activation of simple_rnn is 'sigmoid'; one of tanh, relu"
    ):
        rnn_forward(x, weights(1), cell="simple_rnn", activation="sigmoid")


BAD_GRADIENTS = [
    (ones(T, B, H), TypeError, "d_output is a ndarray; RnnOutput"),
    (RnnOutput(ones(T, B, H + 1)), ValueError, r"d_output.y is float32 \[5, 3, 5\]"),
    (RnnOutput(ones(T, B, H, dtype=np.float64)), TypeError, "d_output.y is float64"),
    (RnnOutput([1.0]), TypeError, "d_output.y is a list of 1"),
    (RnnOutput(None, ones(B, H)), TypeError, r"d_output.final is an array .*the pair \(h, c\)"),
    (RnnOutput(None, (ones(B, H), ones(H))), ValueError, "d_output.final c is float32"),
    (RnnOutput(None, None, (ones(B, H), None)), ValueError, "d_output.states h is float32"),
    (RnnOutput(None, None, (None,)), TypeError, "d_output.states is a tuple of 1"),
]


@pytest.mark.parametrize("d, error, message", BAD_GRADIENTS, ids=[b[2] for b in BAD_GRADIENTS])
def test_bad_gradients_are_told(backend, d, error, message):
    _, saved = rnn_forward(ones(T, B, I), weights(), cell="lstm")
    with pytest.raises(error, match=rf"^\[rnn_backward\] .*{message}"):
        rnn_backward(d, saved)


def test_backward_needs_what_forward_kept(backend):
    output, saved = rnn_forward(ones(T, B, I), weights(), cell="lstm", keep=None)
    with pytest.raises(TypeError, match=r"^\[rnn_backward\] saved is None"):
        rnn_backward(RnnOutput(output.y), saved)
    with pytest.raises(TypeError, match=r"^\[rnn_backward\] saved is a str"):
        rnn_backward(RnnOutput(output.y), "saved")


def test_the_check_takes_what_rnn_forward_takes():
    # `rnn_forward_pair` goes by the check alone: its defaults are those that users see.
    public, own = (inspect.signature(f).parameters for f in (rnn_forward, checked_forward))
    assert list(public.values()) == list(own.values())
