"""Lyapunov exponents, singular values and eigenvalues against what is known on paper.

One test per row of the table of the exponents' closed forms, then what holds for any Jacobians.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diagnostics as dg
import minirnn
from diagnostics import rules
from diagnostics.gallery import near_and_far
from diagnostics.quantities import jacobian_source
from diagnostics.quantities.self_checks import checks_of_twin
from diagnostics.quantities.statistics import student_quantile
from diagnostics.quantities.twin import twin_of
from minirnn.layers.reference import use_reference
from tests.test_diagnostics_closed_forms import logistic, network
from tests.toy_record import orthogonal, repeated


def test_a_constant_matrix_has_the_logarithms_of_its_eigenvalues(rng):
    basis = rng.normal(size=(5, 5))
    matrix = basis @ np.diag([1.3, -0.9, 0.6, 0.2, -0.05]) @ np.linalg.inv(basis)
    found = dg.lyapunov_spectrum(repeated(matrix, 200))
    np.testing.assert_allclose(found.value, np.log([1.3, 0.9, 0.6, 0.2, 0.05]), rtol=1e-9)


def test_an_orthogonal_matrix_has_none(rng):
    found = dg.lyapunov_spectrum(repeated(orthogonal(8, rng), 100))
    np.testing.assert_allclose(found.value, 0.0, atol=1e-14)
    np.testing.assert_allclose(found.ci, 0.0, atol=1e-14)


def test_the_cat_map():
    found = dg.lyapunov_spectrum(repeated(np.array([[2.0, 1.0], [1.0, 1.0]]), 100))
    golden = math.log((3 + math.sqrt(5)) / 2)
    np.testing.assert_allclose(found.value, [golden, -golden], rtol=1e-12)
    assert found.kaplan_yorke == pytest.approx(2.0)
    assert found.entropy == pytest.approx(golden)


def test_the_logistic_map_at_4_has_ln_2():
    x, slopes = 0.3123, np.empty(20_000)
    for t in range(len(slopes)):
        slopes[t] = 4 - 8 * x
        x = 4 * x * (1 - x)
    found = dg.lyapunov_spectrum(slopes[:, None, None], every=50)
    low, high = found.ci[0]
    # ln |4 - 8x| has a long tail towards -inf; 20000 steps leave about 0.003.
    assert found.value[0] == pytest.approx(math.log(2), abs=0.01)
    assert low < math.log(2) < high


def test_the_henon_map_contracts_areas_by_b_exactly():
    a, b, x, y = 1.4, 0.3, 0.1, 0.1
    jacobians = np.empty((4000, 2, 2))
    for t in range(len(jacobians)):
        jacobians[t] = [[-2 * a * x, 1.0], [b, 0.0]]
        x, y = 1 - a * x * x + y, b * x
    found = dg.lyapunov_spectrum(jacobians)
    assert found.value.sum() == pytest.approx(math.log(b), rel=1e-12)
    assert found.residual == pytest.approx(0.0, abs=1e-12)
    assert found.value[0] == pytest.approx(0.419, abs=0.02)  # 4000 steps of chaos
    # 1 + lambda_1 / |lambda_2|, known as 1.26.
    assert found.kaplan_yorke == pytest.approx(1.26, abs=0.02)
    assert found.ci[0, 0] > 0


def digamma(x):
    """Recurrence up to 8, then the asymptotic series."""
    shift = 0.0
    while x < 8:
        shift, x = shift - 1 / x, x + 1
    f = 1 / (x * x)
    return shift + math.log(x) - 0.5 / x - f * (1 / 12 - f * (1 / 120 - f / 252))


def newman(size, variance):
    """Exponents of products of matrices with independent normal entries (Newman 1986)."""
    return np.array([0.5 * (math.log(2 * variance) + digamma((size - i) / 2))
                     for i in range(size)])  # fmt: skip


def test_products_of_random_matrices_have_newmans_exponents(rng):
    jacobians = rng.normal(size=(4000, 6, 6)) / math.sqrt(6)
    found = dg.lyapunov_spectrum(jacobians)
    half = (found.ci[:, 1] - found.ci[:, 0]) / 2
    # Twice the half width of a 95% interval holds all six but for one case in 10^4.
    assert (np.abs(found.value - newman(6, 1 / 6)) < 2 * half + 1e-3).all()
    assert half.max() < 0.1


def test_the_interval_holds_the_truth_in_95_of_100_cases():
    """200 runs of 8 sequences: the binomial spread of 95% is 1.5%, three of them are allowed."""
    truth, hits = newman(2, 0.5), np.zeros(2)
    for seed in range(200):
        jacobians = np.random.default_rng(seed).normal(size=(32, 8, 2, 2)) * math.sqrt(0.5)
        ci = dg.lyapunov_spectrum(jacobians, warmup=4).ci
        hits += (ci[:, 0] < truth) & (truth < ci[:, 1])
    assert (hits / 200 > 0.95 - 0.046).all() and (hits / 200 <= 0.95 + 0.046).all(), hits / 200


@given(st.integers(0, 2**16), st.integers(1, 6), st.integers(1, 20), st.integers(1, 4))
def test_all_exponents_sum_to_the_mean_log_determinant(seed, size, steps, batch):
    jacobians = np.random.default_rng(seed).normal(size=(steps, batch, size, size))
    found = dg.lyapunov_spectrum(jacobians)
    determinants = np.linalg.slogdet(jacobians)[1].mean()
    # Random 6 x 6 matrices may be close to singular: their smallest entry of R loses digits.
    assert found.value.sum() == pytest.approx(determinants, rel=1e-8, abs=1e-9)
    assert found.log_det == pytest.approx(determinants, rel=1e-12)


def test_a_scalar_network_at_its_fixed_point():
    """h = tanh(1.7 h): ln(w (1 - h*^2)) = -1.2799."""
    layer = network("rnn", 1, weight_hh=1.7, bias_ih=0.0)
    h = 0.5
    for _ in range(2000):
        h = math.tanh(1.7 * h)
    start = np.full((1, 1, 1), h)
    with minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(np.zeros((100, 1, 1)), start)
    found = dg.lyapunov_spectrum(seen.step_jacobians())
    assert found.value[0] == pytest.approx(math.log(1.7 * (1 - h * h)), rel=1e-10)
    assert found.value[0] == pytest.approx(-1.2799, abs=5e-5)


def test_a_contracting_tanh_network_without_input_has_the_logarithms_of_its_weights(rng):
    """At h = 0 the slope is 1; the largest comes near ln g (circular law, size 40)."""
    weight = 0.8 * rng.normal(size=(40, 40)) / math.sqrt(40)
    layer = network("rnn", 40, weight_hh=weight)
    found = dg.lyapunov_spectrum(layer, np.zeros((500, 1, 1)), k=5)
    truth = np.sort(np.log(np.abs(np.linalg.eigvals(weight))))[::-1][:5]
    # Complex pairs turn for ever: the average over 500 steps is within about 1/500.
    np.testing.assert_allclose(found.value, truth, atol=5e-3)
    assert found.value[0] == pytest.approx(math.log(0.8), abs=0.15)  # circular law at size 40


def test_a_gru_at_the_zero_fixed_point(rng):
    biases = rng.normal(size=(3, 4))
    biases[2] = 0
    layer = network("gru", 4, weight_hh=rng.normal(size=(12, 4)), bias_ih=biases.ravel())
    weights = layer.weight_hh_l0.numpy()[8:]
    r, z = logistic(biases[0]), logistic(biases[1])
    eigenvalues = np.linalg.eigvals(np.diag(z) + np.diag((1 - z) * r) @ weights)
    truth = np.sort(np.log(np.abs(eigenvalues)))[::-1]
    found = dg.lyapunov_spectrum(layer, np.zeros((400, 1, 1)))
    np.testing.assert_allclose(found.value, truth, atol=5e-3)


def test_the_jacobian_of_h_alone_would_miss_an_lstms_memory(rng):
    """Forget gate 0.95: the full state remembers, and h with c frozen would say -3."""
    weights, biases = 0.1 * rng.normal(size=(4, 5, 5)), np.zeros((4, 5))
    biases[1] = math.log(0.95 / 0.05)
    layer = network("lstm", 5, weight_hh=weights.reshape(20, 5), bias_ih=biases.ravel())
    x = np.zeros((300, 1, 1))
    whole = dg.lyapunov_spectrum(layer, x).value[0]
    truth = np.abs(np.linalg.eigvals(np.diag(logistic(biases[1])) + 0.25 * weights[2])).max()
    assert whole == pytest.approx(math.log(truth), abs=2e-3)
    h_alone = dg.lyapunov_spectrum(dg.step_jacobians(layer, x).value[:, :, :5, :5]).value[0]
    assert h_alone < math.log(truth) - 1.5


FORGET = np.array([4.0, 2.0, 0.5, -1.0])  # biases of the forget gate, unit by unit


def forgetting(**values):
    """An LSTM without recurrent weights, whose forget gate is a constant."""
    biases = np.stack([[0.3, -0.2, 1.0, 0.0], FORGET, np.zeros(4), [-1.0, 0.0, 0.5, 2.0]])
    return network("lstm", 4, inputs=2, bias_ih=biases.ravel(), **values)


def test_an_lstm_with_frozen_gates_has_an_exponent_per_unit_its_forget_gates_logarithm():
    found = dg.lyapunov_spectrum(forgetting(), np.zeros((200, 1, 2)))
    np.testing.assert_allclose(found.value[:4], np.log(logistic(FORGET)), rtol=1e-10)
    assert np.isneginf(found.value[4:]).all()  # h is made anew at every step


def test_what_enters_an_lstm_does_not_change_the_exponents_of_its_forget_gates(rng):
    """The other gates move with the input, the forget gate's rows of weight_ih are zero."""
    weights = rng.normal(size=(4, 4, 2))
    weights[1] = 0
    layer = forgetting(weight_ih=weights.reshape(16, 2))
    found = dg.lyapunov_spectrum(layer, rng.normal(size=(200, 1, 2)))
    # dh = o (1 - tanh(c)^2) dc makes a vector longer by at most sqrt(2), and at the ends only.
    np.testing.assert_allclose(found.value[:4], np.log(logistic(FORGET)),
                               atol=math.log(2) / 2 / 200)  # fmt: skip
    assert np.isneginf(found.value[4:]).all()


