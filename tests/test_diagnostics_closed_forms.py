"""Every number against arithmetic: networks whose gradients are known on paper.

One test per row of the table of closed forms; what is asked is what a report shows.
"""

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics import rules
from minirnn import cell
from tests.toy_record import orthogonal


@cell(gates="h", state="h")
def linear(wx, u, prev):
    """The recurrence without a nonlinearity: every Jacobian is U."""
    return wx.h + u.h @ prev.h


def network(made, units, inputs=1, **values):
    """A layer in float64 whose parameters are 0 but for those given."""
    layer = minirnn.Recurrent(made, inputs, units, dtype="float64")
    for name, parameter in layer.named_parameters():
        value = np.zeros(parameter.shape)
        value[...] = values.get(name.removesuffix("_l0"), 0.0)
        parameter.assign(value)
    return layer


def at_the_end(shape, g):
    """A loss on the last step alone: its derivative by the output."""
    d_output = np.zeros(shape)
    d_output[-1] = g
    return d_output


def deltas(layer, x, g):
    """||delta_t|| by row when g is the derivative by the last output."""
    flow = dg.gradient_flow(layer, x, at_the_end((*x.shape[:2], layer.hidden_size), g))
    return np.linalg.norm(flow.total["h"], axis=-1)


@pytest.mark.parametrize("made", [linear, "rnn"], ids=["linear", "tanh at 0"])
def test_an_orthogonal_matrix_keeps_delta(made, rng):
    layer = network(made, 12, weight_hh=orthogonal(12, rng))
    norms = deltas(layer, np.zeros((1000, 2, 1)), rng.normal(size=(2, 12)))
    # 1000 products with a matrix that is orthogonal to about 1e-16.
    np.testing.assert_allclose(norms, np.broadcast_to(norms[-1], norms.shape), rtol=1e-12)


def test_a_normal_matrix_scales_delta_by_its_eigenvalues(rng):
    """||delta_{T-k}||^2 = sum Lambda_i^2k c_i^2 with c = Q^T g."""
    eigenvalues = np.array([1.2, 0.9, 0.5, -0.3, 0.1, 0.7, -0.95, 0.2])
    q, g = orthogonal(8, rng), rng.normal(size=8)
    layer = network(linear, 8, weight_hh=q @ np.diag(eigenvalues) @ q.T)
    norms = deltas(layer, np.zeros((30, 1, 1)), g)[:, 0]
    lag = np.arange(30, -1, -1)[:, None]
    truth = np.sqrt((eigenvalues ** (2 * lag) * (q.T @ g) ** 2).sum(axis=1))
    np.testing.assert_allclose(norms, truth, rtol=1e-12)  # 30 products


def isometries(rng):
    v = rng.normal(size=6)
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    blocks = np.zeros((6, 6))
    for i in range(0, 6, 2):
        blocks[i : i + 2, i : i + 2] = turn
    return {
        "permutation": np.eye(6)[rng.permutation(6)],
        "Householder": np.eye(6) - 2 * np.outer(v, v) / (v @ v),
        "rotation": blocks,
    }


@pytest.mark.parametrize("kind", ["permutation", "Householder", "rotation"])
def test_isometries_keep_the_norm_and_their_eigenvalues_lie_on_the_circle(kind, rng):
    matrix = isometries(rng)[kind]
    layer = network(linear, 6, weight_hh=matrix)
    norms = deltas(layer, np.zeros((50, 1, 1)), rng.normal(size=6))[:, 0]
    np.testing.assert_allclose(norms, norms[-1], rtol=1e-13)
    found = dg.linearisation(layer, np.zeros((4, 1, 1)))
    np.testing.assert_allclose(np.hypot(*found.eigenvalues.T), 1.0, rtol=1e-12)
    assert found.henrici < 1e-7  # the square root of rounding
    if kind == "rotation":  # the phase too
        np.testing.assert_allclose(abs(np.arctan2(*found.eigenvalues.T[::-1])), 0.7, rtol=1e-12)


