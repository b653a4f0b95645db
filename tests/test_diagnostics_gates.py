"""Gates: what a cell's own equations say about them, their saturation, and their memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diagnostics as dg
import minirnn
from diagnostics import rules
from diagnostics.quantities.equations import structure_of
from diagnostics.quantities.gate_statistics import _mirrored
from diagnostics.quantities.gate_sums import sums_of_gate
from diagnostics.quantities.kept_share import kept_share, pieces_of
from minirnn.equations.levels import ACTIVATIONS, gate_nodes
from minirnn.layers.reference import use_reference
from tests.conformance.test_corner_cells import CORNERS
from tests.strategies import programs
from tests.test_diagnostics_closed_forms import logistic, network

EVERY = [*(minirnn.cells.get(name) for name in minirnn.cells.names()), *CORNERS]


def test_the_interval_of_a_fraction_of_units_reaches_to_both_sides():
    """Where replicates all lie above the value the truth may lie as far below it."""
    replicates = np.linspace(0.3, 0.5, 41)
    assert _mirrored(0.3, replicates) == pytest.approx([0.11, 0.495], abs=0.006)
    assert _mirrored(0.1, replicates).min() == 0  # no fraction is below 0


def seen_of(layer, x, lengths=None):
    with use_reference(), minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(x, lengths=lengths)
    return seen


def check_activations(cell):
    """The first activation of every gate is the one that `watch` shows."""
    found, nodes = structure_of(cell).activations, gate_nodes(cell)
    for k, node in nodes.items():
        assert found[k] == (node.op if node.op in ACTIVATIONS else ""), k
    assert not any(found[k] for k in found if k not in nodes)


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: cell.name)
def test_a_cells_equations_tell_the_activation_of_every_gate(cell):
    check_activations(cell)


@given(programs())
def test_the_activations_of_any_cell_are_found(program):
    check_activations(program.cell())


def without_recurrence(cell, rng):
    """A layer whose blocks of the recurrent matrix, and vectors, are 0."""
    layer = minirnn.Recurrent(cell, 3, 8, num_layers=2, dtype="float64", seed=1)
    for name, parameter in layer.named_parameters():
        if name.startswith(("weight_hh", "vector")):
            parameter.assign(np.zeros(parameter.shape))
    return layer


@pytest.mark.parametrize("name", minirnn.cells.names())
def test_without_recurrent_weights_the_kept_share_is_the_jacobians_diagonal(name, rng):
    layer, x = without_recurrence(name, rng), rng.normal(size=(6, 3, 3))
    lengths = [6, 0, 4]
    seen = seen_of(layer, x, lengths)
    for level in (0, 1):
        share = kept_share(layer, seen, level)
        jacobians = seen[level, 0].step_jacobians()
        valid = np.arange(6)[:, None] < np.array(lengths)
        diagonal = np.abs(np.diagonal(jacobians, axis1=2, axis2=3)) * valid[..., None]
        for i, state in enumerate(layer.cell.state):
            truth = diagonal.sum(axis=0)[:, 8 * i : 8 * (i + 1)]
            by_sequence = share.total[state].reshape(3, -1, 8).sum(axis=1)  # its pieces
            np.testing.assert_allclose(by_sequence, truth, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "keepers"),
    [
        ("lstm", {"f": "open"}),
        ("lstm_peephole", {"f": "open"}),
        ("gru", {"z": "open"}),
        ("gru_before_write", {"z": "closed"}),
        ("greff_cifg", {"i": "closed"}),
        ("greff_fgr", {"f": "open"}),
        ("mgu", {"f": "closed"}),
        ("rnn", {}),
        ("lstm_1997", {}),
    ],
)
def test_the_gate_that_keeps_is_known_by_the_equations_not_by_its_name(name, keepers):
    assert structure_of(minirnn.cells.get(name)).keepers == keepers


def test_an_lstm_of_1997_never_forgets_and_a_plain_network_keeps_nothing(rng):
    x = rng.normal(size=(20, 8, 3))
    with use_reference():
        never = dg.memory_timescales(minirnn.Recurrent("lstm_1997", 3, 4, seed=0), np.float32(x))
        plain = dg.memory_timescales(minirnn.Recurrent("rnn", 3, 4, seed=0), np.float32(x))
    assert never.value == np.inf and rules.memory(never, 1000).level == "ok"
    assert plain.value == 0.0 and rules.memory(plain, 10).level == "info"


def test_clockwork_units_keep_their_state_between_their_ticks(rng):
    """Periods 1, 2, 4, 8: copied at 0, 1/2, 3/4, 7/8 of the steps."""
    layer = minirnn.Recurrent("clockwork", 3, 8, dtype="float64", seed=0)
    share = kept_share(layer, seen_of(layer, rng.normal(size=(16, 2, 3))))
    np.testing.assert_allclose(share.mean["h"], np.repeat([0, 1 / 2, 3 / 4, 7 / 8], 2))
    assert dg.memory_timescales(layer, rng.normal(size=(16, 2, 3))).value == pytest.approx(
        -1 / np.log(7 / 8)
    )


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12))
def test_a_batch_is_cut_into_pieces_that_hold_every_step_once(lengths):
    ends = np.array(lengths)
    piece, count = pieces_of(ends, 12)
    assert ((piece >= 0) == (np.arange(12)[:, None] < ends)).all() and piece.max() < count
    assert count >= 8 and count % len(ends) == 0
    for column, end in zip(piece.T, ends, strict=True):
        inside = column[:end]
        assert (np.diff(inside) >= 0).all()  # pieces are stretches of time
    owners = piece // (count // len(ends))
    assert (owners == np.arange(len(ends)))[piece >= 0].all()


def gated(biases, rng, steps=40, batch=8, units=10):
    """An LSTM whose gates hardly move; biases: gate -> (H,)."""
    values = np.stack([np.broadcast_to(biases.get(k, 0.0), units) for k in "ifgo"])
    layer = network("lstm", units, inputs=2, bias_ih=values.ravel(), weight_ih=1e-3)
    return layer, rng.normal(size=(steps, batch, 2))


@pytest.mark.parametrize(("part", "level"), [(1, "ok"), (3, "warn"), (6, "fail")])
@pytest.mark.parametrize("end", [-6.0, 6.0])
def test_units_of_a_gate_at_one_end_are_counted(part, level, end, rng):
    """sigma(6) = 0.9975: slope 0.0025, far below 0.05; at one end all the time."""
    layer, x = gated({"o": np.where(np.arange(10) < part, end, 0.0)}, rng)
    found = dg.gate_statistics(layer, x)
    assert found.poor["o"] == found.at_end["o"] == pytest.approx(part / 10)
    assert (found.worst_slope, found.worst_end) == ("o", "o")
    side = found.right if end > 0 else found.left
    np.testing.assert_allclose(side["o"], np.arange(10) < part)
    np.testing.assert_allclose(found.mean["o"][:part], logistic(end), atol=1e-4)
    assert rules.gate_slope(found).level == level
    assert rules.gate_stuck(found).level == {1: "ok", 3: "warn", 6: "fail"}[part]


def test_a_forget_gate_that_is_stuck_open_is_memory_not_illness(rng):
    layer, x = gated({"f": np.full(10, 6.0)}, rng)
    found = dg.gate_statistics(layer, x)
    assert found.remembering["f"] == 1.0 and found.at_end["f"] == 0.0
    verdict = rules.gate_stuck(found)
    assert verdict.level == "info" and "holds the memory of 100%" in verdict.evidence
    assert rules.gate_slope(found).level == "ok"
    closed = dg.gate_statistics(*gated({"f": np.full(10, -6.0)}, rng))
    assert rules.gate_stuck(closed).level == "fail" and closed.remembering["f"] == 0.0


def test_tanh_and_relu_gates_have_ends_of_their_own(rng):
    x = rng.normal(size=(30, 8, 2))
    saturated = network("rnn", 4, inputs=2, bias_ih=np.array([3.0, -3.0, 0.0, 0.0]))
    found = dg.gate_statistics(saturated, x)
    np.testing.assert_allclose(found.right["h"], [1, 0, 0, 0])
    np.testing.assert_allclose(found.left["h"], [0, 1, 0, 0])
    np.testing.assert_allclose(found.slope["h"], 1 - np.tanh([3.0, -3.0, 0, 0]) ** 2)
    assert found.poor["h"] == 0.5 and found.activations == {"h": "tanh"}
    dead = network("rnn_relu", 4, inputs=2, bias_ih=np.array([-1.0, 1.0, 1.0, 1.0]))
    found = dg.gate_statistics(dead, x)
    np.testing.assert_allclose(found.left["h"], [1, 0, 0, 0])
    assert found.stuck == 0.25 and np.isnan(found.value)
    assert rules.gate_slope(found).level == "info" and rules.gate_stuck(found).level == "warn"


@pytest.mark.parametrize("name", minirnn.cells.names())
def test_saturation_counts_what_watch_shows(name, rng):
    with use_reference():
        layer = minirnn.Recurrent(name, 3, 8, dtype="float64", seed=0)
        x, lengths = 8 * rng.normal(size=(9, 4, 3)), [9, 0, 3, 8]
        found = dg.gate_statistics(layer, x, lengths=lengths)
    record = seen_of(layer, x, lengths)
    inside = np.arange(9)[:, None] < np.array(lengths)
    assert found.n == inside.sum()
    for k, kind in found.activations.items():
        a = record.gates[k][inside]
        low, high = {"sigmoid": (0.1, 0.9), "tanh": (-0.97, 0.97), "relu": (1e-300, np.inf)}[kind]
        np.testing.assert_allclose(found.left[k], (a < low).mean(axis=0))
        np.testing.assert_allclose(found.right[k], (a > high).mean(axis=0))
        np.testing.assert_allclose(found.mean[k], a.mean(axis=0), rtol=1e-12)
        assert ((found.left[k] + found.right[k]) <= 1).all()


@pytest.mark.parametrize(("forget", "level"), [(0.0, "fail"), (2.0, "warn"), (5.0, "ok")])
def test_memory_is_judged_by_the_slowest_units_against_the_lag(forget, level, rng):
    """Timescales 1.4, 7.9 and 149 steps against 39."""
    layer, x = gated({"f": forget}, rng)
    scales = dg.memory_timescales(layer, x)
    assert scales.value == pytest.approx(-1 / np.log(logistic(forget)), rel=1e-2)
    assert rules.memory(scales, 39).level == level
    assert scales.ci[0] <= scales.value <= scales.ci[1]


def test_an_interval_across_a_threshold_is_inconclusive(rng):
    """Sequences that differ: some hold the gate at its end, some do not."""
    layer = network("lstm", 4, inputs=1, weight_ih=np.repeat([[9.0], [0], [0], [0]], 4, axis=0))
    x = np.broadcast_to(np.where(np.arange(10) < 5, 1.0, 0.0)[:, None], (20, 10, 1))
    found = dg.gate_statistics(layer, np.ascontiguousarray(x))
    assert found.slope["i"] == pytest.approx(np.full(4, 0.125), abs=1e-3)
    few = dg.gate_statistics(layer, np.ones((2, 2, 1)))
    assert rules.gate_stuck(few).level == "inconclusive" and few.n == 4
    mixed = dg.gate_statistics(layer, np.ascontiguousarray(np.where(
        np.arange(10)[:, None] < 9, 1.0, 0.7) * np.ones((20, 10, 1))))  # fmt: skip
    assert rules.gate_stuck(mixed).level == "fail"
    half = x.copy()
    half[:1, 5:] = 1.0
    edge = dg.gate_statistics(layer, half[:, [0] * 9 + [5]])  # 95.5% of the time at the end
    assert rules.gate_stuck(edge).level == "inconclusive"
    assert "straddles" in rules.gate_stuck(edge).evidence


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("steps", "batch", "units", "count"),
    [
        (90, 16, 64, 1),
        (61, 13, 37, 1),
        (700, 1, 1, 1),
        (3, 2, 1500, 1),
        (41, 30, 70, 3),
        (0, 2, 3, 1),
    ],
)
def test_sums_of_a_gate_are_those_of_a_plain_loop(
    activation, dtype, steps, batch, units, count, rng
):
    """Sizes of one block and of many, with rows left over, wide rows, pieces and padding."""
    a = rng.uniform(0 if activation == "sigmoid" else -1, 1, (steps, batch, units)).astype(dtype)
    piece = rng.integers(-1 if count > 1 else 0, count, (steps, batch))
    low, high = {"sigmoid": (0.1, 0.9), "tanh": (-0.97, 0.97), "relu": (0.0, np.inf)}[activation]
    found = sums_of_gate(a, activation, piece, count)
    assert found.shape == (4, count, units)
    for n in range(count):
        rows = a[piece == n].astype(np.float64)
        left = rows <= low if activation == "relu" else rows < low
        slope = {"sigmoid": rows * (1 - rows), "tanh": 1 - rows**2, "relu": rows > 0}[activation]
        np.testing.assert_array_equal(found[:2, n], [left.sum(axis=0), (rows > high).sum(axis=0)])
        np.testing.assert_allclose(found[2, n], rows.sum(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found[3, n], slope.sum(axis=0), rtol=1e-12, atol=1e-12)


def test_a_count_of_a_gate_does_not_overflow_and_nan_is_seen():
    a = np.zeros((3000, 2, 33))
    a[2999, 1, 32] = np.nan
    left, right, value, slope = sums_of_gate(a, "sigmoid", np.zeros((3000, 2), int), 1)[:, 0]
    assert (left[:32] == 6000).all() and left[32] == 5999 and not right.any()
    assert np.isnan([value[32], slope[32]]).all() and np.isfinite(value[:32]).all()