def backward(layer, x):
    """Exponents from backward passes alone: of one step each, with a vector per column of Q.

    x: (T, 1, I).  The vectors are first turned by a pass over all steps.
    """
    with minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(x)
    names, states = layer.cell.state, seen.states
    size = sum(states[k].shape[2] for k in names)
    q, sums = np.eye(size), np.zeros((2, size))
    for total in sums:
        for t in reversed(range(len(x))):
            start = tuple(np.repeat(states[k][t], size, axis=0)[None] for k in names)
            with minirnn.watch(layer) as one, minirnn.no_grad():
                layer(np.repeat(x[t : t + 1], size, axis=1), start if len(start) > 1 else start[0])
            parts = np.split(q.T, len(names), axis=1)  # a column of Q per sequence
            swept = one.pullback(d_state=tuple(parts)).carried_grads
            q, r = np.linalg.qr(np.concatenate([swept[k][0] for k in names], axis=1).T)
            total += np.log(np.abs(np.diag(r)))
    return sums[1] / len(x)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_the_spectrum_of_backward_passes_is_that_of_the_forward_one(name, rng):
    with use_reference():
        layer = minirnn.Recurrent(name, 2, 3, dtype="float64", seed=0)
        x = rng.normal(size=(150, 1, 2))
        forward, ours = dg.lyapunov_spectrum(layer, x), backward(layer, x)
    # Both sum to the mean logarithm of the determinants.
    assert ours.sum() == pytest.approx(forward.value.sum(), rel=1e-10)
    # One by one they differ by how the first and the last vectors lie: of order 1 in 150 steps.
    np.testing.assert_allclose(ours, forward.value, atol=0.02)
    assert np.ptp(forward.value) > 0.1


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_over_a_finite_time_the_backward_pass_has_the_matrix_that_tangents_have(name, rng):
    """Hence its singular values too, the finite-time exponents."""
    with use_reference():
        layer = minirnn.Recurrent(name, 2, 3, dtype="float64", seed=0)
        names, x = layer.cell.state, rng.normal(size=(8, 1, 2))
        size = 3 * len(names)
        with minirnn.watch(layer) as seen, minirnn.no_grad():
            layer(np.repeat(x, size, axis=1))
        units = np.split(np.eye(size), len(names), axis=1)
        swept = seen.pullback(d_state=tuple(units)).carried_grads
        back = np.concatenate([swept[k][0] for k in names], axis=1)

        def ends(*start):
            return layer(x, start if len(start) > 1 else start[0])[1]

        zeros, columns = [np.zeros((1, 1, 3)) for _ in names], []
        for unit in np.eye(size):
            tangents = [part.reshape(1, 1, 3) for part in np.split(unit, len(names))]
            moved = minirnn.jvp(ends, zeros, tangents)[1]
            moved = moved if isinstance(moved, tuple) else (moved,)
            columns.append(np.concatenate([m.numpy().ravel() for m in moved]))
    # Eight steps in two orders of multiplication.
    np.testing.assert_allclose(back, np.stack(columns, axis=1), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("name", "gain"), [("rnn", 0.6), ("rnn", 4.0), ("lstm", 1), ("gru", 1)])