# |G(T-1)| crosses 1e-3 and 1e-6, 1e3 and 1e6 at these factors per step.
@pytest.mark.parametrize("steps", [50, 100, 1000])
@pytest.mark.parametrize(
    ("rule", "limit", "below", "above"),
    [
        ("vanishing", 1e-3, "warn", "ok"),
        ("vanishing", 1e-6, "fail", "warn"),
        ("exploding", 1e3, "ok", "warn"),
        ("exploding", 1e6, "warn", "fail"),
    ],
)
def test_a_scaled_orthogonal_matrix_flips_the_verdict_at_its_rho(
    steps, rule, limit, below, above, rng
):
    matrix, x = orthogonal(4, rng), np.zeros((steps, 8, 1))
    for factor, level in ((0.999, below), (1.001, above)):
        rho = (limit * factor) ** (1 / (steps - 1))
        gain = dg.lag_gain(network(linear, 4, weight_hh=rho * matrix), x, sources=2)
        # T products in float64, relative to rho^k.
        np.testing.assert_allclose(gain.value, rho ** np.arange(steps), rtol=1e-11)
        assert getattr(rules, rule)(gain).level == level


NON_NORMAL = np.array([[0.9, 5.0], [0.0, 0.8]])


def test_a_non_normal_matrix_is_r3_and_not_r2():
    """Spectral radius 0.9, and yet a gradient grows 13.48 times first."""
    layer = network(linear, 2, weight_hh=NON_NORMAL)
    x = np.zeros((60, 16, 1))
    gain = dg.lag_gain(layer, x)
    assert rules.transient(gain).level == "warn"
    assert rules.exploding(gain).level == "ok"
    bound = dg.product_bound(layer, x)
    powers = [np.linalg.norm(np.linalg.matrix_power(NON_NORMAL, k), 2) for k in range(61)]
    np.testing.assert_allclose(np.exp(bound.value), powers, rtol=1e-12)
    assert np.exp(bound.value).max() == pytest.approx(13.478, abs=5e-4)
    found = dg.linearisation(layer, x)
    assert (found.value, found.peak) == pytest.approx((0.9, max(powers)), rel=1e-12)
    assert found.peak_step == int(np.argmax(powers))


def test_a_jordan_block_grows_like_a_power_of_the_lag():
    """(lambda I + N)^k: size k^(m-1) lambda^k for a block of m, here 3."""
    block = 0.8 * np.eye(3) + np.diag([1.0, 1.0], 1)
    layer = network(linear, 3, weight_hh=block)
    bound = dg.product_bound(layer, np.zeros((400, 1, 1)))
    lags = np.array([200, 400])
    rest = bound.value[lags] - lags * np.log(0.8)
    # ln of k (k-1) / 2 lambda^-2: the next term is of relative size 1/k.
    np.testing.assert_allclose(rest, np.log(lags * (lags - 1) / 2 / 0.64), atol=0.02)
    gain = dg.lag_gain(layer, np.zeros((400, 8, 1)))
    # The slope of 2 ln k over the second half of the lags is about 2 / 300 per step: a rate of
    # 0.805; fewer sources reach the longer lags, and the median moves from one to the other.
    assert dg.decay_rate(gain).value == pytest.approx(0.8 * np.exp(2 / 300), abs=5e-3)


def logistic(a):
    return 1 / (1 + np.exp(-a))


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
def test_an_lstm_without_recurrent_weights_forgets_by_its_gate(bias, rng):
    """dc_T/dc_t = sigma(b_f)^(T-t): for b_f = 1 half after 2.21 steps, 1/e after 3.19."""
    biases = np.zeros((4, 5))
    biases[1] = bias
    layer = network("lstm", 5, inputs=3, bias_ih=biases.ravel())
    x, f = rng.normal(size=(30, 8, 3)), logistic(bias)
    gain = dg.lag_gain(layer, x, inject="c")
    np.testing.assert_allclose(gain.value, f ** np.arange(30), rtol=1e-12)  # sigmoid: 4 ulp
    assert dg.decay_rate(gain).value == pytest.approx(f, rel=1e-12)
    scales = dg.memory_timescales(layer, x)
    np.testing.assert_allclose(scales.tau["c"], -1 / np.log(f), rtol=1e-12)
    assert scales.keepers == {"f": "open"} and set(scales.tau) == {"c"}
    if bias == 1.0:
        assert scales.value == pytest.approx(3.19, abs=5e-3)
        assert np.log(0.5) / np.log(gain.value[1]) == pytest.approx(2.21, abs=5e-3)


