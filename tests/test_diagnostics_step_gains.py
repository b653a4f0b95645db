"""Singular values of the step Jacobians, their product and its bounds, and their mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diagnostics as dg
import minirnn
from diagnostics import rules
from diagnostics.quantities import jacobian_source
from diagnostics.quantities.linearisation import transient_growth
from diagnostics.quantities.singular_values import bound_of_source, values_of_source
from minirnn.layers.reference import use_reference
from tests.test_diagnostics_closed_forms import linear, network
from tests.toy_record import orthogonal, repeated


@given(st.integers(0, 2**16), st.sampled_from(["rnn", "rnn_relu", "rnn_logistic"]))
def test_the_bounds_of_the_notes_are_never_violated(seed, name):
    """||prod J|| <= prod ||J|| <= ||W||^k prod ||D||, for each of the last k steps."""
    rng = np.random.default_rng(seed)
    with use_reference():
        layer = minirnn.Recurrent(name, 3, 4, dtype="float64", seed=seed)
        layer.weight_hh_l0.assign(rng.normal(size=(4, 4)))
        x = rng.normal(size=(10, 1, 3))
        found = dg.product_bound(layer, x)
        jacobians = dg.step_jacobians(layer, x).value[:, 0]
    # Comparisons of logarithms, rounded.
    finite = np.isfinite(found.value)
    assert (found.value <= found.bound + 1e-9)[finite].all()
    assert (found.bound <= found.weight_bound + 1e-9).all()
    assert (found.smallest <= found.value + 1e-9).all()
    # Hochreiter and Schmidhuber's bound is on single entries of the product.
    product = np.eye(4)
    for k, jacobian in enumerate(jacobians[::-1], 1):
        product = product @ jacobian
        assert np.abs(product).max() <= np.exp(found.entry_bound[k] + 1e-9)


def test_the_bounds_are_tight_for_an_orthogonal_matrix_and_linear_units(rng):
    found = dg.product_bound(network(linear, 4, weight_hh=orthogonal(4, rng)), np.zeros((50, 1, 1)))
    for line in (found.value, found.bound, found.weight_bound, found.smallest):
        np.testing.assert_allclose(line, 0.0, atol=1e-10)


def test_padding_takes_no_bound_away(rng):
    layer = network(linear, 4, weight_hh=0.5 * orthogonal(4, rng))
    found = dg.product_bound(layer, np.zeros((6, 3, 1)), lengths=[6, 3, 5])
    np.testing.assert_allclose(found.weight_bound, np.log(0.5) * np.arange(7), atol=1e-12)


def test_the_smallest_gain_is_known_beyond_the_digits_of_the_product(rng):
    """0.2^k beside 1: from step 23 on less than rounding of the largest."""
    basis = orthogonal(3, rng)
    found = dg.product_bound(repeated(basis @ np.diag([1.0, 0.5, 0.2]) @ basis.T, 200))
    lags = np.arange(201)
    np.testing.assert_allclose(found.smallest, np.log(0.2) * lags, rtol=1e-12)
    np.testing.assert_allclose(found.value, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("least", "dtype", "expected"),
    [(0.0, np.float64, -np.inf), (1e-17, np.float64, np.nan), (1e-7, np.float32, np.nan),
     (1e-7, np.float64, 2 * np.log(0.5) + np.log(1e-7))],
)  # fmt: skip
def test_the_smallest_gain_is_told_as_far_as_rounding_lets_it_be_known(least, dtype, expected):
    """Of a step that is singular, or nearly so, between others that are not."""
    jacobians = repeated(np.diag([1.0, 0.5]), 5).astype(dtype)
    jacobians[2] = np.diag([1.0, least])
    found = dg.product_bound(jacobians).smallest
    np.testing.assert_allclose(found[:3], np.log(0.5) * np.arange(3), rtol=1e-12)
    after = np.log(0.5) * np.arange(3)
    np.testing.assert_allclose(found[3:], expected + after, rtol=1e-6)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["singular", "nearly"], [-np.inf, -np.inf]),
        (["nearly", "singular"], [np.nan, -np.inf]),
        (["nearly", "fine"], [np.nan, np.nan]),
        (["broken", "singular"], [np.nan, np.nan]),
        (["singular", "broken"], [-np.inf, np.nan]),
        (["inf", "fine"], [np.nan, np.nan]),
    ],
    ids=lambda v: " then ".join(v) if isinstance(v[0], str) else "",
)
def test_what_hides_the_smallest_gain_stays(kinds, expected):
    """The last step first: a singular step makes the product so, whatever else is not known."""
    made = {
        "singular": [1.0, 0.0], "nearly": [1.0, 1e-17], "fine": [1.0, 0.5],
        "broken": [np.nan, 0.0], "inf": [np.inf, 0.0],
    }  # fmt: skip
    jacobians = np.stack([np.diag(made[k]) for k in reversed(kinds)])
    np.testing.assert_array_equal(dg.product_bound(jacobians).smallest[1:], expected)


def test_a_sequence_of_which_the_smallest_gain_is_hidden_leaves_the_median_to_the_others():
    jacobians = repeated(np.diag([1.0, 0.5]), 4)[:, None].repeat(3, axis=1)
    jacobians[3, 1] = np.diag([1.0, 1e-17])
    found = dg.product_bound(jacobians)
    np.testing.assert_allclose(found.smallest, np.log(0.5) * np.arange(5), rtol=1e-12)
    jacobians[3, 0] = np.nan  # is not hidden, but broken
    assert np.isnan(dg.product_bound(jacobians).smallest[1:]).all()


@pytest.mark.parametrize("size", [1e-200, 1e-155, 1e160, 1e200])
def test_gains_whose_squares_leave_the_range_are_known(size):
    found = dg.product_bound(repeated(size * np.eye(2), 4))
    for line in (found.value, found.smallest, found.bound):
        np.testing.assert_allclose(line, np.log(size) * np.arange(5), rtol=1e-12)


def outlier(rng, units):
    """All entries nearly the same: one large eigenvalue, of which the powers become of rank 1."""
    return 1.3 / units + 0.1 * rng.normal(size=(units, units)) / units


POWERS = {
    "gaussian": lambda rng, n: rng.normal(size=(n, n)) / np.sqrt(n),
    "constant": lambda rng, n: np.full((n, n), rng.uniform(0.5, 1.5) / n),
    "rank 1": lambda rng, n: np.outer(rng.normal(size=n), rng.normal(size=n)) / np.sqrt(n),
    "outlier": outlier,
    "triangular": lambda rng, n: np.triu(rng.normal(size=(n, n))),
}


@given(
    st.integers(0, 2**32),
    st.sampled_from(sorted(POWERS)),
    st.sampled_from([0.3, 0.9, 1.0, 1.02, 1.3]),
    st.integers(1, 12),
)
@settings(max_examples=200)
def test_transient_growth_is_the_largest_norm_of_all_powers(seed, kind, size, units):
    matrix = size * POWERS[kind](np.random.default_rng(seed), units)
    norms = [np.linalg.norm(np.linalg.matrix_power(matrix, k), 2) for k in range(101)]
    norm, step = transient_growth(matrix)
    # Powers are rounded in another order.
    assert norm == pytest.approx(max(norms), rel=1e-9)
    assert norms[step] == pytest.approx(max(norms), rel=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_transient_growth_of_a_turning_that_grows_is_the_last_power(angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert transient_growth(1.01 * turn) == (pytest.approx(1.01**100, rel=1e-12), 100)
    assert transient_growth(1e10 * turn) == (np.inf, 31)
    assert transient_growth(1e3 * turn) == (pytest.approx(1e300, rel=1e-12), 100)


def test_a_decomposition_of_some_sequences_is_that_of_these_alone(rng):
    """They are spread over those that have a step."""
    layer = minirnn.Recurrent("lstm", 3, 4, dtype="float64", seed=0)
    x, lengths = rng.normal(size=(9, 6, 3)), [0, 9, 4, 7, 9, 3]
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x, lengths=lengths)
    whole = jacobian_source.source_of_record("test", seen[0, 0])
    arrays = jacobian_source.source_of_arrays("test", *_arrays(layer, x, lengths))
    other, of_these = x[:, [1, 5]], [9, 3]
    for source in (whole, arrays):
        assert source.spread(2).tolist() == [1, 5] and source.count == 32
        assert source.spread(9).tolist() == [1, 2, 3, 4, 5]
        made = source.of_sequences(source.spread(2))
        assert made.count == 12 and made.of_sequences(np.array([1])).count == 3
        found = values_of_source(made, 4)
        assert found.sigma.shape == (4, 2, 8)
        assert (found.n, found.count) == (4 + 1, 12)  # of steps 0, 3, 5 and 8
        alone = dg.singular_values(layer, other, steps=4, lengths=of_these)
        np.testing.assert_allclose(found.sigma, alone.sigma, rtol=1e-12)
        bounds = bound_of_source(made), dg.product_bound(layer, other, lengths=of_these)
        np.testing.assert_allclose(bounds[0].value, bounds[1].value, rtol=1e-9)
        mean = dg.linearisation(layer, other, lengths=of_these)
        np.testing.assert_allclose(made.mean(), _mean(layer, other, of_these), atol=1e-14)
        assert "mean over 12 exact" in mean.how


def test_what_was_not_looked_at_is_not_said_to_contract():
    """R4 is a proof for the steps that were looked at, and says so where there are others."""
    source = jacobian_source.source_of_arrays("test", np.full((20, 12, 1, 1), 0.5))
    every = rules.contraction(values_of_source(source))
    assert every.level == "info" and "contracts at every step: no" in every.evidence
    some = rules.contraction(values_of_source(source, 15))
    assert "at every step that was looked at: no singular value of 180" in some.evidence
    assert some.evidence.endswith("there are 240")


@pytest.mark.parametrize("place", range(16))
def test_one_sequence_that_may_grow_is_seen_wherever_it_stands(place):
    """Few are decomposed, but the order of a batch changes no verdict."""
    jacobians = np.repeat(0.5 * np.eye(2)[None], 20, axis=0)[:, None].repeat(16, axis=1)
    jacobians[7, place] *= 6
    source = jacobian_source.source_of_arrays("test", jacobians)
    found = values_of_source(source, None, source.spread(8))
    assert found.sigma.shape == (20, 8, 2) and (found.n, found.count) == (320, 320)
    assert found.largest == pytest.approx(3.0, rel=1e-12)
    assert rules.contraction(found).level == "ok"


def test_nothing_to_take_the_mean_of_has_none(rng):
    layer = minirnn.Recurrent("gru", 3, 4, dtype="float64", seed=0)
    x = rng.normal(size=(5, 2, 3))
    arrays = dg.step_jacobians(layer, x, lengths=[0, 0])
    for found in (dg.linearisation(layer, x, lengths=[0, 0]), dg.linearisation(arrays)):
        assert np.isnan([found.value, found.peak]).all() and found.peak_step == 0


def _mean(layer, x, lengths):
    jacobians, alive = _arrays(layer, x, lengths)
    return jacobians[alive].mean(axis=0)


def _arrays(layer, x, lengths):
    found = dg.step_jacobians(layer, x, lengths=lengths)
    return found.value, found.valid


def test_a_cell_with_gates_has_no_bound_by_its_weights_alone(rng):
    layer = minirnn.Recurrent("gru", 3, 4, dtype="float64", seed=0)
    assert dg.product_bound(layer, rng.normal(size=(5, 1, 3))).weight_bound is None


def test_singular_values_below_one_prove_that_gradients_shrink(rng):
    x = np.zeros((20, 2, 1))
    small = dg.singular_values(network(linear, 4, weight_hh=0.9 * orthogonal(4, rng)), x)
    np.testing.assert_allclose(small.sigma, 0.9, rtol=1e-12)
    assert rules.contraction(small).level == "info"
    assert rules.contraction(dg.singular_values(repeated(1.1 * np.eye(3), 20))).level == "ok"
    assert rules.contraction(dg.singular_values(repeated(np.eye(3), 3))).level == "inconclusive"
    some = dg.singular_values(repeated(np.eye(3), 100), steps=5)
    assert some.steps.tolist() == [0, 25, 50, 74, 99]


@pytest.mark.parametrize(
    ("matrix", "number"),
    [(np.diag([1.0, -2.0]), 0.0), (np.array([[0.0, 1.0], [0.0, 0.0]]), 1.0), (np.zeros((2, 2)), 0)],
)
def test_henricis_number_is_0_for_a_normal_and_1_for_a_nilpotent_matrix(matrix, number):
    assert dg.linearisation(matrix[None]).henrici == pytest.approx(number, abs=1e-12)