def test_the_sign_of_the_first_exponent_says_whether_gradients_vanish_or_explode(name, gain, rng):
    """What figure D3 fits to a gradient on its way back, and what tangents do forward."""
    with use_reference():
        layer = minirnn.Recurrent(name, 3, 24, dtype="float64", seed=0)
        if name == "rnn":
            layer.weight_hh_l0.assign(gain * rng.normal(size=(24, 24)) / math.sqrt(24))
            layer.weight_ih_l0.assign(0.3 * layer.weight_ih_l0.numpy())
        x = rng.normal(size=(120, 16, 3))
        slope, found = near_and_far.reach(name, layer, x), dg.lyapunov_spectrum(layer, x, k=1)
    first, (low, high) = found.value[0], found.ci[0]
    assert (first > 0) == (gain > 1) and not low < 0 < high
    assert np.sign(math.log(slope.rate)) == np.sign(first)
    # Equal within both 95% intervals: the slope is of 60 lags, the exponent of 120 steps.
    ends = np.log(slope.ci)
    assert abs(math.log(slope.rate) - first) < (np.ptp(ends) + high - low) / 2 + 1e-3


def test_fewer_exponents_are_the_first_ones(rng):
    jacobians = rng.normal(size=(400, 2, 6, 6)) / math.sqrt(6)
    whole = dg.lyapunov_spectrum(jacobians)
    first = dg.lyapunov_spectrum(jacobians, k=2, seed=1)
    # Another start, forgotten exponentially fast within the first pass.
    np.testing.assert_allclose(first.value, whole.value[:2], atol=1e-6)
    assert first.log_det is None and first.residual is None
    assert math.isnan(dg.lyapunov_spectrum(jacobians * 3, k=2).kaplan_yorke)


