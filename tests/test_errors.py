"""Errors are tested by their words: place, argument, rule, fact, way out."""

import math

import numpy as np
import pytest

import minirnn
from minirnn import cell, sigmoid, tanh


def words(*parts):
    """Match a message that holds all parts, in this order."""
    return "(?s)" + ".*".join(f"(?:{part})" for part in parts)


# ---- cells ---------------------------------------------------------------------------------------


def one_state_too_few(wx, u, prev):
    return tanh(wx.h + u.h @ prev.h)


def gate_left_out(wx, u, prev):
    return tanh(wx.i + u.i @ prev.h + u.f @ prev.h)


def block_left_out(wx, u, prev):
    return tanh(wx.i + u.i @ prev.h + wx.f)


def python_if(wx, u, prev):
    a = wx.h + u.h @ prev.h
    return a if a > 0 else 0 * a


def python_and(wx, u, prev):
    a = wx.h + u.h @ prev.h
    return minirnn.where(a > 0 and a < 1, a, 0.0)


def math_function(wx, u, prev):
    return math.tanh(wx.h + u.h @ prev.h)


def numpy_function(wx, u, prev):
    return np.tanh(wx.h + u.h @ prev.h)


def indexing(wx, u, prev):
    return tanh(wx.h + u.h @ prev.h[0])


def power_of_a_vector(wx, u, prev):
    return tanh((wx.h + u.h @ prev.h) ** prev.h)


def unknown_gate(wx, u, prev):
    return tanh(wx.g + u.h @ prev.h)


def unknown_block(wx, u, prev):
    return tanh(wx.h + u.g @ prev.h)


def unknown_state(wx, u, prev):
    return tanh(wx.h + u.h @ prev.c)


def matrix_as_a_vector(wx, u, prev):
    return tanh(wx.h + u.h * prev.h)


def one_block_twice(wx, u, prev):
    return tanh(wx.h + u.h @ prev.h + u.h @ tanh(prev.h))


BROKEN = {
    one_state_too_few: ({"gates": "h", "state": "hc"}, ["returns 1", "2 state", "h, c"]),
    gate_left_out: ({"gates": "if"}, ["gate f", "wx.f", "never reaches", "unused="]),
    block_left_out: ({"gates": "if"}, ["block f", "never reaches", "unused="]),
    python_if: ({"gates": "h"}, ["if", "where"]),
    python_and: ({"gates": "h"}, ["and", "where"]),
    math_function: ({"gates": "h"}, ["math", "tanh"]),
    numpy_function: ({"gates": "h"}, ["numpy", "tanh", "not in the cell language"]),
    indexing: ({"gates": "h"}, ["whole vector"]),
    power_of_a_vector: ({"gates": "h"}, ["exponent", "number", "exp"]),
    unknown_gate: ({"gates": "h"}, [r"wx\.g", "unknown", "gates are h"]),
    unknown_block: ({"gates": "h"}, [r"u\.g", "unknown", "h"]),
    unknown_state: ({"gates": "h"}, [r"prev\.c", "unknown", "states are h"]),
    matrix_as_a_vector: ({"gates": "h"}, ["u.h", "@"]),
    one_block_twice: ({"gates": "h"}, ["u.h", "two", "products="]),
}


@pytest.mark.parametrize("function", BROKEN, ids=lambda f: f.__name__)
def test_a_broken_cell_names_itself_the_quantity_and_the_way_out(function):
    options, parts = BROKEN[function]
    with pytest.raises(ValueError, match=words(function.__name__, *parts)):
        cell(**options)(function)


def test_a_vector_that_is_not_declared_is_named():
    with pytest.raises(ValueError, match=words(r"p\.p_f", "unknown", "p_i")):

        @cell(gates="h", vectors=("p_i",))
        def peephole(wx, u, prev, p):
            return tanh(wx.h + u.h @ prev.h + p.p_i * prev.h + p.p_f * prev.h)


def test_vectors_need_the_argument_p():
    with pytest.raises(ValueError, match=words("vectors", "p", r"wx, u, prev, p")):

        @cell(gates="h", vectors=("p_i",))
        def peephole(wx, u, prev):
            return tanh(wx.h + u.h @ prev.h)


def test_an_unknown_argument_is_told_which_there_are():
    with pytest.raises(ValueError, match=words("argument 'above'", "below")):

        @cell(gates="h")
        def reader(wx, u, prev, above):
            return tanh(wx.h + u.h @ prev.h + above.h)


def test_a_keyword_is_no_name_of_a_gate():
    with pytest.raises(ValueError, match=words("if", "name")):
        cell(gates=("if", "h"))(one_state_too_few)


def test_a_gate_declared_unused_but_used_is_an_error():
    with pytest.raises(ValueError, match=words("'h'", "unused")):
        cell(gates="h", unused="h")(one_state_too_few)


def test_an_unknown_name_lists_the_registry():
    with pytest.raises(ValueError, match=words("lsmt", "lstm")):
        minirnn.cells.get("lsmt")
    with pytest.raises(ValueError, match=words("lsmt", "lstm")):
        minirnn.Recurrent("lsmt", 2, 3)


# ---- layers --------------------------------------------------------------------------------------


@pytest.fixture
def lstm():
    return minirnn.LSTM(3, 4, seed=0)


@pytest.fixture
def x():
    return np.zeros((5, 2, 3), np.float32)


