"""The closed forms that a user can run: all hold, and a wrong number is a miss."""

import numpy as np
import pytest

from diagnostics import closed_forms
from diagnostics.closed_forms import Outcome, outcomes


def test_every_closed_form_holds():
    found = list(outcomes())
    assert len(found) >= 25 and len({o.name for o in found}) == len(found)
    misses = [(o.name, o.error, o.tolerance) for o in found if not o.holds]
    assert not misses


def test_a_quantity_that_is_off_is_a_miss(monkeypatch):
    real = closed_forms.lag_gain

    def off(*arguments, **options):
        gain = real(*arguments, **options)
        gain.value[-1] *= 1 + 1e-6
        return gain

    monkeypatch.setattr(closed_forms, "lag_gain", off)
    missed = {o.name for o in outcomes() if not o.holds}
    assert {"0.8 times orthogonal: G(k) = rho^k", "identity ReLU network: G(k) = 1"} <= missed


@pytest.mark.parametrize(
    ("found", "truth", "holds"),
    [
        (1.0, 1.0, True),
        ([1.0, 2.0 + 1e-9], [1.0, 2.0], True),
        ([1.0, 2.0 + 1e-7], [1.0, 2.0], False),
        (np.nan, 1.0, False),
        ([-np.inf, 1e-9], [-np.inf, 0.0], True),
        ([-np.inf], [0.0], False),
    ],
)
def test_an_outcome_holds_within_its_tolerance(found, truth, holds):
    assert Outcome("", found, truth, 1e-8, "").holds is holds
