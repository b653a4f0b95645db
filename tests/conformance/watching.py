"""What ``watch`` shows must agree with the reference, with itself and with the gradients."""

from dataclasses import replace

import numpy as np

import minirnn
from minirnn.layers.reference import use_reference
from tests import arrays
from tests.conformance import harness
from tests.conformance.harness import TOLERANCE, assert_agrees

RECORDS = ("states", "state_grads", "carried_grads", "gates", "gate_grads", "recurrent_gate_grads")


def watched(layer, data, lengths=None):
    """Run forward and backward under ``watch``; returns the window and the run's results."""
    with minirnn.watch(layer) as seen:
        results = harness.run(layer, data, lengths)
    return seen, results


def views(seen, case):
    """Every level and direction of a layer, by (level, direction)."""
    places = [(j, d) for j in range(case.L) for d in range(1 + case.bidirectional)]
    return {place: seen[place] for place in places}


def every_record_equals_the_reference(cell, case, dtype):
    """States, gates and all gradients, of every level and direction."""
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    fused, results = watched(layer, data, case.lengths)
    with use_reference():
        expected, _ = watched(layer, data, case.lengths)
    plain = harness.run(layer, data, case.lengths)
    harness.assert_all_same_bits(results, plain)  # watching changes nothing
    theirs = views(expected, case)
    for place, view in views(fused, case).items():
        for record in RECORDS:
            actual, wanted = getattr(view, record), getattr(theirs[place], record)
            assert set(actual) == set(wanted), record
            for name in wanted:
                label = f"{record}[{name}] of {place}"
                assert_agrees(actual[name], wanted[name], dtype, label)


def gate_gradients_sum_to_the_gradients_of_the_weights(cell, case, dtype):
    """``dW_ih = sum gate_grads^T x``; biases are plain sums; row 0 of carried_grads is d state0."""
    case = replace(case, L=1, bidirectional=False, bias=True)
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    seen, results = watched(layer, data, case.lengths)
    equations = layer.cell

    by_gate = np.stack([seen.gate_grads[k] for k in equations.gates], axis=2)  # (T, B, G, H)
    weight_ih = np.einsum("tbgh,tbi->ghi", by_gate, data.x).reshape(-1, case.I)
    assert_agrees(weight_ih, results["d weight_ih_l0"], dtype, "weight_ih")
    assert_agrees(by_gate.sum((0, 1)).ravel(), results["d bias_ih_l0"], dtype, "bias_ih")
    for k, part in arrays.blocks_of(equations.biased, results["d bias_hh_l0"]).items():
        assert_agrees(seen.recurrent_gate_grads[k].sum((0, 1)), part, dtype, f"bias_hh of {k}")
    for k in equations.state:
        assert_agrees(seen.carried_grads[k][0], results[f"d state0.{k}"][0], dtype, k)


def the_records_of_a_pullback_are_those_of_backward(cell, case, dtype):
    """``pullback`` of the same cotangents, any number of times, also before backward."""
    case = replace(case, L=1, bidirectional=False)
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    seen, _ = watched(layer, data, case.lengths)
    d_state = harness.pack(tuple(d[0] for d in data.d_state))
    for _ in range(2):
        back = seen.pullback(d_output=data.d_output, d_state=d_state)
        for record in ("state_grads", "carried_grads", "gate_grads", "recurrent_gate_grads"):
            for name, value in getattr(seen, record).items():
                label = f"{record}[{name}]"
                assert_agrees(getattr(back, record)[name], value, dtype, label)


def a_pullback_is_linear(cell, case, dtype):
    """The pullback of 2 a - 3 b is 2 times that of a minus 3 times that of b."""
    case = replace(case, L=1, bidirectional=False)
    layer = harness.build(cell, case, dtype)
    data = harness.draw(layer, case, dtype)
    other = harness.draw(layer, replace(case, seed=case.seed + 1), dtype)
    seen, _ = watched(layer, data, case.lengths)

    def pull(d_output, d_state):
        return seen.pullback(d_output=d_output, d_state=harness.pack(tuple(d_state)))

    ours, theirs = [d[0] for d in data.d_state], [d[0] for d in other.d_state]
    a, b = pull(data.d_output, ours), pull(other.d_output, theirs)
    both = pull(
        2 * data.d_output - 3 * other.d_output,
        [2 * one - 3 * two for one, two in zip(ours, theirs, strict=True)],
    )
    for k in layer.cell.state:
        wanted = 2 * a.carried_grads[k] - 3 * b.carried_grads[k]
        scale = np.abs(a.carried_grads[k]).max() + np.abs(b.carried_grads[k]).max() + 1e-30
        # Relative to the terms: their difference may cancel.
        error = np.abs(both.carried_grads[k] - wanted).max() / scale
        assert error <= 5 * TOLERANCE[dtype], (k, error)


WATCH_CHECKS = (
    every_record_equals_the_reference,
    gate_gradients_sum_to_the_gradients_of_the_weights,
    the_records_of_a_pullback_are_those_of_backward,
    a_pullback_is_linear,
)
