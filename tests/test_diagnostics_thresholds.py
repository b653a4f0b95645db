"""The numbers of the rules, written out: changing one is a decision, and fails a test here.

Other tests take thresholds from the table; these are those of the specification, section 5.3.
"""

from types import SimpleNamespace

import numpy as np
import pytest

import diagnostics as dg
from diagnostics import rules
from diagnostics.quantities import credit, gate_statistics, gate_sums, timescales
from diagnostics.rules import flow, verdict
from diagnostics.rules.table import MIN_SAMPLES, TABLE
from minirnn.layers.reference import use_reference
from tests.test_diagnostics_closed_forms import linear, network

# rule: warn, fail, and whether small is bad.
SPECIFIED = {
    "R1": (1e-3, 1e-6, True),
    "R2": (1e3, 1e6, False),
    "R3": (10.0, 1e3, False),
    "R4": (1.0, 1.0, True),
    "R5": (6.9, 13.8, False),
    "R6": (0.2, 0.5, False),
    "R7": (0.1, 0.3, False),
    "R8": (1 / 3, 1 / 10, True),
    "R9": (0.1, 0.5, False),
    "R10": (0.99, 0.9, True),
    "R11": (0.0, 0.0, False),
    "R12": (0.0, 0.5, False),
    "R13": (1e-4, 1e-6, True),
    "R14": (1.0, 0.0, True),
    "R15": (1.0, 1.0, False),
}


def test_the_table_has_the_specified_thresholds():
    assert {k: (r.warn, r.fail, r.small_is_bad) for k, r in TABLE.items()} == SPECIFIED
    above = {k: r.above for k, r in TABLE.items() if r.above is not None}
    assert above == {"R13": (1e-2, 1e-1)}
    assert [k for k, r in TABLE.items() if r.fact] == ["R4"]


def test_what_units_rows_and_samples_are_counted_by_is_as_specified():
    assert MIN_SAMPLES == 8
    assert verdict.MARGIN == 1.5
    assert gate_statistics.LEAST_SLOPE == {"sigmoid": 0.05, "tanh": 0.2}  # Kaldi nnet3
    assert gate_sums.ENDS["sigmoid"] == (0.1, 0.9)  # Karpathy, Johnson and Li
    assert gate_sums.ENDS["tanh"] == (-0.97, 0.97)
    assert gate_statistics.STUCK == 0.95
    assert timescales.PERCENTILE == 95
    assert (flow.COHERENT, flow.REACHING, credit.SHARE) == (0.05, 0.1, 0.9)


@pytest.mark.parametrize(
    ("rule", "value", "level"),
    [
        ("R1", 1.01e-3, "ok"), ("R1", 0.99e-3, "warn"),
        ("R1", 1.01e-6, "warn"), ("R1", 0.99e-6, "fail"),
        ("R2", 0.99e3, "ok"), ("R2", 1.01e3, "warn"),
        ("R2", 0.99e6, "warn"), ("R2", 1.01e6, "fail"),
        ("R3", 9.9, "ok"), ("R3", 10.1, "warn"), ("R3", 990.0, "warn"), ("R3", 1010.0, "fail"),
        ("R5", 6.89, "ok"), ("R5", 6.91, "warn"), ("R5", 13.79, "warn"), ("R5", 13.81, "fail"),
        ("R6", 0.19, "ok"), ("R6", 0.21, "warn"), ("R6", 0.49, "warn"), ("R6", 0.51, "fail"),
        ("R7", 0.09, "ok"), ("R7", 0.11, "warn"), ("R7", 0.29, "warn"), ("R7", 0.31, "fail"),
        ("R8", 0.34, "ok"), ("R8", 0.33, "warn"), ("R8", 0.11, "warn"), ("R8", 0.09, "fail"),
        ("R9", 0.1, "ok"), ("R9", 0.11, "warn"), ("R9", 0.5, "warn"), ("R9", 0.51, "fail"),
        ("R10", 0.991, "ok"), ("R10", 0.989, "warn"),
        ("R10", 0.901, "warn"), ("R10", 0.899, "fail"),
        ("R11", 0.0, "ok"), ("R11", 1.0, "fail"),
        ("R12", 0.0, "ok"), ("R12", 0.01, "warn"), ("R12", 0.5, "warn"), ("R12", 0.51, "fail"),
        ("R13", 0.99e-6, "fail"), ("R13", 1.01e-6, "warn"),
        ("R13", 0.99e-4, "warn"), ("R13", 1.01e-4, "ok"),
        ("R13", 0.99e-2, "ok"), ("R13", 1.01e-2, "warn"),
        ("R13", 0.99e-1, "warn"), ("R13", 1.01e-1, "fail"),
        ("R15", 1.0, "ok"), ("R15", 1.01, "fail"),
    ],
)  # fmt: skip
def test_each_side_of_each_threshold_has_its_level(rule, value, level):
    assert rules.verdict_of(rule, value, None, 8, "").level == level
    assert rules.verdict_of(rule, value, None, 7, "").level == "inconclusive"


@pytest.mark.parametrize(("largest", "level"), [(0.99, "info"), (1.01, "ok")])
def test_a_contraction_is_proved_below_a_singular_value_of_one(largest, level):
    assert rules.contraction(SimpleNamespace(n=8, count=8, largest=largest)).level == level
    assert rules.contraction(SimpleNamespace(n=7, count=7, largest=largest)).level == "inconclusive"


@pytest.mark.parametrize(
    ("coherence", "reach", "level"),
    [(0.051, 0.101, "ok"), (0.049, 1.0, "warn"), (1.0, 0.099, "warn"), (1e-9, 1e-9, "warn")],
)
def test_credit_is_judged_by_coherence_and_by_reach(coherence, reach, level):
    """It warns at most: neither number alone says that nothing is learned."""
    found = SimpleNamespace(coherence=coherence, reach=reach, reach_ci=None, value=np.ones(8))
    assert rules.credit_assignment(found).level == level


@pytest.mark.parametrize(("kept", "level"), [((1, 0), "ok"), ((1, 0, 0), "fail")])
def test_a_row_has_vanished_where_more_than_half_of_it_has(kept, level):
    """One of two units keeps its gradient: half is not more than half."""
    units = len(kept)
    layer = network(linear, units, weight_hh=np.diag(np.float64(kept)))
    d = np.zeros((20, 8, units))
    d[-1] = 1.0
    with use_reference():
        found = dg.numeric_health(layer, np.zeros((20, 8, 1)), d)
    assert rules.bit_vanished(found).level == level


def test_the_least_slopes_and_ends_are_what_gates_are_held_against():
    """Two units on each side of Kaldi's limits, and of 95% of the time."""
    slopes = {"i": np.array([0.0499, 0.0501]), "g": np.array([0.199, 0.201])}
    ends = np.array([0.9501, 0.9499])
    means = {k: np.stack([ends, np.zeros(2), np.zeros(2), s]) for k, s in slopes.items()}
    poor, at_end = gate_statistics._fractions(means, {"i": "sigmoid", "g": "tanh"}, {})
    assert poor == at_end == {"i": 0.5, "g": 0.5}
