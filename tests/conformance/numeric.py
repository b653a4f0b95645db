"""Checks against numeric derivatives: for cells without a kink and without ``stop``, in float64.

The complex step runs the cell's own function on complex NumPy arrays; it has no cancellation, so
its error is rounding alone (Squire and Trapp 1998): a step of 1e-30 is exact.
"""

from dataclasses import replace

import numpy as np

import minirnn
from minirnn.layers.reference import use_reference
from tests import arrays
from tests.conformance import harness
from tests.conformance.harness import assert_close
from tests.conformance.watching import watched

STEP = 1e-30
# The bound of the project; the complex step itself reaches 1e-13.
NUMERIC = 1e-6


def _single(case):
    """One level, one direction, no lengths, few numbers."""
    return replace(case, T=min(case.T, 5), L=1, bidirectional=False, lengths=None, bias=True)


def the_function_on_arrays_gives_the_fused_forward(cell, case):
    """The third way to run the equations: no tape, no kernel."""
    case = _single(case)
    layer = harness.build(cell, case)
    data = harness.draw(layer, case)
    results = harness.run(layer, data)
    state0 = tuple(s[0] for s in data.state0)
    states = arrays.run(layer.cell, harness.parameters(layer), data.x, state0)
    assert_close(results["output"], states[0][1:], 1e-12, "output")
    for k, rows in zip(layer.cell.state, states, strict=True):
        assert_close(results[f"state.{k}"][0], rows[-1], 1e-12, k)


def the_fused_gradient_equals_a_complex_step(cell, case):
    """Derivative along a random direction of x, initial states and all parameters."""
    case = _single(case)
    layer = harness.build(cell, case)
    data = harness.draw(layer, case)
    results = harness.run(layer, data)
    rng = np.random.default_rng(case.seed)
    w = harness.parameters(layer)
    state0 = tuple(s[0] for s in data.state0)

    def towards(array):
        direction = rng.normal(size=array.shape)
        return direction, array + 1j * STEP * direction

    v_x, x = towards(data.x)
    v_state, state = zip(*map(towards, state0), strict=True)
    v_w, w = zip(*((v, z) for v, z in map(towards, w.values())), strict=True)
    names = list(harness.parameters(layer))
    states = arrays.run(layer.cell, dict(zip(names, w, strict=True)), x, state)
    loss = (states[0][1:] * data.d_output).sum()
    for rows, d_state in zip(states, data.d_state, strict=True):
        loss += (rows[-1] * d_state[0]).sum()

    terms = [(results["d x"] * v_x).ravel()]
    for k, v in zip(layer.cell.state, v_state, strict=True):
        terms.append((results[f"d state0.{k}"][0] * v).ravel())
    for name, v in zip(names, v_w, strict=True):
        terms.append((results[f"d {name}_l0"] * v).ravel())
    terms = np.concatenate(terms)
    error = abs(terms.sum() - loss.imag / STEP)
    assert error <= NUMERIC * np.linalg.norm(terms), (error, np.linalg.norm(terms))


def the_reference_passes_gradcheck(cell, case):
    """Central differences over the inputs, the initial states and every parameter."""
    case = _single(replace(case, T=min(case.T, 3), B=min(case.B, 2), I=2, H=min(case.H, 3)))
    layer = harness.build(cell, case)
    data = harness.draw(layer, case)
    x, state0 = harness.leaves(data)
    with use_reference():

        def loss(x, *state):
            output, final = layer(x, harness.pack(state))
            return harness.weighted(output, harness.unpack(final), data)

        assert minirnn.gradcheck(loss, (x, *state0), rtol=NUMERIC)
        for parameter in layer.parameters():
            # The parameter is perturbed where it stands: the layer reads it anew at each call.
            assert minirnn.gradcheck(
                lambda _: loss(minirnn.Tensor(data.x), *map(minirnn.Tensor, data.state0)),
                (parameter,),
                rtol=NUMERIC,
            )


def carried_gradients_obey_the_recurrence_with_the_numeric_jacobian(cell, case):
    """``delta_t = eps_t + J^T delta_{t+1}``, J by complex step through the cell's function."""
    case = replace(
        case, T=min(case.T, 4), B=min(case.B, 2), H=min(case.H, 5), L=1, bidirectional=False,
        lengths=None, bias=True,
    )  # fmt: skip
    layer = harness.build(cell, case)
    data = harness.draw(layer, case)
    seen, _ = watched(layer, data)
    w, names = harness.parameters(layer), layer.cell.state
    carried = np.concatenate([seen.carried_grads[k] for k in names], axis=-1)  # (T+1, B, S)
    eps = np.zeros_like(carried)
    eps[1:, :, : case.H] = data.d_output
    eps[-1] += np.concatenate([d[0] for d in data.d_state], axis=-1)
    assert_close(carried[-1], eps[-1], 1e-12, "last row")
    for t in range(case.T):
        state = [seen.states[k][t] for k in names]
        jacobian = step_jacobian(layer.cell, w, data.x[t], state, t)
        wanted = eps[t] + np.einsum("bij,bi->bj", jacobian, carried[t + 1])
        assert_close(carried[t], wanted, 1e-9, f"row {t}")


def step_jacobian(cell, w, x, state, t):
    """Jacobian of one step by complex step: (B, S, S), entry [b, i, j] = d new[i] / d old[j]."""
    old = np.concatenate(state, axis=-1)
    columns = []
    for j in range(old.shape[-1]):
        moved = old.astype(complex)
        moved[:, j] += 1j * STEP
        new = arrays.step(cell, w, x, tuple(np.split(moved, len(state), axis=-1)), t)
        columns.append(np.concatenate(new, axis=-1).imag / STEP)
    return np.stack(columns, axis=-1)


NUMERIC_CHECKS = (
    the_function_on_arrays_gives_the_fused_forward,
    the_fused_gradient_equals_a_complex_step,
    carried_gradients_obey_the_recurrence_with_the_numeric_jacobian,
)