def test_an_lstm_at_the_zero_fixed_point_has_the_eigenvalues_of_the_closed_form(rng):
    """Nonzero ones: eig(diag f + diag i W_g diag o); the H others are 0."""
    weights, biases = rng.normal(size=(4, 5, 5)), rng.normal(size=(4, 5))
    biases[2] = 0
    layer = network("lstm", 5, weight_hh=weights.reshape(20, 5), bias_ih=biases.ravel())
    i, f, o = (logistic(biases[k]) for k in (0, 1, 3))
    truth = np.linalg.eigvals(np.diag(f) + np.diag(i) @ weights[2] @ np.diag(o))
    found = dg.linearisation(layer, np.zeros((3, 1, 1))).eigenvalues
    size = np.hypot(*found.T)
    np.testing.assert_allclose(size[:5], np.sort(np.abs(truth))[::-1], rtol=1e-9)
    assert size[5:].max() < 1e-6  # the square root of rounding: a defective zero
    exponents = dg.lyapunov_spectrum(layer, np.zeros((400, 1, 1)))
    assert np.isneginf(exponents.value[5:]).all()
    # Pairs of complex eigenvalues turn: the average over 400 steps is within 1/400.
    np.testing.assert_allclose(exponents.value[:5], np.log(size[:5]), atol=5e-3)


def test_a_gru_at_the_zero_fixed_point_has_the_jacobian_of_the_closed_form(rng):
    """J = diag z + diag((1 - z) r) W_n, in PyTorch's form."""
    weights, biases = rng.normal(size=(3, 5, 5)), rng.normal(size=(3, 5))
    biases[2] = 0
    layer = network("gru", 5, weight_hh=weights.reshape(15, 5), bias_ih=biases.ravel())
    r, z = logistic(biases[0]), logistic(biases[1])
    truth = np.diag(z) + np.diag((1 - z) * r) @ weights[2]
    np.testing.assert_allclose(
        dg.step_jacobians(layer, np.zeros((2, 1, 1))).value[1, 0], truth, rtol=1e-12, atol=1e-14
    )
    sigma = dg.singular_values(layer, np.zeros((2, 1, 1)))
    np.testing.assert_allclose(sigma.value, np.linalg.norm(truth, 2), rtol=1e-12)


@pytest.mark.parametrize(("made", "sign"), [("gru", 1), ("gru_write", -1), ("gru_none", 1)])
def test_a_gru_without_recurrent_weights_keeps_by_its_gate(made, sign, rng):
    """dh_T/dh_t = sigma(b_z)^(T-t), with the other sign where the gate writes."""
    biases = np.zeros((3, 4))
    biases[1] = 2.0
    layer = network(made, 4, inputs=2, bias_ih=biases.ravel())
    x, keeps = rng.normal(size=(25, 8, 2)), logistic(sign * 2.0)
    np.testing.assert_allclose(dg.lag_gain(layer, x).value, keeps ** np.arange(25), rtol=1e-11)
    assert dg.memory_timescales(layer, x).value == pytest.approx(-1 / np.log(keeps), rel=1e-11)


def test_a_relu_network_with_positive_numbers_is_linear(rng):
    weight = rng.uniform(0.01, 0.3, size=(5, 5))
    layer = network("rnn_relu", 5, inputs=2, weight_hh=weight, weight_ih=0.5)
    x, g = rng.uniform(0.1, 1.0, size=(12, 1, 2)), rng.normal(size=5)
    norms = deltas(layer, x, g)[:, 0]
    truth = [np.linalg.norm(np.linalg.matrix_power(weight.T, 12 - t) @ g) for t in range(1, 13)]
    np.testing.assert_allclose(norms[1:], truth, rtol=1e-12)


