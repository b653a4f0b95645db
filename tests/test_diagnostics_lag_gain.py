"""Lag gain and decay rate against closed forms, on recurrences given by their Jacobians."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnostics.quantities.decay_rate import decay_rate, rate_of
from diagnostics.quantities.lag_gain import lag_gain_of_record
from diagnostics.quantities.lags import reach, rows_by_sequence, source_rows
from tests.toy_record import ToyRecord, orthogonal, repeated


@pytest.mark.parametrize("rho", [0.5, 0.9, 1.0, 1.1])
def test_rho_times_an_orthogonal_matrix_gains_rho_to_the_k(rho, rng):
    record = ToyRecord(repeated(rho * orthogonal(6, rng), 40), 3, {"h": 6})
    gain = lag_gain_of_record(record)
    # 39 products in float64.
    np.testing.assert_allclose(gain.value, rho ** np.arange(40), rtol=1e-10)
    assert decay_rate(gain).value == pytest.approx(rho, rel=1e-10)


def test_a_normal_matrix_gains_what_its_eigenvalues_say(rng):
    """||J^k v||^2 = sum of lambda_i^2k (q_i . v)^2; all sources sit on one row and sequence."""
    eigenvalues = np.array([1.05, 0.9, -0.7, 0.2])
    q = orthogonal(4, rng)
    record = ToyRecord(repeated(q @ np.diag(eigenvalues) @ q.T, 12), 1, {"h": 4})
    gain = lag_gain_of_record(record, sources=1, seed=5)
    row = gain.rows[0]
    v = np.random.default_rng(5).standard_normal((1, 1, 4))[0, 0]
    v /= np.linalg.norm(v)
    lags = np.arange(row)
    truth = np.sqrt(((eigenvalues[:, None] ** lags) ** 2 * ((q.T @ v) ** 2)[:, None]).sum(axis=0))
    np.testing.assert_allclose(gain.value[:row], truth, rtol=1e-12)
    assert np.isnan(gain.value[row:]).all() and not gain.n[row:].any()  # nobody reaches those


def test_a_gate_that_forgets_gains_its_value_to_the_k():
    """LSTM with zero recurrent weights: dc_T/dc_t = sigma(b_f)^(T-t), whatever h does."""
    f = 1 / (1 + np.exp(-1.0))
    jacobian = np.block([[np.zeros((2, 2)), 0.3 * np.eye(2)], [np.zeros((2, 2)), f * np.eye(2)]])
    record = ToyRecord(repeated(jacobian, 30), 2, {"h": 2, "c": 2})
    gain = lag_gain_of_record(record, inject="c")
    np.testing.assert_allclose(gain.value, f ** np.arange(30), rtol=1e-12)
    assert decay_rate(gain).horizon == pytest.approx(np.log(1e-3) / np.log(f), rel=1e-10)


def test_a_jordan_block_grows_first_and_its_late_lags_give_the_rate():
    matrix = 0.9 * np.eye(2) + np.array([[0.0, 5.0], [0.0, 0.0]])
    gain = lag_gain_of_record(ToyRecord(repeated(matrix, 400), 4, {"h": 2}))
    assert gain.peak > 10
    # G(k) goes like k 0.9^k: the slope differs from ln 0.9 by about 1/k over lags 200 to 399.
    assert decay_rate(gain).value == pytest.approx(0.9, abs=0.006)


def test_all_states_count_together():
    """A gradient that moves from h to c and stays there is not lost."""
    jacobian = np.array([[0.0, 1.0], [0.0, 1.0]])  # dh = dc = c of the step before
    record = ToyRecord(repeated(jacobian, 20), 1, {"h": 1, "c": 1})
    np.testing.assert_allclose(lag_gain_of_record(record).value, 1.0, rtol=1e-14)


def test_scaling_the_states_by_nothing_keeps_lag_zero_at_one(rng):
    jacobians = rng.standard_normal((10, 3, 3))
    gain = lag_gain_of_record(ToyRecord(jacobians, 2, {"h": 3}, dtype=np.float32))
    np.testing.assert_array_equal(gain.value[0], 1.0)
    np.testing.assert_array_equal(gain.band[0], [1.0, 1.0])


@given(st.integers(1, 300), st.integers(1, 20))
def test_sources_sit_in_the_second_half_and_the_last_row_is_one_of_them(steps, sources):
    rows = source_rows(steps, sources)
    first = steps - (steps + 1) // 2 + 1
    assert rows[0] == first and rows[-1] in (first, steps) and (np.diff(rows) > 0).all()
    if sources > 1:
        assert rows[-1] == steps


def test_rows_of_the_example_of_64_steps():
    np.testing.assert_array_equal(source_rows(64, 8), [33, 37, 42, 46, 51, 55, 60, 64])


def test_only_sources_far_enough_from_the_start_count():
    """Row 0 is nobody's output; it counts only where the whole way is asked for."""
    rows = np.array([3, 5])
    reached = reach(rows[:, None], 4, 5)
    np.testing.assert_array_equal(reached[:, 0], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(reach(rows[:, None], 5, 5)[0, 0], [1, 1, 1, 1, 0, 0])


def test_a_short_sequence_has_its_own_sources():
    rows = rows_by_sequence(np.array([10, 3, 0]), 4)
    np.testing.assert_array_equal(rows, [[6, 2, 0], [7, 3, 0], [9, 0, 0], [10, 0, 0]])


def test_padding_takes_no_part_in_the_gain(rng):
    """Two lengths: the long lags are those of the long sequences, all gains are 0.9^k."""
    lengths = np.array([30, 30, 8, 0])
    record = ToyRecord(repeated(0.9 * orthogonal(3, rng), 30), 4, {"h": 3}, lengths=lengths)
    gain = lag_gain_of_record(record)
    np.testing.assert_allclose(gain.value, 0.9 ** np.arange(30), rtol=1e-12)
    rows = rows_by_sequence(lengths, 8)
    for lag in range(30):
        assert gain.n[lag] == ((rows > 0) & (rows - lag >= 1)).sum()


def test_sequences_of_no_steps_alone_are_refused(rng):
    record = ToyRecord(repeated(orthogonal(2, rng), 5), 2, {"h": 2}, lengths=np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="no sequence has a step"):
        lag_gain_of_record(record)


def test_n_counts_sources_times_sequences(rng):
    record = ToyRecord(repeated(orthogonal(3, rng), 16), 5, {"h": 3})
    gain = lag_gain_of_record(record)
    rows = source_rows(16, 8)
    for lag in range(16):
        assert gain.n[lag] == 5 * sum(row - lag >= 1 for row in rows)
    whole = lag_gain_of_record(record, max_lag=16)
    assert whole.n[16] == 5 and len(whole.value) == 17


def test_the_median_runs_over_sources_and_sequences():
    """Four sequences whose single unit shrinks by a constant: every gain is known."""
    record = ToyRecord(repeated(np.array([[0.5]]), 8), 4, {"h": 1})
    gain = lag_gain_of_record(record)
    np.testing.assert_allclose(gain.samples[:, :, 1], 0.5)
    np.testing.assert_allclose(gain.ci[3], [0.125, 0.125])


def test_one_sequence_gives_a_rate_without_an_interval(rng):
    gain = lag_gain_of_record(ToyRecord(repeated(orthogonal(3, rng), 9), 1, {"h": 3}))
    assert gain.replicates is None and decay_rate(gain).ci is None


def test_the_interval_of_one_sequence_is_a_wide_range_over_its_sources_where_all_reach(rng):
    matrices = [factor * np.eye(1) for factor in rng.uniform(0.7, 1.3, 20)]
    gain = lag_gain_of_record(ToyRecord(np.array(matrices), 1, {"h": 1}))
    reached = gain.n == gain.n[0]
    assert gain.n[0] == 8 and 5 < reached.sum() < 20
    assert np.isnan(gain.ci[~reached]).all()
    low, high = gain.samples[:, 0, reached].min(axis=0), gain.samples[:, 0, reached].max(axis=0)
    np.testing.assert_allclose(gain.ci[reached, 0], low**2 / high, rtol=1e-12)
    np.testing.assert_allclose(gain.ci[reached, 1], high**2 / low, rtol=1e-12)


@pytest.mark.parametrize("factor", [0.0, np.nan])
def test_the_interval_of_one_sequence_survives_gains_that_vanish_or_are_not_numbers(factor):
    gain = lag_gain_of_record(ToyRecord(repeated(np.array([[factor]]), 20), 1, {"h": 1}))
    np.testing.assert_array_equal(gain.ci[3], [factor, factor])


def test_the_bootstrap_interval_of_the_rate_holds_the_rate():
    """Each sequence has its own constant factor, spread around 0.9."""
    factors = np.linspace(0.85, 0.95, 9)
    record = ToyRecord(repeated(np.eye(9) * factors, 30), 9, {"h": 9})
    gain = lag_gain_of_record(record)
    low, high = decay_rate(gain).ci
    assert low < decay_rate(gain).value < high


def test_a_gradient_that_leaves_the_range_has_rate_zero_or_infinity():
    vanished = np.concatenate([[1.0, 1e-30], np.zeros(10)])
    assert rate_of(vanished, floor=1e-38) == 0.0
    assert rate_of(np.concatenate([[1.0, 1e30], np.full(10, np.inf)])) == np.inf
    assert np.isnan(rate_of(np.concatenate([[1.0, 1e30], np.full(10, np.nan)])))


def test_lags_below_the_floor_of_the_dtype_stay_out_of_the_fit():
    gain = 0.01 ** np.arange(30.0)
    gain[19:] = 1e-45  # a plateau of subnormals is no rate of 1
    assert rate_of(gain, floor=1e-38) == pytest.approx(0.01, rel=1e-12)


def test_the_horizon_is_endless_where_nothing_shrinks(rng):
    gain = lag_gain_of_record(ToyRecord(repeated(1.01 * orthogonal(3, rng), 12), 2, {"h": 3}))
    assert decay_rate(gain).horizon == np.inf


def test_cost_counts_one_sweep_per_source_and_the_forward_pass(rng):
    record = ToyRecord(repeated(orthogonal(3, rng), 30), 2, {"h": 3})
    assert lag_gain_of_record(record, sources=5, flops=100).cost.sweeps == 6
    assert lag_gain_of_record(record, sources=5, flops=100).cost.flops == 600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inject": "c"}, r"lag_gain: inject must be a state of the cell, got 'c'; the cell has h"),
        ({"max_lag": 11}, r"max_lag must lie in 0 to T = 10, got 11; pass a longer x"),
        ({"sources": 0}, r"sources must be a whole number, 1 or more, got 0"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, words, rng):
    record = ToyRecord(repeated(orthogonal(2, rng), 10), 1, {"h": 2})
    with pytest.raises(ValueError, match=words):
        lag_gain_of_record(record, **arguments)


def test_no_steps_and_no_sequences_are_refused():
    with pytest.raises(ValueError, match="at least one step, got T = 0"):
        lag_gain_of_record(ToyRecord(np.zeros((0, 2, 2)), 1, {"h": 2}))
    with pytest.raises(ValueError, match="at least one sequence, got a batch of 0"):
        lag_gain_of_record(ToyRecord(np.zeros((3, 2, 2)), 0, {"h": 2}))