@pytest.mark.parametrize("every", [2, 7, 50])
def test_rarer_decompositions_agree(every, rng):
    """A block that would lose digits is cut up: the smallest exponents stay right, too."""
    jacobians = rng.normal(size=(200, 2, 5, 5)) / math.sqrt(5)
    often, rarely = dg.lyapunov_spectrum(jacobians), dg.lyapunov_spectrum(jacobians, every=every)
    # Within a block the directions differ by up to 50 decades: what is lost is rounding of those.
    np.testing.assert_allclose(rarely.value, often.value, atol=1e-6)


def test_two_trajectories_part_at_the_rate_of_the_first_exponent(rng):
    """A chaotic network, perturbed by 1e-9: the mean growth over 30 steps, 64 trajectories."""
    layer = network("rnn", 30, inputs=30, weight_hh=4 * rng.normal(size=(30, 30)) / math.sqrt(30))
    start = 0.5 * rng.normal(size=(1, 64, 30))
    settled = layer(np.zeros((100, 64, 30)), start)[1].numpy()
    x = np.zeros((15, 64, 30))
    apart = 1e-9 * rng.normal(size=settled.shape)
    one, other = layer(x, settled)[0].numpy(), layer(x, settled + apart)[0].numpy()
    logs = np.log(np.linalg.norm(one - other, axis=-1)).mean(axis=1)
    with minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(x, settled)
    found = dg.lyapunov_spectrum(seen.step_jacobians(), k=1)
    # A random direction needs a few steps to find the fastest one.
    assert found.value[0] == pytest.approx((logs[-1] - logs[4]) / (len(logs) - 5), abs=0.1)
    assert found.ci[0, 0] > 0 and "chaos" in rules.lyapunov(found, 10).evidence