def test_an_identity_relu_network_hands_every_gradient_on(rng):
    layer = network("rnn_relu", 6, inputs=2, weight_hh=np.eye(6), weight_ih=0.5)
    gain = dg.lag_gain(layer, rng.uniform(0.1, 1.0, size=(40, 8, 2)))
    np.testing.assert_allclose(gain.value, 1.0, rtol=1e-12)
    assert rules.vanishing(gain).level == rules.exploding(gain).level == "ok"


def test_a_loss_at_every_step_sums_a_series_that_hides_the_decay():
    """delta_t = (1 - rho^m) / (1 - rho): a healthy ratio of 5 where the lag gain is 1.5e-6."""
    layer, rho, steps = network(linear, 1, weight_hh=0.8), 0.8, 61
    x = np.zeros((steps, 8, 1))
    flow = dg.gradient_flow(layer, x, np.ones((steps, 8, 1)))
    m = steps - np.arange(1, steps + 1) + 1
    np.testing.assert_allclose(flow.value[1:], (1 - rho**m) / (1 - rho), rtol=1e-13)
    assert flow.value[1] / flow.value[-1] == pytest.approx(5.0, rel=1e-5)
    gain = dg.lag_gain(layer, x)
    assert gain.value[60] == pytest.approx(1.5e-6, rel=0.03)
    assert rules.vanishing(gain).level == "warn"
    # Integral timescale 1 / (1 - rho), gradient timescale -1 / ln rho.
    assert dg.effective_memory(gain) == pytest.approx(5.0, rel=1e-5)
    assert dg.gradient_timescale(0.8) == pytest.approx(-1 / np.log(0.8))


