"""The gallery's numbers against closed forms and against what the lecture notes state."""

import math

import numpy as np
import pytest

import minirnn
from diagnostics.gallery import (
    bifurcation,
    credit,
    film,
    gradient_noise,
    near_and_far,
    powers,
    wall,
)

# D4


@pytest.fixture(scope="module")
def surface():
    return wall.numbers()


def test_the_wall_has_the_numbers_of_the_protocol(surface):
    assert surface.largest == pytest.approx(440, abs=1)
    assert surface.at == (pytest.approx(4.69), pytest.approx(-2.42))
    assert surface.median == pytest.approx(0.029, abs=5e-4)
    assert surface.rare == pytest.approx(1.06, abs=0.01)
    places = {w: (b, slope) for w, b, slope in surface.walls}
    for w, b, slope in ((4.5, -2.30295, 134), (5.0, -2.61234, 5.5e3)):
        # The notes' search ended at a grid of about 1e-5, and 5% below the thinner wall's peak.
        assert places[w] == (pytest.approx(b, abs=2e-5), pytest.approx(slope, rel=0.06))


def test_where_the_notes_saw_the_wall_sink_their_search_walked_past_it(surface):
    """Their 5.4e2 at w = 5.5 and 0.05 at w = 7 are slopes at its foot: it only gets thinner."""
    places = {w: (b, slope) for w, b, slope in surface.walls}
    b, slope = places[5.5]
    assert b == pytest.approx(-2.92352, abs=1e-5) and slope > 3e5
    assert abs(wall.error(5.5, -2.92352)[2]) == pytest.approx(5.4e2, rel=0.01)  # two digits
    coarse = np.linspace(-5, 1, 200_001)  # 3e-5 apart: about what the notes' digits can tell
    assert np.abs(wall.error(7.0, coarse)[2]).max() == pytest.approx(0.05, abs=5e-3)
    b, slope = places[7.0]
    assert b == pytest.approx(wall.wall_at(7.0), abs=1e-8) and slope > 1e10


def test_the_wall_stands_where_the_first_state_is_an_unstable_fixed_point(surface):
    for w, b, slope in surface.walls[1:]:
        assert b == pytest.approx(wall.wall_at(w), abs=1e-4)
        # One step away from the fixed point the state is multiplied by w s'(1/2).
        growth = (w * wall.SLOPE) ** wall.STEPS
        assert 0.1 * growth < slope < 10 * growth


def test_without_clipping_a_step_at_the_wall_is_ten_times_longer_and_ends_on_the_plateau(surface):
    plain, clipped = surface.jumps
    assert plain > 10 * clipped
    assert clipped == pytest.approx(wall.RATE * wall.THRESHOLD)
    assert wall.error(*surface.plain[-1])[0] == pytest.approx(0.09, abs=1e-3)  # (1 - 0.7)^2
    assert wall.error(*surface.clipped.T)[0].min() < 1e-4


@pytest.mark.parametrize("rate", [0.01, 0.1])
@pytest.mark.parametrize("w", [4.6, 5.0])
def test_from_the_wall_a_plain_step_goes_ten_times_further(w, rate):
    b, _ = wall.steepest(w)
    steps = [
        float(np.linalg.norm(np.diff(wall.descend(rate, threshold, 1, (w, b)), axis=0)))
        for threshold in (math.inf, 1.0)
    ]
    assert steps[0] > 10 * steps[1]


def test_the_gradient_of_the_surface_is_that_of_the_tape():
    @minirnn.cell(gates="x", state="x", vectors=("w", "b"), products=())
    def unit(wx, u, prev, p):
        return wx.x + p.w * minirnn.sigmoid(prev.x) + p.b

    w, b = np.array([4.6, 5.0, 5.3]), np.array([-2.3, -2.7, -2.2])
    layer = minirnn.Recurrent(unit, 1, 3, dtype="float64")
    for name, parameter in layer.named_parameters():
        value = {"vector_w_l0": w, "vector_b_l0": b}.get(name, np.zeros(parameter.shape))
        parameter.assign(value)
    x = layer(np.zeros((wall.STEPS, 1, 1)), np.full((1, 1, 3), wall.START))[1]
    errors = (minirnn.sigmoid(x) - wall.TARGET) ** 2
    errors.sum().backward()
    expected = wall.error(w, b)
    np.testing.assert_allclose(errors.numpy()[0, 0], expected[0], rtol=1e-10)
    # Derivatives of 50 steps, in two orders of multiplication.
    np.testing.assert_allclose(layer.vector_w_l0.grad, expected[1], rtol=1e-9)
    np.testing.assert_allclose(layer.vector_b_l0.grad, expected[2], rtol=1e-9)