def test_a_singular_jacobian_gives_minus_infinity(rng):
    matrix = orthogonal(4, rng) @ np.diag([1.0, 0.5, 0.0, 0.0]) @ orthogonal(4, rng)
    found = dg.lyapunov_spectrum(repeated(matrix, 50))
    assert np.isfinite(found.value[:2]).all() and np.isneginf(found.value[2:]).all()
    assert np.isneginf(found.ci[2:]).all() and found.residual is None
    zero = dg.lyapunov_spectrum(np.zeros((5, 2, 2)))
    assert np.isneginf(zero.value).all() and zero.kaplan_yorke == 0.0


def test_steps_after_the_length_count_for_nothing(rng):
    layer = minirnn.Recurrent("gru", 3, 4, dtype="float64", seed=0)
    x = rng.normal(size=(30, 3, 3))
    x[10:, 1] = np.nan
    found = dg.lyapunov_spectrum(layer, x, lengths=[30, 10, 30], warmup=0)
    assert found.steps == 70 and np.isfinite(found.value).all()
    with pytest.raises(ValueError, match="no sequence has a step to count"):
        dg.lyapunov_spectrum(layer, x, lengths=[0, 0, 0])
    bound = dg.product_bound(layer, x, lengths=[30, 10, 30])
    alone = dg.product_bound(layer, x[:10, 1:2])
    parts = dg.product_bound(layer, x[:, [0, 2]])
    # Every sequence counts from its own end.
    three = [np.sort([parts_v, other, alone_v])[1] for parts_v, other, alone_v in zip(
        dg.product_bound(layer, x[:, :1]).value[:11],
        dg.product_bound(layer, x[:, 2:]).value[:11], alone.value, strict=True)]  # fmt: skip
    np.testing.assert_allclose(bound.value[:11], three, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(bound.value[11:], parts.value[11:], rtol=1e-12)


def test_jacobians_in_pieces_give_the_same(rng, monkeypatch):
    layer = minirnn.Recurrent("lstm", 3, 4, dtype="float64", seed=0)
    x = rng.normal(size=(20, 2, 3))
    whole = [f(layer, x) for f in (dg.lyapunov_spectrum, dg.singular_values, dg.product_bound)]
    monkeypatch.setattr(jacobian_source, "PIECE", 3 * 2 * 8 * 8 * 8)
    parts = [f(layer, x) for f in (dg.lyapunov_spectrum, dg.singular_values, dg.product_bound)]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.value, other.value)
    given = dg.lyapunov_spectrum(dg.step_jacobians(layer, x))
    np.testing.assert_allclose(given.value, whole[0].value, rtol=1e-12)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("direction", [0, 1])
