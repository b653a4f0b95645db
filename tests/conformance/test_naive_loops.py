"""Layers against hand-written NumPy loops: outputs, states and every gradient."""

import numpy as np
import pytest
from hypothesis import given

import minirnn
from tests import naive
from tests.conformance import harness
from tests.strategies import Case, cases


@pytest.mark.parametrize("name", naive.CELLS)
@given(case=cases(max_layers=1, directions=(False,), biases=(True,)))
def test_a_layer_equals_the_hand_written_loop(name, case):
    layer = harness.build(name, case)
    data = harness.draw(layer, case)
    results = harness.run(layer, data)

    w = harness.parameters(layer)
    states, saved = naive.run(name, w, data.x, tuple(s[0] for s in data.state0))
    d_states = tuple(np.zeros_like(rows) for rows in states)
    d_states[0][1:] = data.d_output
    for rows, d_state in zip(d_states, data.d_state, strict=True):
        rows[-1] += d_state[0]
    dw, dx, d_state0 = naive.run_back(name, w, saved, d_states)

    # Rounding over at most nine steps.
    harness.assert_close(results["output"], states[0][1:], 1e-12, "output")
    harness.assert_close(results["d x"], dx, 1e-11, "dx")
    for k, rows, d in zip(layer.cell.state, states, d_state0, strict=True):
        harness.assert_close(results[f"state.{k}"][0], rows[-1], 1e-12, k)
        harness.assert_close(results[f"d state0.{k}"][0], d, 1e-11, f"d state0.{k}")
    for key, value in dw.items():
        harness.assert_close(results[f"d {key}_l0"], value, 1e-11, key)


# Where a hand-written step keeps its gates.
KEPT = {
    "rnn": {"h": 3},
    "lstm": {"i": 3, "f": 4, "g": 5, "o": 6},
    "lstm_peephole": {"i": 3, "f": 4, "g": 5, "o": 6},
    "gru": {"r": 2, "z": 3, "n": 4},
    "gru_before": {"r": 2, "z": 3, "n": 4},
}


@pytest.mark.parametrize("name", KEPT)
def test_watched_states_and_gates_are_those_of_the_loop(name):
    case = Case(T=6, B=4, I=3, H=9, seed=21)
    layer = harness.build(name, case)
    data = harness.draw(layer, case)
    with minirnn.watch(layer) as seen:
        layer(data.x, harness.pack(data.state0))
    state0 = tuple(s[0] for s in data.state0)
    states, saved = naive.run(name, harness.parameters(layer), data.x, state0)
    for k, rows in zip(layer.cell.state, states, strict=True):
        harness.assert_close(seen.states[k], rows, 1e-12, k)
    assert set(seen.gates) == set(KEPT[name])
    for k, place in KEPT[name].items():
        harness.assert_close(seen.gates[k], np.stack([s[place] for s in saved]), 1e-12, k)


def test_a_gate_without_an_activation_is_its_whole_argument():
    @minirnn.cell(gates="h")
    def linear(wx, u, prev):
        return 0.5 * (wx.h + u.h @ prev.h)

    case = Case(T=6, B=4, I=3, H=9, seed=22)
    layer = harness.build(linear, case)
    data = harness.draw(layer, case)
    with minirnn.watch(layer) as seen:
        layer(data.x, harness.pack(data.state0))
    # h = a / 2; rounding of one operation.
    harness.assert_close(seen.gates["h"], 2 * seen.states["h"][1:], 1e-15, "h")
