"""Step Jacobians against pullbacks, central differences and closed forms, for every cell."""

import numpy as np
import pytest
from hypothesis import given

import diagnostics as dg
import minirnn
from diagnostics.quantities import step_jacobians as quantity
from minirnn import cell, mean, sigmoid, stop, tanh
from minirnn.layers import jacobians
from minirnn.layers.reference import use_reference
from tests.conformance.test_corner_cells import CORNERS
from tests.strategies import programs

STEPS, INPUTS, UNITS = 3, 2, 4


@cell(gates="ab", state="hm")
def means_in_two_stages(wx, u, prev):
    """A mean of a product of a mean: one number for all units, multiplied and added again."""
    a = tanh(wx.a + u.a @ (prev.h - mean(prev.m)))
    b = sigmoid(wx.b + u.b @ (a * mean(a * prev.h)))
    return a + b * mean(b), prev.m * mean(b) + stop(a)


@cell(gates="abc", state="hm", vectors=("v",))
def three_stages(wx, u, prev, p):
    a = tanh(wx.a + u.a @ (prev.h + p.v * prev.m))
    b = tanh(wx.b + u.b @ a)
    c = sigmoid(wx.c + u.c @ (a * b))
    return b + c * (prev.h - b), a


CELLS = [*minirnn.cells.names(), *CORNERS, means_in_two_stages, three_stages]


def build(made, **options):
    return minirnn.Recurrent(made, INPUTS, UNITS, dtype="float64", seed=3, **options)


def states_of(layer, rng, batch):
    rows = (layer.num_layers * layer.directions, batch, UNITS)
    return tuple(0.5 * rng.normal(size=rows) for _ in layer.cell.state)


def packed(states):
    return states[0] if len(states) == 1 else tuple(states)


def record(layer, x, states, lengths=None, start=0, place=None):
    """Watch one forward pass by the reference: nothing to compile, and independent of kernels."""
    with use_reference(), minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(x, packed(states), lengths=lengths, start=start)
    return seen[place or (layer.num_layers - 1, 0)]


