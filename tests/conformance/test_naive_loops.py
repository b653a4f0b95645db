"""Layers against hand-written NumPy loops: outputs, states and every gradient."""

import numpy as np
import pytest
from hypothesis import given

from tests import naive
from tests.conformance import harness
from tests.strategies import cases


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