@pytest.mark.parametrize("chunk", [1, 3, 7, 20, 50])
def test_truncation_of_a_scalar_network_leaves_out_the_old_terms(chunk, rng):
    """L = h_T: g = sum_j rho^j h_{T-j-1}, of which the last chunk keeps its own steps."""
    rho, steps = 0.9, 20
    layer = network(linear, 1, weight_hh=rho, weight_ih=1.0)
    x = rng.normal(size=(steps, 1, 1))

    def last(out, y):
        return out[-1].sum()

    found = dg.tbptt_error(layer, x, np.zeros(1), chunks=[chunk], loss=last)
    states = np.zeros(steps + 1)
    for t in range(steps):
        states[t + 1] = rho * states[t] + x[t, 0, 0]
    terms = rho ** np.arange(steps) * states[steps - 1 :: -1]
    kept = min(chunk, steps - (steps - 1) // chunk * chunk)  # steps of the last chunk
    error = abs(terms[kept:].sum()) / abs(terms.sum())
    assert found.parameters["weight_hh_l0"][0] == pytest.approx(error, rel=1e-12, abs=1e-15)
    assert found.norms["weight_hh_l0"] == pytest.approx(abs(terms.sum()), rel=1e-12)
    if chunk >= steps:
        assert found.value[0] == 0.0 and found.cosine[0] == pytest.approx(1.0)


def test_clipping_by_norm_keeps_the_direction_and_does_nothing_twice(rng):
    """post = pre min(1, c / pre), cosine 1, idempotent, scale-equivariant."""
    layer = minirnn.LSTM(3, 4, dtype="float64", seed=0)
    for scale, limit in ((1.0, 0.5), (1e9, 0.5e9)):
        grads = {k: scale * rng.normal(size=p.shape) for k, p in layer.named_parameters()}
        for name, parameter in layer.named_parameters():
            parameter.grad = grads[name].copy()
        first = minirnn.clip_grad_norm(layer.parameters(), limit)
        once = {k: p.grad.copy() for k, p in layer.named_parameters()}
        found = dg.clip_direction(grads, once)
        assert found.pre == pytest.approx(first.norm, rel=1e-14)
        assert found.post == pytest.approx(found.pre * min(1, limit / found.pre), rel=1e-14)
        assert found.value == pytest.approx(1.0, abs=1e-15)
        assert sum(found.share.values()) == pytest.approx(1.0)
        assert rules.clip_direction(found).level == "ok"
        minirnn.clip_grad_norm(layer.parameters(), limit)
        again = dg.clip_direction(once, {k: p.grad for k, p in layer.named_parameters()})
        assert again.post == pytest.approx(again.pre, rel=1e-15)


def test_clipping_by_value_turns_the_gradient_by_a_known_angle():
    """(3, 4) clipped to entries of 3: cos = (9 + 12) / (5 sqrt 18)."""
    found = dg.clip_direction({"w": np.array([3.0, 4.0])}, {"w": np.array([3.0, 3.0])})
    assert found.value == pytest.approx(21 / (5 * np.sqrt(18)), rel=1e-15)
    assert (found.pre, found.post, found.changed) == pytest.approx((5.0, np.sqrt(18), 0.5))
    assert rules.clip_direction(found).level == "warn"
    far = dg.clip_direction({"w": np.array([0.1, 4.0])}, {"w": np.array([0.1, 0.1])})
    assert rules.clip_direction(far).level == "fail"


def test_clipping_inside_the_graph_holds_delta_at_the_threshold(rng):
    """rho = 1.2 and a loss at the end: every delta is scaled to norm 1 before its step back."""
    layer = network(linear, 4, weight_hh=1.2 * orthogonal(4, rng))
    x, g = np.zeros((15, 3, 1)), rng.normal(size=(3, 4))
    g *= 5 / np.linalg.norm(g, axis=-1, keepdims=True)
    found = dg.graph_clipping(layer, x, at_the_end((15, 3, 4), g), clip=1.0)
    np.testing.assert_allclose(found.total_norm, 5 * 1.2 ** np.arange(15, -1, -1), rtol=1e-12)
    np.testing.assert_allclose(found.clipped_norm, [1.2] + 15 * [1.0], rtol=1e-12)
    assert found.fraction == 1.0
    free = dg.graph_clipping(layer, x, at_the_end((15, 3, 4), g), clip=1e9)
    assert free.value == pytest.approx(1.0) and free.fraction == 0.0


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_a_scaled_loss_scales_delta_and_nothing_relative(factor, rng):
    layer = minirnn.LSTM(3, 5, dtype="float64", seed=0)
    x, d = rng.normal(size=(20, 8, 3)), rng.normal(size=(20, 8, 5))
    plain, scaled = (dg.gradient_flow(layer, x, a * d) for a in (1.0, factor))
    np.testing.assert_allclose(scaled.value, factor * plain.value, rtol=1e-12)
    np.testing.assert_allclose(scaled.step_gain, plain.step_gain, rtol=1e-12)
    credits = [dg.credit(layer, x, a * d) for a in (1.0, factor)]
    assert credits[1].coherence == pytest.approx(credits[0].coherence, rel=1e-12)
    assert credits[1].reach == credits[0].reach


def test_steps_after_the_last_loss_have_no_gradient(rng):
    layer = minirnn.GRU(3, 5, dtype="float64", seed=0)
    x, d = rng.normal(size=(20, 8, 3)), rng.normal(size=(20, 8, 5))
    d[12:] = 0
    flow = dg.gradient_flow(layer, x, d)
    assert not flow.total["h"][13:].any()
    short = dg.gradient_flow(layer, x[:12], d[:12])
    np.testing.assert_allclose(flow.value[:13], short.value, rtol=1e-13)
    health = [dg.numeric_health(layer, *given) for given in ((x, d), (x[:12], d[:12]))]
    assert [rules.bit_vanished(h).level for h in health] == ["ok", "ok"]


def test_a_permuted_batch_permutes_what_belongs_to_its_sequences(rng):
    layer = minirnn.LSTM(3, 5, dtype="float64", seed=0)
    x, d, order = rng.normal(size=(20, 8, 3)), rng.normal(size=(20, 8, 5)), rng.permutation(8)
    plain, moved = dg.gradient_flow(layer, x, d), dg.gradient_flow(layer, x[:, order], d[:, order])
    for k in "hc":
        np.testing.assert_allclose(moved.total[k], plain.total[k][:, order], rtol=1e-13)
    np.testing.assert_allclose(moved.value, plain.value, rtol=1e-13)
    twice = dg.gradient_flow(layer, np.tile(x, (1, 2, 1)), np.tile(d, (1, 2, 1)))
    np.testing.assert_allclose(twice.value, plain.value, rtol=1e-13)
