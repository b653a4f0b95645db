"""Diagnostics over the whole registry, and the full grid of the calibration."""

import pytest

import minirnn
from diagnostics.calibration import table
from diagnostics.zoo import Grid, calibrate
from tests.test_diagnostics_numerics import identities_hold

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("name", minirnn.cells.names())
def test_the_identities_of_a_report_hold_for_every_cell(name, rng):
    identities_hold(name, rng)


def test_no_verdict_of_the_full_grid_is_wrong():
    for row in table(calibrate(Grid())):
        assert row.far_wrong == 0, row
        assert row.near_wrong == 0, row
