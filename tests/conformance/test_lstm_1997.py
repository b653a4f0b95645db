"""The LSTM of 1997 with the gradient of the paper: what was fed back passes none."""

import numpy as np
import pytest

import minirnn
from tests import naive_steps
from tests.conformance import harness
from tests.conformance.harness import assert_close, assert_same_bits
from tests.strategies import Case

CASE = Case(T=5, B=2, I=3, H=4, seed=51)
STEP = 1e-30


@pytest.fixture
def layer():
    return harness.build("lstm_1997_truncated", CASE)


@pytest.fixture
def data(layer):
    return harness.draw(layer, CASE)


def test_truncation_changes_no_value(layer, data):
    whole = harness.build("lstm_1997", CASE)
    whole.load_state_dict(layer.state_dict())
    truncated, full = harness.run(layer, data), harness.run(whole, data)
    for name in ("output", "state.h", "state.c", "state.i", "state.o"):
        assert_same_bits(truncated[name], full[name], name)
    for name in ("d weight_ih_l0", "d weight_hh_l0", "d state0.c"):
        assert (truncated[name] != full[name]).all(), name
    # At the last step nothing is cut off.
    assert (truncated["d x"][:-1] != full["d x"][:-1]).all()
    assert_close(truncated["d x"][-1], full["d x"][-1], 1e-14)


def test_only_the_cell_carries_an_error_and_it_does_so_unchanged(layer, data):
    """The constant error carousel: dc_T / dc_0 is exactly the identity."""
    x, state0 = harness.leaves(data)
    _, (_, c, _, _) = layer(x, state0)
    c.sum().backward()
    assert (state0[1].grad == 1.0).all()
    for state in (state0[0], state0[2], state0[3]):
        assert state.grad is None or not state.grad.any()


def detached_loss(w, x, state0, frozen, data):
    """Loss of the hand-written loop in which h, i and o of the step before are numbers.

    frozen: the states (T+1, B, H) of a run at the point where the gradient is taken.
    """
    c = state0[1]
    loss = 0.0
    for t, x_t in enumerate(x):
        fed_back = tuple(rows[t] for rows in frozen)
        state = naive_steps.lstm_1997(w, x_t, (fed_back[0], c, *fed_back[2:]), t, None)
        c = state[1]
        loss += (state[0] * data.d_output[t]).sum()
    return loss + sum((s * d[0]).sum() for s, d in zip(state, data.d_state, strict=True))


def test_the_gradient_is_that_of_the_graph_with_the_operands_detached(layer, data):
    """Each number is moved by a complex step, in a loop that shares no code with the library."""
    results = harness.run(layer, data)
    w = harness.parameters(layer)
    state0 = tuple(s[0] for s in data.state0)
    frozen = naive_steps.run("lstm_1997", w, data.x, state0)

    def derivative(array, rebuild):
        out = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * STEP
            out[index] = detached_loss(*rebuild(moved), frozen, data).imag / STEP
        return out

    assert_close(results["d x"], derivative(data.x, lambda v: (w, v, state0)), 1e-12, "x")
    of_c = derivative(state0[1], lambda v: (w, data.x, (state0[0], v, *state0[2:])))
    assert_close(results["d state0.c"][0], of_c, 1e-12, "c")
    for name, value in w.items():
        wanted = derivative(value, lambda v, name=name: (w | {name: v}, data.x, state0))
        assert_close(results[f"d {name}_l0"], wanted, 1e-12, name)


def test_plain_gradcheck_fails_as_it_must(layer, data):
    """The truncated gradient is no derivative of the function; that of ``lstm_1997`` is."""

    def loss(layer):
        def of(x):
            output, state = layer(x, data.state0)
            return harness.weighted(output, state, data)

        return of

    x = minirnn.Tensor(data.x, requires_grad=True)
    with pytest.raises(minirnn.GradcheckError) as raised:
        minirnn.gradcheck(loss(layer), (x,))
    assert raised.value.index[0] < CASE.T - 1  # at the last step nothing is cut off
    assert minirnn.gradcheck(loss(harness.build("lstm_1997", CASE)), (x,))


def test_cell_input_and_output_are_squashed_as_in_the_paper():
    """g in [-2, 2] and h in [-1, 1], at saturation."""
    layer = minirnn.Recurrent("lstm_1997", 1, 1, dtype="float64")
    zero = {k: np.zeros_like(v) for k, v in layer.state_dict().items()}
    zero["bias_ih_l0"] = np.array([50.0, 50.0, 50.0])  # i = 1, g = 2, o = 1
    layer.load_state_dict(zero)
    with minirnn.no_grad():
        output, (_, c, i, o) = layer(np.zeros((40, 1)))
    assert (c.numpy() == 80).all() and (i.numpy() == 1).all() and (o.numpy() == 1).all()
    assert output.numpy()[-1] == 1.0
    np.testing.assert_allclose(output.numpy()[0], 2 / (1 + np.exp(-2)) - 1, rtol=1e-15)