# D5


def test_the_folds_are_those_of_the_notes_and_of_the_running_unit():
    (left, upper), (right, lower) = bifurcation.folds(5.0)
    assert (left, right) == (pytest.approx(-2.6556, abs=5e-5), pytest.approx(-2.3444, abs=5e-5))
    assert (upper, lower) == (pytest.approx(0.9624, abs=5e-5), pytest.approx(-0.9624, abs=5e-5))
    # The state passes a fold that has just gone slowly: 4000 steps see it to about 1e-5.
    assert bifurcation.measured_folds() == (pytest.approx(left, abs=1e-3),
                                            pytest.approx(right, abs=1e-3))  # fmt: skip


def test_a_fold_is_a_fixed_point_with_slope_one_and_there_is_none_below_four():
    for b, x in bifurcation.folds(6.0):
        s = float(bifurcation.logistic(x))
        assert 6.0 * s + b == pytest.approx(x) and 6.0 * s * (1 - s) == pytest.approx(1)
    assert bifurcation.folds(3.9) == []


def test_runs_of_the_unit_end_on_stable_fixed_points():
    b = np.array([-3.5, -2.5, -1.5])
    for end in bifurcation.limits(b):
        s = bifurcation.logistic(end)
        np.testing.assert_allclose(5 * s + b, end, atol=1e-12)
        assert (5 * s * (1 - s) < 1).all()


# D7


def test_the_demo_of_cs231n_has_the_same_arrays(rng):
    """The twelve lines, as the course prints them."""
    H, T = powers.HIDDEN, powers.STEPS
    Whh = rng.standard_normal((H, H))
    hs, ss, dhs, dss = {-1: rng.standard_normal(H)}, {}, {}, {}
    for t in range(T):
        ss[t] = Whh @ hs[t - 1]
        hs[t] = np.maximum(0, ss[t])
    dhs[T - 1] = rng.standard_normal(H)
    for t in reversed(range(T)):
        dss[t] = (hs[t] > 0) * dhs[t]
        dhs[t - 1] = Whh.T @ dss[t]
    states, gradients = powers.gradients(Whh, hs[-1], dhs[T - 1])
    rows = range(-1, T)
    # Sums of five products in another order, over 50 steps.
    np.testing.assert_allclose(states, [hs[t] for t in rows], rtol=1e-11)
    np.testing.assert_allclose(gradients, [dhs[t] for t in rows], rtol=1e-11)


@pytest.mark.parametrize("radius", [0.8, 1.25])
def test_with_positive_weights_the_largest_eigenvalue_is_the_factor_per_step(radius, rng):
    weight = np.abs(rng.standard_normal((5, 5)))
    weight *= radius / powers.radius(weight)
    whole, active, growth = powers.measure(weight, np.ones(5), rng.standard_normal(5))
    assert whole == active == pytest.approx(radius)
    assert growth == pytest.approx(radius, rel=1e-6)  # after 10 steps only one direction is left


def test_silent_units_are_struck_out_of_the_matrix():
    weight = np.array([[0.5, 0.0], [-9.0, -9.0]])
    whole, active, growth = powers.measure(weight, np.ones(2), np.ones(2))
    assert (whole, active, growth) == (9.0, 0.5, pytest.approx(0.5))
    dead = powers.measure(-np.eye(2), np.ones(2), np.ones(2))
    assert dead[:2] == (1.0, 0.0) and math.isnan(dead[2])


# D3