def test_every_level_and_direction_has_its_exponents(level, direction, rng):
    with use_reference():
        layer = minirnn.Recurrent(
            "gru_before", 3, 4, num_layers=2, bidirectional=True, dtype="float64", seed=0
        )
        x = rng.normal(size=(12, 2, 3))
        found = dg.lyapunov_spectrum(layer, x, level=level, direction=direction)
        jacobians = dg.step_jacobians(layer, x, level=level, direction=direction)
        np.testing.assert_allclose(found.value, dg.lyapunov_spectrum(jacobians).value, rtol=1e-12)


def test_numbers_that_are_not_finite_are_said_to_be_so():
    jacobians = np.full((20, 2, 2), np.nan)
    assert np.isnan(dg.singular_values(jacobians).value).all()
    assert np.isnan(dg.lyapunov_spectrum(jacobians).value).all()
    assert rules.lyapunov(dg.lyapunov_spectrum(jacobians), 10).level == "inconclusive"
    assert rules.contraction(dg.singular_values(jacobians)).level == "inconclusive"
    assert np.isnan(dg.linearisation(jacobians).value)


@pytest.mark.parametrize(("first", "level"), [(0.0, "ok"), (-0.1, "warn"), (-0.2, "fail"),
                                              (0.1, "warn"), (0.2, "fail")])  # fmt: skip
def test_the_first_exponent_is_judged_over_the_lag_that_is_needed(first, level):
    found = dg.lyapunov_spectrum(repeated(np.exp(first) * np.eye(3), 200))
    assert rules.lyapunov(found, 100).level == level
    assert rules.lyapunov(found, 10).level == "ok"


def test_few_blocks_of_steps_are_inconclusive():
    """Three that agree by chance make a narrow interval, whatever Student's t allows for."""
    found = dg.lyapunov_spectrum(repeated(np.exp(-0.2) * np.eye(3), 60))
    verdict = rules.lyapunov(found, 100)
    assert found.blocks == 3 and verdict.level == "inconclusive"
    assert "3 blocks of steps, 8 are needed" in verdict.evidence


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.zeros((3, 2)),), ValueError, r"jacobians must have shape \(T, S, S\)"),
        ((np.zeros((0, 2, 2)),), ValueError, "at least one step, got T = 0"),
        ((np.zeros((3, 0, 2, 2)),), ValueError, "a batch of 0"),
        ((np.zeros((3, 2, 2), complex),), TypeError, "must be real numbers"),
        ((np.zeros((3, 2, 2)), None, 3), ValueError, "k must lie in 1 to 2"),
        ((np.zeros((3, 2, 2)), None, 2, 0), ValueError, "every must be a whole number, 1 or more"),
        ((np.zeros((3, 2, 2)), None, 2, 1, 3), ValueError, "warmup must lie in 0 to 2"),
        ((minirnn.Recurrent("rnn", 1, 2),), ValueError, "a layer needs its input; pass x"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, error, words):
    with pytest.raises(error, match=words):
        dg.lyapunov_spectrum(*arguments)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824),
                                                   (10, 2.2281), (1000, 1.9623)])  # fmt: skip
def test_students_quantile_is_that_of_the_tables(freedom, quantile):
    # The expansion's error at 3 degrees of freedom.
    assert student_quantile(freedom) == pytest.approx(quantile, rel=2e-3)


def test_a_sum_of_exponents_that_is_exact_counts_as_a_check(rng):
    """A residual of 0 is a check that holds, not one that is missing."""
    layer = minirnn.RNN(2, 2, dtype="float64", seed=0)
    found = dg.lyapunov_spectrum(repeated(np.diag([2.0, 0.5]), 20))
    assert found.residual == 0.0
    twin = twin_of(layer, rng.normal(size=(5, 3, 2)))
    checks = checks_of_twin(twin, None, [], [found], 0)
    assert checks.residuals["(c) sum of the exponents"] == 0.0