@pytest.mark.parametrize(
    "shape", [(5, 2, 7), (3,), (1, 5, 2, 3)], ids=["wrong I", "one axis", "four axes"]
)
def test_an_input_of_a_wrong_shape_is_told_the_right_one(lstm, shape):
    with pytest.raises(ValueError, match=words("LSTM|lstm", "x", "T, B", "3", "got")):
        lstm(np.zeros(shape, np.float32))


def test_an_input_of_another_dtype_is_a_type_error(lstm):
    with pytest.raises(TypeError, match=words("x", "float32", "float64")):
        lstm(np.zeros((5, 2, 3)))


def test_integers_are_a_type_error(lstm):
    with pytest.raises(TypeError, match=words("float32")):
        lstm(np.zeros((5, 2, 3), int))


def test_half_precision_is_a_type_error():
    with pytest.raises(TypeError, match=words("float32", "float64", "float16")):
        minirnn.LSTM(3, 4, dtype=np.float16)


def test_one_array_is_no_state_of_an_lstm(lstm, x):
    with pytest.raises((TypeError, ValueError), match=words("state", "h", "c")):
        lstm(x, np.zeros((1, 2, 4), np.float32))


def test_a_state_of_a_wrong_shape_is_told_the_right_one(lstm, x):
    wrong = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=words("state", r"\(1, 2, 4\)", r"\(2, 4\)")):
        lstm(x, (wrong, wrong))


def test_a_state_of_another_dtype_is_a_type_error(lstm, x):
    wrong = np.zeros((1, 2, 4))
    with pytest.raises(TypeError, match=words("state", "float32", "float64")):
        lstm(x, (wrong, wrong))


@pytest.mark.parametrize(
    "lengths",
    [(5,), (5, 6), (5, -1), (2.5, 1.0)],
    ids=["too few", "too long", "negative", "floats"],
)
def test_wrong_lengths_are_named(lstm, x, lengths):
    with pytest.raises((TypeError, ValueError), match=words("lengths")):
        lstm(x, lengths=lengths)


@pytest.mark.parametrize(
    "sizes", [(0, 4), (3, 0), (3, -1)], ids=["no input", "no units", "negative units"]
)
def test_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match=words("size")):
        minirnn.Recurrent("rnn", *sizes)


def test_a_projection_is_refused_clearly():
    with pytest.raises((TypeError, ValueError, NotImplementedError), match="proj_size"):
        minirnn.LSTM(3, 4, proj_size=2)


def test_an_unknown_nonlinearity_lists_those_there_are():
    with pytest.raises(ValueError, match=words("nonlinearity", "tanh", "relu")):
        minirnn.RNN(3, 4, nonlinearity="swish")


def test_skew_and_bidirectional_exclude_each_other():
    with pytest.raises(ValueError, match=words("skew", "bidirectional")):
        minirnn.Recurrent("rnn", 3, 4, num_layers=2, bidirectional=True, skew=True)


def test_a_strict_load_names_what_is_missing_and_what_is_too_many(lstm):
    weights = lstm.state_dict()
    weights["weight_xx"] = weights.pop("bias_hh_l0")
    with pytest.raises(ValueError, match=words("bias_hh_l0", "weight_xx")):
        lstm.load_state_dict(weights)


# ---- the wrong time ------------------------------------------------------------------------------


def test_a_second_backward_says_that_the_tape_is_freed(lstm, x):
    loss = lstm(x)[0].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=words("backward", "retain_graph")):
        loss.backward()


def test_a_write_between_forward_and_backward_is_an_error(lstm, x):
    loss = lstm(x)[0].sum()
    weight = dict(lstm.named_parameters())["weight_hh_l0"]
    weight.assign(2 * weight.numpy())
    with pytest.raises(RuntimeError, match=words("written|assign|changed")):
        loss.backward()


def test_a_gradient_that_is_read_before_backward_is_an_error(lstm, x):
    with minirnn.watch(lstm) as seen:
        lstm(x)
    assert seen.states["h"].shape == (6, 2, 4)
    with pytest.raises(RuntimeError, match="backward"):
        _ = seen.state_grads["h"]


def test_a_gradient_under_no_grad_is_an_error(lstm, x):
    with minirnn.no_grad(), minirnn.watch(lstm) as seen:
        lstm(x)
    with pytest.raises(RuntimeError, match=words("no_grad|backward")):
        _ = seen.state_grads["h"]


def test_an_unknown_name_in_a_record_lists_the_names(lstm, x):
    with minirnn.watch(lstm) as seen:
        lstm(x)
    with pytest.raises(KeyError, match=words("q", "h")):
        _ = seen.states["q"]


def test_states_of_several_levels_ask_for_one():
    layer = minirnn.GRU(3, 4, num_layers=2, seed=0)
    with minirnn.watch(layer) as seen:
        layer(np.zeros((5, 2, 3), np.float32))
    with pytest.raises((RuntimeError, ValueError), match=words(r"seen\[", "level")):
        _ = seen.states
    assert seen[1, 0].states["h"].shape == (6, 2, 4)


def test_only_a_recurrent_layer_can_be_watched():
    with pytest.raises(TypeError, match=words("watch", "Recurrent", "Linear")):
        with minirnn.watch(minirnn.Linear(2, 3)):
            pass


def test_grammar_functions_answer_in_kind():
    array = np.linspace(-2, 2, 5)
    assert isinstance(sigmoid(array), np.ndarray)
    assert isinstance(sigmoid(minirnn.Tensor(array)), minirnn.Tensor)