def test_the_slope_near_and_far_is_the_logarithm_of_the_rate():
    init = {"weight_hh": minirnn.init.orthogonal(0.9), "bias": minirnn.init.zeros()}
    layer = minirnn.RNN(2, 8, dtype="float64", seed=0, init=init)
    found = near_and_far.reach("rho Q", layer, np.zeros((60, 4, 2)))
    np.testing.assert_allclose(found.gain, 0.9 ** np.arange(61), rtol=1e-12)
    assert found.rate == pytest.approx(0.9) and found.ci == (pytest.approx(0.9),) * 2


# D6


def test_the_forget_gate_alone_keeps_noise_as_long_as_its_bias_says():
    assert [gradient_noise.forget_gate_alone(b) for b in (0, 1, 3, 5)] == [10, 23, 143, 1029]


def test_noise_in_an_lstm_without_recurrent_weights_decays_by_the_forget_gate():
    layer = minirnn.LSTM(2, 4, dtype="float64", seed=0, init={
        "weight_hh": minirnn.init.zeros(), "weight_ih": minirnn.init.zeros(),
        "bias": minirnn.init.forget_bias(1.0)})  # fmt: skip
    found = gradient_noise.follow("frozen", layer, np.zeros((80, 3, 2)))
    rate = 1 / (1 + math.exp(-1))
    # At rest h = c/2 and dh is passed on once: |dc| = |dh| / 2, then the gate alone, at s(1).
    np.testing.assert_allclose(found.norm[1:], 0.5 * rate ** np.arange(1, 81), rtol=1e-9)
    assert found.gone == 20  # log(2 / 1000) / log(rate) = 19.8
    assert found.frames["c"].shape == (65, 4)


def test_noise_counts_as_gone_when_it_stays_below():
    assert gradient_noise.gone_after(np.array([1, 1e-4, 1, 1e-4, 1e-5])) == 3
    assert gradient_noise.gone_after(np.array([1e-4])) == 0
    assert gradient_noise.gone_after(np.array([1, 0.5])) == math.inf
    assert gradient_noise.gone_after(np.array([1, np.nan])) == math.inf


def test_a_strip_of_the_film_is_paler_by_the_logarithm_and_coloured_by_the_sign():
    frames = np.array([[1.0, -1.0, 0.1, 1e-3, 0.0, 1e-9, -0.03, 1.0]])
    pixels = film.strip(frames, largest=1.0, least=1e-3)
    assert pixels.shape == (4, 2, 4)
    alpha = pixels[..., 3].ravel()
    np.testing.assert_array_equal(alpha[[0, 1, 3, 4, 5, 7]], [255, 255, 0, 0, 0, 255])
    assert alpha[2] == 170  # 0.1 is a third of the way from 1 to 1/1000
    assert pixels[0, 0, 0] > pixels[0, 0, 2] and pixels[0, 1, 0] < pixels[0, 1, 2]


# D19


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_before"])
def test_the_terms_add_up_to_the_gradient(cell, rng):
    layer = minirnn.Recurrent(cell, 3, 5, dtype="float64", seed=0)
    x, d_output = rng.normal(size=(7, 2, 3)), rng.normal(size=(7, 2, 5))
    found = credit.measure(cell, layer, x, d_output)
    assert found.residual < 1e-10
    t, k = np.mgrid[:7, :7]
    assert (found.size[k > t] == 0).all() and (found.size[(k <= t) & (k > 0)] > 0).all()


def test_a_term_is_the_product_of_its_three_factors(rng):
    """One unit, linear at h = 0 up to rounding: dE_t/dh_t w^(t - k) h_(k-1)."""
    layer = minirnn.RNN(1, 1, nonlinearity="relu", bias=False, dtype="float64")
    layer.weight_hh_l0.assign([[0.5]])
    layer.weight_ih_l0.assign([[1.0]])
    d_output = rng.normal(size=(6, 1, 1))
    found = credit.terms(layer, np.ones((6, 1, 1)), d_output)[:, :, 0, 0]
    h = 2 - 0.5 ** np.arange(-1, 6)[1:]  # h_t = 1 + h_(t-1) / 2
    h = np.concatenate([[0.0], h])
    expected = [[d_output[t, 0, 0] * 0.5 ** (t - k) * h[k] if k <= t else 0.0 for k in range(6)]
                for t in range(6)]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-12)
