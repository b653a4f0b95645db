"""Norms, slopes and intervals: what every number of a report is made of."""

import numpy as np
import pytest

from diagnostics.quantities.statistics import (
    interval,
    joint_norm,
    median_interval,
    resamples,
    theil_slope,
)


def test_the_joint_norm_is_the_norm_of_all_states_side_by_side(rng):
    h, c = rng.standard_normal((2, 5, 3, 4))
    both = np.linalg.norm(np.concatenate([h, c], axis=-1), axis=-1)
    # Rounding only: the same sum of squares, scaled.
    np.testing.assert_allclose(joint_norm([h, c]), both, rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e300])
def test_the_joint_norm_neither_underflows_nor_overflows(scale):
    np.testing.assert_allclose(joint_norm([np.array([3.0, 4.0]) * scale]), 5 * scale, rtol=1e-14)


def test_the_joint_norm_of_nothing_is_zero_and_of_infinity_not_finite():
    assert joint_norm([np.zeros(3)]) == 0
    assert not np.isfinite(joint_norm([np.array([1.0, np.inf])]))
    assert not np.isfinite(joint_norm([np.array([1.0, np.nan])]))


@pytest.mark.parametrize("points", [2, 3, 10, 11])
def test_the_slope_of_a_line_is_exact(points):
    x = np.arange(points, dtype=float)
    assert theil_slope(x, 3.0 - 0.25 * x) == pytest.approx(-0.25, rel=1e-14)


def test_the_slope_ignores_a_few_wild_points():
    x = np.arange(40, dtype=float)
    y = -0.5 * x
    y[[3, 17, 30]] += [100.0, -50.0, 1e6]
    assert theil_slope(x, y) == pytest.approx(-0.5, rel=1e-14)


def test_the_slope_of_one_point_is_not_a_number():
    assert np.isnan(theil_slope(np.ones(1), np.ones(1)))


def test_an_interval_may_end_at_infinity():
    low, high = interval(np.array([1.0] * 50 + [np.inf] * 50))
    assert (low, high) == (1.0, np.inf)


def test_resamples_repeat_with_their_seed():
    np.testing.assert_array_equal(resamples(5, seed=3), resamples(5, seed=3))
    assert not np.array_equal(resamples(5, seed=3), resamples(5, seed=4))


def test_the_bootstrap_covers_the_true_median_about_as_often_as_it_says():
    """Exact medians of normal samples: coverage of the 95 % interval over 200 data sets."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((200, 32))
    ci = median_interval(values)
    covered = np.mean((ci[:, 0] <= 0) & (ci[:, 1] >= 0))
    # Percentile bootstrap of a median of 32; 200 trials have a standard error of 0.015.
    assert 0.90 <= covered <= 0.99


def test_one_sequence_has_no_interval():
    assert np.isnan(median_interval(np.ones((4, 1)))).all()
