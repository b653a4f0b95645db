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


NUMERIC_CHECKS = (
    the_function_on_arrays_gives_the_fused_forward,
    the_fused_gradient_equals_a_complex_step,
    the_reference_passes_gradcheck,
)
