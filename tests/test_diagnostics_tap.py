"""The tap before a layer's forward pass: it nests, it goes, and no copy of the layer has one."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.quantities.watching import Tap, calls_of

X = np.ones((3, 2, 4), np.float32)


@pytest.fixture
def layer():
    return minirnn.LSTM(4, 5, seed=0)


def counting(calls, name):
    def through(forward, *given, **named):
        calls.append(name)
        return forward(*given, **named)

    return through


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_taps_nest_and_go_in_any_order(layer, order):
    calls = []
    taps = [Tap(layer, counting(calls, k)) for k in range(3)]
    layer(X)
    assert calls == [2, 1, 0]
    left = [0, 1, 2]
    for k in order:
        taps[k].remove()
        left.remove(k)
        calls.clear()
        layer(X)
        assert calls == left[::-1]
    assert "forward" not in vars(layer)


def test_a_forward_that_somebody_else_put_there_is_there_afterwards(layer):
    plain = layer.forward
    layer.forward = lambda *given: plain(*given)
    theirs = layer.forward
    tap = Tap(layer, lambda forward, *given: forward(*given))
    layer(X)
    tap.remove()
    assert vars(layer)["forward"] is theirs


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_tapped_layer_runs_its_own_forward(layer, twin):
    calls = []
    tap = Tap(layer, lambda forward, *given: forward(*given))
    other = twin(layer)
    tap.remove()
    layer.forward = lambda *given: calls.append(given)
    other.weight_ih_l0.assign(np.zeros((20, 4), np.float32))
    output, _ = other(X)
    same, _ = minirnn.LSTM.forward(other, X)
    np.testing.assert_array_equal(output.numpy(), same.numpy())
    assert not calls


def test_a_tapped_layer_shows_its_own_signature(layer):
    before = inspect.signature(layer.forward)
    tap = Tap(layer, lambda forward, *given: forward(*given))
    assert inspect.signature(layer.forward) == before
    tap.remove()


def test_measuring_a_tapped_layer_leaves_the_tap(layer):
    calls = []
    tap = Tap(layer, counting(calls, "mine"))
    dg.tbptt_error(layer, X, np.zeros((3, 2, 5), np.float32), chunks=[1])
    with calls_of(layer) as theirs:
        layer(X)
    assert len(theirs) == 1
    calls.clear()
    layer(X)
    assert calls == ["mine"]
    tap.remove()
