"""Diagnostics over the whole registry, and the full grid of the calibration."""

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.calibration import table
from diagnostics.zoo import Grid, calibrate
from tests.monitored import Net, train
from tests.test_diagnostics_numerics import identities_hold

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("name", minirnn.cells.names())
def test_the_identities_of_a_report_hold_for_every_cell(name, rng):
    identities_hold(name, rng)


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
