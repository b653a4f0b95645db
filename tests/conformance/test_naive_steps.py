"""Cells of the registry against a NumPy step that was written by hand.

The forward pass to rounding; the gradient by a complex step through the hand-written loop, which
has no cancellation (a step of 1e-30 is exact).
"""

import numpy as np
import pytest
from hypothesis import given

import minirnn
from tests import naive_steps
from tests.conformance import harness
from tests.strategies import Case, cases

STEP = 1e-30
# Truncation makes its gradient no derivative of the loop: test_lstm_1997.py.
DIFFERENTIABLE = [name for name in naive_steps.STEPS if name != "lstm_1997_truncated"]


@pytest.mark.parametrize("name", naive_steps.STEPS)
@given(case=cases(max_layers=1, directions=(False,), biases=(True,)))
def test_a_layer_equals_the_hand_written_loop(name, case):
    layer = harness.build(name, case)
    data = harness.draw(layer, case)
    with minirnn.no_grad():
        output, state = layer(data.x, harness.pack(data.state0))
    state0 = tuple(s[0] for s in data.state0)
    rows = naive_steps.run(name, harness.parameters(layer), data.x, state0)
    # Rounding over at most nine steps.
    harness.assert_close(output.numpy(), rows[0][1:], 1e-12, "output")
    for k, value, row in zip(layer.cell.state, harness.unpack(state), rows, strict=True):
        harness.assert_close(value.numpy()[0], row[-1], 1e-12, k)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_gradient_is_that_of_the_hand_written_loop(name):
    """Along a random direction of the input, the initial states and every parameter."""
    case = Case(T=6, B=3, I=4, H=9, seed=11)
    layer = harness.build(name, case)
    data = harness.draw(layer, case)
    results = harness.run(layer, data)
    rng = np.random.default_rng(3)
    terms = []

    def moved(array, gradient):
        direction = rng.normal(size=array.shape)
        terms.append((gradient * direction).ravel())
        return array + 1j * STEP * direction

    w = {k: moved(v, results[f"d {k}_l0"]) for k, v in harness.parameters(layer).items()}
    x = moved(data.x, results["d x"])
    state0 = tuple(
        moved(s[0], results[f"d state0.{k}"][0])
        for k, s in zip(layer.cell.state, data.state0, strict=True)
    )
    rows = naive_steps.run(name, w, x, state0)
    loss = (rows[0][1:] * data.d_output).sum()
    loss += sum((row[-1] * d[0]).sum() for row, d in zip(rows, data.d_state, strict=True))
    terms = np.concatenate(terms)
    # Rounding of a few thousand terms.
    assert abs(terms.sum() - loss.imag / STEP) <= 1e-11 * np.linalg.norm(terms)


def test_a_stack_of_depth_gated_levels_equals_the_hand_written_loops():
    """The second level reads the output and the cells of the first after the same step."""
    case = Case(T=6, B=3, I=4, H=9, L=2, seed=12)
    layer = harness.build("depth_gated", case)
    data = harness.draw(layer, case)
    with minirnn.no_grad():
        output, (h, c) = layer(data.x, data.state0)
    low = naive_steps.run(
        "depth_gated", harness.parameters(layer), data.x, tuple(s[0] for s in data.state0)
    )
    below = tuple(rows[1:] for rows in low)
    high = naive_steps.run(
        "depth_gated", harness.parameters(layer, "_l1"), below[0],
        tuple(s[1] for s in data.state0), below,
    )  # fmt: skip
    harness.assert_close(output.numpy(), high[0][1:], 1e-12, "output")
    for level, rows in enumerate((low, high)):
        harness.assert_close(h.numpy()[level], rows[0][-1], 1e-12, "h")
        harness.assert_close(c.numpy()[level], rows[1][-1], 1e-12, "c")


@pytest.mark.parametrize("start", [0, 1, 5])
def test_clockwork_counts_its_steps_from_the_start_it_is_told(start):
    case = Case(T=9, B=3, I=4, H=11, seed=13)
    layer = harness.build("clockwork", case)
    data = harness.draw(layer, case)
    with minirnn.no_grad():
        output, _ = layer(data.x, data.state0[0], start=start)
    state0 = (data.state0[0][0],)
    (rows,) = naive_steps.run("clockwork", harness.parameters(layer), data.x, state0, start=start)
    harness.assert_close(output.numpy(), rows[1:], 1e-12)