def by_pullbacks(record, names):
    """T*S backward passes, S of them at once: sequence i, a copy, gets the i-th unit cotangent."""
    steps = record.states[names[0]].shape[0] - 1
    size = len(names) * UNITS
    found = np.zeros((steps, size, size))
    for t in range(steps):
        cotangents = {k: np.zeros((steps + 1, size, UNITS)) for k in names}
        for i in range(size):
            cotangents[names[i // UNITS]][t + 1, i, i % UNITS] = 1
        back = record.pullback(d_state=cotangents).carried_grads
        found[t] = np.concatenate([back[k][t] for k in names], axis=1)
    return found


def title(made):
    return made if isinstance(made, str) else made.name


@pytest.mark.parametrize("made", CELLS, ids=title)
def test_jacobians_are_what_backward_passes_give(made, rng):
    layer = build(made, num_layers=2)
    names = layer.cell.state
    copies = len(names) * UNITS
    x = np.repeat(rng.normal(size=(STEPS, 1, INPUTS)), copies, axis=1)
    states = [np.repeat(s, copies, axis=1) for s in states_of(layer, rng, 1)]
    seen = record(layer, x, states, start=2)
    jacobian = seen.step_jacobians()
    assert jacobian.shape == (STEPS, copies, copies, copies)
    # Rounding of a few operations; entries are of order 1.
    np.testing.assert_allclose(jacobian[:, 0], by_pullbacks(seen, names), rtol=1e-12, atol=1e-13)


@given(programs())
def test_jacobians_of_random_cells_are_what_backward_passes_give(program):
    rng = np.random.default_rng(5)
    layer = build(program.cell())
    names = layer.cell.state
    copies = len(names) * UNITS
    x = np.repeat(rng.normal(size=(STEPS, 1, INPUTS)), copies, axis=1)
    states = [np.repeat(s, copies, axis=1) for s in states_of(layer, rng, 1)]
    seen = record(layer, x, states)
    expected = by_pullbacks(seen, names)
    # Rounding; random cells have longer chains of operations.
    np.testing.assert_allclose(seen.step_jacobians()[:, 0], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("made", CELLS, ids=title)
@pytest.mark.parametrize("lengths", [None, (3, 0, 1)], ids=["full", "lengths"])
def test_the_mean_of_all_jacobians_is_that_of_those_written_down(made, lengths, rng):
    layer = build(made, num_layers=2)
    x, states = rng.normal(size=(STEPS, 3, INPUTS)), states_of(layer, rng, 3)
    seen = record(layer, x, states, lengths, start=2)
    alive = np.arange(STEPS)[:, None] < (np.full(3, STEPS) if lengths is None else lengths)
    expected = seen.step_jacobians()[alive].mean(axis=0)
    np.testing.assert_allclose(seen.mean_jacobian(), expected, rtol=1e-12, atol=1e-14)


@given(programs())
def test_the_mean_jacobian_of_random_cells_is_that_of_those_written_down(program):
    rng = np.random.default_rng(6)
    layer = build(program.cell())
    x, states = rng.normal(size=(STEPS, 2, INPUTS)), states_of(layer, rng, 2)
    seen = record(layer, x, states)
    expected = seen.step_jacobians().mean(axis=(0, 1))
    np.testing.assert_allclose(seen.mean_jacobian(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_a_mean_is_the_same_however_many_rows_are_worked_on_at_a_time(name, monkeypatch, rng):
    layer = build(name)
    seen = record(layer, rng.normal(size=(7, 3, INPUTS)), states_of(layer, rng, 3))
    whole = seen.mean_jacobian()
    monkeypatch.setattr(jacobians, "_WORKING", 4 * UNITS**2 * 8)
    np.testing.assert_allclose(seen.mean_jacobian(), whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["lstm", "gru_before", "lstm_layernorm"])
def test_a_mean_in_single_precision_is_near_that_in_double(name, rng):
    x, states = rng.normal(size=(20, 3, INPUTS)), None
    found = []
    for dtype in ("float32", "float64"):
        layer = minirnn.Recurrent(name, INPUTS, 9, dtype=dtype, seed=3)
        with use_reference(), minirnn.watch(layer) as seen, minirnn.no_grad():
            layer(x.astype(dtype), states)
        found.append(seen.mean_jacobian(sequences=[2, 0]))
        expected = seen.step_jacobians(sequences=[2, 0]).mean(axis=(0, 1), dtype=np.float64)
        # Entries of order 1 that were rounded a few times each.
        np.testing.assert_allclose(found[-1], expected, atol=20 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_jacobians_that_overflow_do_so_without_a_warning(rng):
    layer = minirnn.Recurrent("lstm", INPUTS, UNITS, dtype="float32", seed=3)
    layer.weight_hh_l0.assign(layer.weight_hh_l0.numpy() * 1e3)
    states = tuple(np.full((1, 1, UNITS), v, np.float32) for v in (0.0, 1e38))
    x = np.zeros((3, 1, INPUTS), np.float32)
    seen = record(layer, x, states)
    assert not np.isfinite(seen.step_jacobians()).all()
    # The mean is taken in double precision, which holds them.
    assert np.finfo(np.float32).max < np.abs(seen.mean_jacobian()).max() < np.inf


def test_there_is_no_mean_of_no_steps(rng):
    layer = build("lstm")
    seen = record(layer, rng.normal(size=(2, 1, INPUTS)), states_of(layer, rng, 1), (0,))
    assert np.isnan(seen.mean_jacobian()).all()


def test_some_sequences_may_be_asked_for(rng):
    layer, x = build("gru"), rng.normal(size=(4, 3, INPUTS))
    seen = record(layer, x, states_of(layer, rng, 3), (4, 2, 3))
    every = seen.step_jacobians()
    np.testing.assert_array_equal(seen.step_jacobians(2, [2, 0]), every[:2, [2, 0]])
    np.testing.assert_array_equal(seen.step_jacobians(sequences=1), every[:, :1])
    with pytest.raises(ValueError, match=r"sequences must lie in 0 to B=3, got 4"):
        seen.step_jacobians(sequences=4)
    with pytest.raises(ValueError, match=r"sequences must hold indices in 0 to 2, got 3 to 3"):
        seen.step_jacobians(sequences=[3])


def by_differences(layer, x_t, state, eps=1e-5):
    """Central differences of one step: every perturbed state is a sequence of one batch."""
    names, size = layer.cell.state, len(layer.cell.state) * UNITS
    flat = np.concatenate([s[0, 0] for s in state])
    moved = np.concatenate([flat + eps * np.eye(size), flat - eps * np.eye(size)])
    given = tuple(np.ascontiguousarray(part)[None] for part in np.split(moved, len(names), axis=1))
    with use_reference():
        after = layer.step(np.repeat(x_t, 2 * size, axis=0), packed(given))
    after = after if isinstance(after, tuple) else (after,)
    rows = np.concatenate([s.numpy()[0] for s in after], axis=1)
    return ((rows[:size] - rows[size:]) / (2 * eps)).T


def passes_every_derivative(made):
    """Whether differences can be compared: ``stop`` hides a dependence from derivatives."""
    name = title(made)
    return name not in ("lstm_1997_truncated", "means_in_two_stages")


@pytest.mark.parametrize("made", [c for c in CELLS if passes_every_derivative(c)], ids=title)
def test_jacobians_are_what_central_differences_give(made, rng):
    layer = build(made)
    x, states = rng.normal(size=(1, 1, INPUTS)), states_of(layer, rng, 1)
    jacobian = record(layer, x, states).step_jacobians()
    # Third derivatives of order 1 times eps^2 = 1e-10, and rounding over eps.
    np.testing.assert_allclose(jacobian[0, 0], by_differences(layer, x[0], states), atol=1e-8)


def test_stop_hides_a_dependence_that_differences_see(rng):
    layer = build("lstm_1997_truncated")
    x, states = rng.normal(size=(1, 1, INPUTS)), states_of(layer, rng, 1)
    jacobian = record(layer, x, states).step_jacobians()[0, 0]
    expected = np.zeros((4, UNITS, 4, UNITS))
    unit = np.arange(UNITS)
    # c' = c + i g, with the gates' products cut off: h' = o (2 sigmoid(c') - 1).
    expected[1, unit, 1, unit] = 1
    after = record(layer, x, states).states
    c, o = after["c"][1, 0], after["o"][1, 0]
    s = 1 / (1 + np.exp(-c))
    expected[0, unit, 1, unit] = o * 2 * s * (1 - s)
    np.testing.assert_allclose(jacobian, expected.reshape(16, 16), atol=1e-14)
    assert np.abs(jacobian - by_differences(layer, x[0], states)).max() > 1e-2


@pytest.mark.parametrize("name", ["lstm", "gru_before", "lstm_layernorm"])
@pytest.mark.parametrize("lengths", [None, (5, 0, 3)], ids=["full", "lengths"])
def test_carried_gradients_obey_the_recursion_of_the_jacobians(name, lengths, rng):
    """delta_t = eps_t + J_{t+1}^T delta_{t+1}, in the reverse direction of a stack too."""
    layer = build(name, num_layers=2, bidirectional=True)
    names, steps, batch = layer.cell.state, 5, 3
    x, states = rng.normal(size=(steps, batch, INPUTS)), states_of(layer, rng, batch)
    seen = record(layer, x, states, lengths, place=(1, 1))
    eps = {k: rng.normal(size=(steps + 1, batch, UNITS)) for k in names}
    if lengths is not None:  # nothing arrives after the length
        after = np.arange(steps + 1)[:, None] > np.array(lengths)
        for k in names:
            eps[k][after] = 0
    delta = seen.pullback(d_state=eps).carried_grads
    jacobian = seen.step_jacobians()
    joined = {n: np.concatenate([d[k] for k in names], axis=2) for n, d in
              (("eps", eps), ("delta", delta))}  # fmt: skip
    expected = joined["delta"][steps]
    for t in range(steps - 1, -1, -1):
        expected = joined["eps"][t] + np.einsum("bij,bi->bj", jacobian[t], expected)
        np.testing.assert_allclose(joined["delta"][t], expected, rtol=1e-12, atol=1e-13)


def at_zero(name, weights, biases):
    """Jacobian at the zero fixed point: no input, state 0."""
    layer = minirnn.Recurrent(name, 1, UNITS, dtype="float64", seed=0)
    for parameter in layer.parameters():
        parameter.assign(np.zeros(parameter.shape))
    layer.weight_hh_l0.assign(weights)
    layer.bias_ih_l0.assign(biases)
    return dg.step_jacobians(layer, np.zeros((2, 1))).value[-1, 0]


def logistic(a):
    return 1 / (1 + np.exp(-a))


def test_lstm_at_the_zero_fixed_point_has_the_eigenvalues_of_the_closed_form(rng):
    weights, biases = rng.normal(size=(4, UNITS, UNITS)), rng.normal(size=(4, UNITS))
    biases[2] = 0  # of g: then zero is a fixed point
    jacobian = at_zero("lstm", weights.reshape(-1, UNITS), biases.ravel())
    i, f, o = (logistic(biases[k]) for k in (0, 1, 3))
    expected = np.linalg.eigvals(np.diag(f) + np.diag(i) @ weights[2] @ np.diag(o))
    found = np.linalg.eigvals(jacobian)
    found = found[np.argsort(-np.abs(found))]
    # The H others are 0, up to the square root of rounding where the matrix is defective.
    assert np.abs(found[UNITS:]).max() < 1e-7
    np.testing.assert_allclose(
        np.sort_complex(found[:UNITS]), np.sort_complex(expected), rtol=1e-9, atol=1e-9
    )


def test_gru_at_the_zero_fixed_point_is_the_closed_form(rng):
    weights, biases = rng.normal(size=(3, UNITS, UNITS)), rng.normal(size=(3, UNITS))
    biases[2] = 0
    jacobian = at_zero("gru", weights.reshape(-1, UNITS), biases.ravel())
    r, z = logistic(biases[0]), logistic(biases[1])
    np.testing.assert_allclose(
        jacobian, np.diag(z) + np.diag((1 - z) * r) @ weights[2], rtol=1e-12, atol=1e-14
    )


def test_the_jacobian_of_h_alone_would_miss_the_memory_of_an_lstm(rng):
    """Forget gate 0.95: c remembers, and only the Jacobian of (h, c) together shows it."""
    weights, biases = 0.1 * rng.normal(size=(4, UNITS, UNITS)), np.zeros((4, UNITS))
    biases[1] = np.log(0.95 / 0.05)
    jacobian = at_zero("lstm", weights.reshape(-1, UNITS), biases.ravel())
    truth = np.abs(np.linalg.eigvals(np.diag(logistic(biases[1])) + 0.25 * weights[2])).max()
    whole = np.abs(np.linalg.eigvals(jacobian)).max()
    h_alone = np.abs(np.linalg.eigvals(jacobian[:UNITS, :UNITS])).max()
    assert whole == pytest.approx(truth, rel=1e-9) and truth > 0.9
    assert h_alone < 0.2


def test_padded_steps_are_the_identity_and_not_valid(rng):
    layer, lengths = build("lstm", bidirectional=True), (4, 0, 2)
    x = rng.normal(size=(4, 3, INPUTS))
    x[2:, 2] = np.nan
    for direction in (0, 1):
        found = dg.step_jacobians(layer, x, direction=direction, lengths=lengths)
        assert found.valid.tolist() == (np.arange(4)[:, None] < np.array(lengths)).tolist()
        assert (found.value[~found.valid] == np.eye(2 * UNITS)).all()
        assert np.isfinite(found.value).all()
        alone = x[:2, 2:][::-1] if direction else x[:2, 2:]
        single = build("lstm")
        suffix = "_reverse" if direction else ""
        single.load_state_dict({k: layer.state_dict()[k + suffix] for k in single.state_dict()})
        expected = dg.step_jacobians(single, alone)
        np.testing.assert_allclose(found.value[:2, 2], expected.value[:, 0], rtol=1e-13)
        assert expected.valid.all()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (2, [0, 1]),
        (slice(1, None, 2), [1, 3]),
        ([3, 0], [3, 0]),
        (iter([1, -1]), [1, 3]),
        (np.int64(2), [0, 1]),
        (0, []),
    ],
)
def test_steps_may_be_a_count_a_slice_or_indices(steps, expected, rng):
    layer, x = build("gru"), rng.normal(size=(4, 2, INPUTS))
    some, every = dg.step_jacobians(layer, x, steps=steps), dg.step_jacobians(layer, x)
    np.testing.assert_array_equal(some.value, every.value[expected])
    assert some.steps.tolist() == expected


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [(5, ValueError, "0 to T=4"), ([4], ValueError, "0 to 3"), ([0.5], TypeError, "slice")],
)
def test_steps_that_are_none_are_refused(steps, error, words):
    with pytest.raises(error, match=words):
        dg.step_jacobians(build("rnn"), np.ones((4, 1, INPUTS)), steps=steps)


def test_more_than_a_gibibyte_is_refused_with_the_way_out(monkeypatch):
    layer, x = build("lstm"), np.ones((4, 2, INPUTS))
    one_step = 2 * (2 * UNITS) ** 2 * 8
    monkeypatch.setattr(jacobians, "LIMIT", 2 * one_step)
    with pytest.raises(ValueError, match=r"steps=2 for the first 2.*steps=range\(0, T, 2\)"):
        dg.step_jacobians(layer, x)
    assert dg.step_jacobians(layer, x, steps=range(0, 4, 2)).value.shape[0] == 2
    monkeypatch.setattr(jacobians, "LIMIT", one_step - 1)
    with pytest.raises(ValueError, match=r"at most 1 sequence"):
        dg.step_jacobians(layer, x, steps=1)


def test_a_gibibyte_is_counted_before_anything_is_made():
    with pytest.raises(ValueError, match=r"1\.5 GiB, more than 1 GiB"):
        jacobians.check_size(96, 1, 1024, 16)


def test_a_write_to_a_parameter_ends_what_a_record_can_compute(rng):
    layer, x = build("rnn"), rng.normal(size=(3, 1, INPUTS))
    seen = record(layer, x, states_of(layer, rng, 1))
    layer.weight_hh_l0.assign(layer.weight_hh_l0.numpy() * 0.5)
    with pytest.raises(RuntimeError, match="written to since"):
        seen.step_jacobians()


@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (3, 0)])
def test_nothing_has_no_jacobians(steps, batch):
    found = dg.step_jacobians(build("lstm"), np.zeros((steps, batch, INPUTS)))
    assert found.value.shape == (steps, batch, 2 * UNITS, 2 * UNITS)


def test_the_quantity_says_how_and_at_what_cost(rng):
    layer, x = build("gru", num_layers=2), rng.normal(size=(4, 2, INPUTS))
    found = dg.step_jacobians(layer, x, level=0)
    assert isinstance(found, quantity.StepJacobians) and found.ci is None
    assert "no backward pass" in found.how and found.cost.sweeps == 1
    assert found.cost.bytes == found.value.nbytes
    unbatched = dg.step_jacobians(layer, x[:, 0], level=0)
    np.testing.assert_allclose(unbatched.value[:, 0], found.value[:, 0], rtol=1e-13)
    assert dg.step_jacobians(layer, x.astype("float64"), level=-1).value.shape == (4, 2, 4, 4)
