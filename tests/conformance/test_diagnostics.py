"""Diagnostics over the whole registry, and the full grid of the calibration."""

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.calibration import table
from diagnostics.zoo import Grid, calibrate
from minirnn.layers.reference import use_reference
from tests.monitored import Net, train
from tests.test_diagnostics_numerics import identities_hold

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("name", minirnn.cells.names())
def test_the_identities_of_a_report_hold_for_every_cell(name, rng):
    identities_hold(name, rng)


# The level "full" by what the design lists: of every level and direction, and of the whole model.
OF_EACH = {
    "gradient_flow", "gate_statistics", "memory_timescales", "numeric_health",  # cheap
    "lag_gain", "decay_rate", "linearisation", "credit",  # standard
    "influence", "singular_values", "product_bound", "lyapunov", "graph_clipping",  # full
}  # fmt: skip
OF_ALL = {"self_checks", "tbptt_error", "precision"}
RULES = {f"R{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 12, 14)}


class Both(minirnn.Module):
    """Two levels, both directions, sequences of different lengths, one of them empty."""

    def __init__(self, cell):
        self.rnn = minirnn.Recurrent(
            cell, 2, 3, num_layers=2, bidirectional=True, dtype="float64", seed=0
        )
        self.out = minirnn.Linear(6, 2, dtype="float64", seed=1)

    def forward(self, x):
        return self.out(self.rnn(x, lengths=[5, 2, 0, 4])[0])


def may_be_infinite(name, quantities):
    """Whether a number is what the cell's equations say, and no failure to measure it."""
    value = quantities[name].value
    if name == "memory_timescales":  # c = c + ..., as in 1997: never lost
        return value == np.inf
    if name in ("lyapunov", "product_bound"):  # ln 0: a step loses a direction altogether
        smallest = quantities["singular_values"].spread[:, 2]
        return (np.isfinite(value) | np.isneginf(value)).all() and smallest.min() < 1e-12
    # A cell without a gate of two ends: nothing that could be stuck.
    return name == "gate_statistics" and quantities[name].activations == {"h": "relu"}


@pytest.mark.parametrize("name", minirnn.cells.names())
def test_the_level_full_measures_everything_of_every_cell(name, rng):
    """About a second of one core a cell, 36 s in all; the reference: nothing here is large."""
    with use_reference():
        model = Both(name)
        x, y = rng.normal(size=(5, 4, 2)), rng.normal(size=(5, 4, 2))
        report = dg.diagnose(model, x, y, level="full")
    checks = [v for v in report.verdicts if v.rule == "R15"]
    assert [v.level for v in checks] == ["ok"], checks
    assert len(report.subjects) == 4
    # A cell that counts the steps, run backward, has no start of a chunk.
    missing = {"tbptt_error"} if "t" in model.rnn.cell.arguments else set()
    for subject in report.subjects:
        expected = OF_EACH | (OF_ALL - missing if subject is report.subjects[0] else set())
        assert set(subject.quantities) == expected, subject.name
        for key, found in subject.quantities.items():
            finite = np.isfinite(np.asarray(found.value, np.float64)).all()
            assert finite or may_be_infinite(key, subject.quantities), (
                subject.name,
                key,
                found.value,
            )
        assert {v.rule for v in report.verdicts if v.subject == subject.name} >= RULES
    assert report.json()


# Intervals over sequences of different lengths take seconds: levels and lengths are for "cheap".
@pytest.mark.parametrize(("level", "levels"), [("cheap", 2), ("full", 1)])
@pytest.mark.parametrize("name", minirnn.cells.names())
def test_a_monitor_measures_every_cell_and_changes_no_bit(name, level, levels):
    lengths = level == "cheap"
    plain = train(Net(name, num_layers=levels), 3, lengths=lengths)
    net = Net(name, num_layers=levels)
    with dg.Monitor(net, every=2, level=level) as monitor:
        train(net, 3, monitor, lengths=lengths)
    for key, array in plain.state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[key], array)
    assert [len(row["layers"]) for row in monitor.rows] == [levels, levels]
    assert monitor.first_break is None and monitor.report().json()


def test_no_verdict_of_the_full_grid_is_wrong():
    for row in table(calibrate(Grid())):
        assert row.far_wrong == 0, row
        assert row.near_wrong == 0, row
