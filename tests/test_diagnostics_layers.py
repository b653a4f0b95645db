"""gradient_flow, lag_gain and diagnose on real layers: closed forms and the tape itself."""

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.machine import machine
from diagnostics.quantities.lags import source_rows
from minirnn.layers.reference import use_reference
from tests.toy_record import orthogonal

STEPS, BATCH, HIDDEN = 20, 8, 5


@minirnn.cell(gates="h", state="h")
def linear(wx, u, prev):
    return wx.h + u.h @ prev.h


def layer_of(cell, zero=True, **options):
    """A layer in float64 whose parameters are zero, or as they are drawn."""
    layer = minirnn.Recurrent(cell, 3, HIDDEN, dtype=np.float64, seed=1, **options)
    if zero:
        for parameter in layer.parameters():
            parameter.assign(np.zeros(parameter.shape))
    return layer


@pytest.fixture
def x(rng):
    return rng.standard_normal((STEPS, BATCH, 3))


@pytest.mark.parametrize("rho", [0.7, 1.0, 1.05])
def test_rho_times_an_orthogonal_matrix_gains_rho_to_the_k(rho, x, rng):
    layer = layer_of(linear)
    layer.weight_hh_l0.assign(rho * orthogonal(HIDDEN, rng))
    gain = dg.lag_gain(layer, x)
    # 19 products in float64.
    np.testing.assert_allclose(gain.value, rho ** np.arange(STEPS), rtol=1e-10)
    whole = dg.lag_gain(layer, x, max_lag=STEPS)
    np.testing.assert_allclose(whole.value, rho ** np.arange(STEPS + 1), rtol=1e-10)
    assert gain.n[-1] == BATCH and gain.n[0] == BATCH * len(source_rows(STEPS, 8))


def test_an_lstm_with_zero_recurrent_weights_forgets_by_its_gate(x):
    """With inject="c" the gain is sigma(b_f)^k, whatever the input is."""
    layer = layer_of("lstm")
    bias = np.zeros((4, HIDDEN))
    bias[1] = 1.0
    layer.bias_ih_l0.assign(bias.ravel())
    gain = dg.lag_gain(layer, x, inject="c")
    # The kernel's sigmoid is within 4 ulp, here to the power of 19.
    np.testing.assert_allclose(gain.value, (1 / (1 + np.exp(-1.0))) ** np.arange(STEPS), rtol=1e-12)
    assert gain.inject == "c"


def test_the_lag_gain_is_the_gradient_of_one_step_alone(x):
    """Against the tape: the derivative of v . h_s by the initial state, for one source."""
    layer = layer_of("lstm", zero=False)
    gain = dg.lag_gain(layer, x, sources=1, max_lag=STEPS, seed=3)
    (row,) = gain.rows
    v = np.random.default_rng(3).standard_normal((1, BATCH, HIDDEN))[0]
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    start = [minirnn.Tensor(np.zeros((1, BATCH, HIDDEN)), requires_grad=True) for _ in "hc"]
    output, _ = layer(x, tuple(start))
    dh, dc = minirnn.grad((output[int(row) - 1] * v).sum(), start)
    norms = np.sqrt((dh.numpy() ** 2 + dc.numpy() ** 2).sum(axis=-1))[0]
    np.testing.assert_allclose(gain.samples[0, :, row], norms, rtol=1e-10)
    assert gain.value[row] == pytest.approx(np.median(norms), rel=1e-10)


def test_batch_first_and_unbatched_input_give_the_same_gain(x):
    plain, swapped = layer_of("rnn", zero=False), layer_of("rnn", zero=False, batch_first=True)
    expected = dg.lag_gain(plain, x).value
    np.testing.assert_array_equal(dg.lag_gain(swapped, x.swapaxes(0, 1)).value, expected)
    single = dg.lag_gain(plain, x[:, :1])
    np.testing.assert_array_equal(dg.lag_gain(plain, x[:, 0]).value, single.value)


def test_both_directions_and_levels_can_be_asked(x):
    layer = layer_of("rnn", zero=False, num_layers=2, bidirectional=True)
    gains = [
        dg.lag_gain(layer, x, level=level, direction=direction).value
        for level in (0, 1)
        for direction in (0, 1)
    ]
    assert len({gain[-1] for gain in gains}) == 4
    np.testing.assert_array_equal(dg.lag_gain(layer, x, level=-1, direction=1).value, gains[3])
    with pytest.raises(ValueError, match=r"level must lie in -2 to 1, got 2"):
        dg.lag_gain(layer, x, level=2)
    with pytest.raises(ValueError, match=r"direction must lie in 0 to 0, got 1; .* not bidirect"):
        dg.lag_gain(layer_of("rnn"), x, direction=1)


def test_measuring_leaves_no_trace(x):
    layer = layer_of("rnn", zero=False, num_layers=2, dropout=0.5)
    before = {name: p.numpy().copy() for name, p in layer.named_parameters()}
    first = dg.lag_gain(layer, x)
    np.testing.assert_array_equal(dg.lag_gain(layer, x).value, first.value)  # dropout is off
    assert layer.training
    for name, parameter in layer.named_parameters():
        np.testing.assert_array_equal(parameter.numpy(), before[name])
        assert parameter.grad is None


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gradient_flow_is_what_watch_shows_of_a_backward_pass(cell, x, rng):
    layer = layer_of(cell, zero=False)
    d_output = rng.standard_normal((STEPS, BATCH, HIDDEN))
    with minirnn.watch(layer) as seen:
        output, _ = layer(x)
        output.backward(d_output)
    flow = dg.gradient_flow(layer, x, d_output)
    for state in layer.cell.state:
        np.testing.assert_allclose(flow.total[state], seen.carried_grads[state], rtol=1e-12)
    for gate in layer.cell.gates:
        np.testing.assert_array_equal(flow.gates[gate], seen.gates[gate])
        np.testing.assert_allclose(flow.gate_grads[gate], seen.gate_grads[gate], rtol=1e-12)
    np.testing.assert_array_equal(flow.local["h"][1:], d_output)
    assert not flow.local["h"][0].any()


def test_total_is_local_plus_what_the_recurrence_carries(x, rng):
    """Linear network: delta_t = eps_t + W^T delta_{t+1}, so the norms are known."""
    layer = layer_of(linear)
    w = 0.8 * orthogonal(HIDDEN, rng)
    layer.weight_hh_l0.assign(w)
    flow = dg.gradient_flow(layer, x, rng.standard_normal((STEPS, BATCH, HIDDEN)))
    total, local = flow.total["h"], flow.local["h"]
    np.testing.assert_allclose(total[:-1], local[:-1] + total[1:] @ w, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(flow.step_gain, 0.8, rtol=1e-12)
    assert flow.carried_norm[-1] == 0
    np.testing.assert_allclose(flow.value, np.median(np.linalg.norm(total, axis=-1), axis=1))


def test_a_loss_at_every_step_hides_what_the_lag_gain_shows():
    """The trap of the plain norm: rho = 0.8 and 60 steps look healthy, and 1.5e-6 is left."""
    layer = minirnn.Recurrent(linear, 1, 1, dtype=np.float64)
    for parameter in layer.parameters():
        parameter.assign(np.zeros(parameter.shape))
    layer.weight_hh_l0.assign([[0.8]])
    x = np.zeros((61, 8, 1))
    flow = dg.gradient_flow(layer, x, np.ones((61, 8, 1)))
    assert flow.value[1] / flow.value[-1] == pytest.approx(5.0, rel=1e-5)
    assert dg.lag_gain(layer, x).value[60] == pytest.approx(0.8**60, rel=1e-10)


def test_gradient_flow_of_the_reverse_direction_runs_in_its_own_order(x, rng):
    layer = layer_of("rnn", zero=False, bidirectional=True)
    d_output = rng.standard_normal((STEPS, BATCH, 2 * HIDDEN))
    with minirnn.watch(layer) as seen:
        output, _ = layer(x)
        output.backward(d_output)
    for direction in (0, 1):
        flow = dg.gradient_flow(layer, x, d_output, direction=direction)
        expected = seen[0, direction].carried_grads["h"]
        np.testing.assert_allclose(flow.total["h"], expected, rtol=1e-12)


def test_gradient_flow_refuses_a_gradient_of_another_shape(x):
    with pytest.raises(ValueError, match=r"d_output must have the output's shape \(20, 8, 5\)"):
        dg.gradient_flow(layer_of("rnn"), x, np.ones((STEPS, BATCH, 2)))


class Tagger(minirnn.Module):
    """Two recurrent layers and a Linear; the last state takes part in the loss as well."""

    def __init__(self):
        self.first = minirnn.Recurrent("rnn", 3, HIDDEN, dtype=np.float64, seed=1)
        self.second = minirnn.Recurrent("lstm", HIDDEN, HIDDEN, dtype=np.float64, seed=2)
        self.out = minirnn.Linear(HIDDEN, 4, dtype=np.float64, seed=3)

    def forward(self, x):
        hidden, _ = self.first(x)
        hidden, (h, c) = self.second(hidden)
        return self.out(hidden) + self.out(h) + self.out(c), h


def test_diagnose_judges_every_recurrent_layer_of_a_model(x, rng):
    model = Tagger()
    report = dg.diagnose(model, x, rng.integers(0, 4, (STEPS, BATCH)))
    assert [subject.name for subject in report.subjects] == ["first", "second"]
    for name in ("first", "second"):
        judged = {v.rule for v in report.verdicts if v.subject == name}
        assert judged == {"R1", "R2", "R3", "R6", "R7", "R8", "R12", "R14", "R15"}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert report.settings["loss"] == "cross_entropy"
    assert "forward" not in vars(model.first)


def test_diagnose_shows_the_gradients_of_the_given_loss(x, rng):
    model, y = Tagger(), rng.standard_normal((STEPS, BATCH, 4))
    report = dg.diagnose(model, x, y)
    with minirnn.watch(model.first) as first, minirnn.watch(model.second) as second:
        minirnn.mse_loss(model(x)[0], y).backward()
    for name, seen, states in (("first", first, "h"), ("second", second, "hc")):
        flow = report[name, "gradient_flow"]
        for state in states:
            np.testing.assert_allclose(
                flow.total[state], seen.carried_grads[state], rtol=1e-9, atol=1e-15
            )
    # c enters the loss by its last row only, h by all rows but the first.
    assert not report["second", "gradient_flow"].local["c"][:-1].any()
    assert report["second", "gradient_flow"].local["c"][-1].any()


class Padded(minirnn.Module):
    """A layer whose sequences have lengths of their own."""

    def __init__(self, lengths):
        self.recurrent = minirnn.Recurrent("rnn", 3, HIDDEN, dtype=np.float64, seed=1)
        self.lengths = lengths

    def forward(self, x):
        return self.recurrent(x, lengths=self.lengths)


def test_padding_influences_no_number_of_a_report(x, rng):
    lengths = np.array([20, 20, 19, 20, 6, 20, 1, 20])
    y = rng.standard_normal((STEPS, BATCH, HIDDEN))

    def loss(out, y):
        weight = (np.arange(STEPS)[:, None] < lengths)[..., None].astype(float)
        return (out * (y * weight)).sum()

    clean = dg.diagnose(Padded(lengths), x, y, loss)
    for column, length in enumerate(lengths):
        x[length:, column] = np.nan
    assert dg.diagnose(Padded(lengths), x, y, loss).json() == clean.json()
    flow = clean["gradient_flow"]
    alone = np.linalg.norm(flow.total["h"][20][lengths == 20], axis=-1)
    assert flow.value[20] == pytest.approx(np.median(alone), rel=1e-12)


def test_diagnose_of_a_layer_alone_needs_no_loss(x):
    report = dg.diagnose(layer_of("lstm", zero=False), x, need_lag=3)
    assert report["lag_gain"].value[0] == 1.0
    assert {v.rule: v.lag for v in report.verdicts if v.lag} == {"R1": 3, "R2": 3, "R8": 3}
    assert report.settings["loss"] == "none: model view"
    assert "gradient_flow" not in report.subjects[0].quantities


def test_the_cheap_level_makes_no_extra_sweep_for_the_lag_gain(x, rng):
    report = dg.diagnose(Tagger(), x, rng.standard_normal((STEPS, BATCH, 4)), level="cheap")
    assert set(report.subjects[0].quantities) == {
        "gate_statistics", "memory_timescales", "gradient_flow", "numeric_health",
    }  # fmt: skip


def test_the_size_of_the_loss_changes_no_verdict(x, rng):
    y = rng.integers(0, 4, (STEPS, BATCH))
    model = Tagger()
    plain = dg.diagnose(model, x, y)
    large = dg.diagnose(model, x, y, loss=lambda out, y: 1e6 * minirnn.cross_entropy(out, y))
    levels = [{(v.subject, v.rule): v.level for v in r.verdicts} for r in (plain, large)]
    assert levels[0] == levels[1]
    ratio = large["first", "gradient_flow"].value / plain["first", "gradient_flow"].value
    np.testing.assert_allclose(ratio, 1e6, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"level": "deep"}, "level must be one of cheap, standard, full, got 'deep'"),
        ({"level": "cheap"}, "'cheap' measures the gradient of a loss and needs y"),
        ({"need_lag": 99}, "need_lag must lie in 0 to 19"),
    ],
)
def test_diagnose_says_what_is_wrong(arguments, words, x):
    with pytest.raises(ValueError, match=words):
        dg.diagnose(layer_of("rnn"), x, **arguments)


def test_a_model_without_recurrence_is_refused(x):
    with pytest.raises(ValueError, match=r"must be or contain a minirnn\.Recurrent, got Linear"):
        dg.diagnose(minirnn.Linear(3, 2), x)


# ---- what a report says of itself ----------------------------------------------------------------


def test_a_report_holds_what_its_numbers_come_from(x, rng):
    layer = minirnn.LSTM(3, HIDDEN, batch_first=True, num_layers=2, seed=1)
    given = x.swapaxes(0, 1).astype(np.float32)
    y = rng.standard_normal((BATCH, STEPS, HIDDEN)).astype(np.float32)
    report = dg.diagnose(layer, given, y, level="full", need_lag=3, sources=4, lyapunov=2, seed=5)
    assert report.settings == {
        "level": "full", "seed": "5", "need_lag": "3", "sources": "4", "lyapunov": "2",
        "loss": "mse_loss",
    }  # fmt: skip
    for subject in report.subjects:
        assert subject.settings["layer"] == "LSTM of lstm, 3 to 5, float32"
        assert subject.settings["x"] == "T=20, B=8, I=3"


def test_arguments_that_play_no_role_are_left_out(x, rng):
    layer, y = layer_of("rnn"), rng.standard_normal((STEPS, BATCH, HIDDEN))
    cheap = dg.diagnose(layer, x, y, level="cheap").settings
    assert list(cheap) == ["level", "seed", "need_lag", "loss"]
    assert cheap["need_lag"] == "the largest"
    assert list(dg.diagnose(layer, x, y).settings) == [
        "level",
        "seed",
        "need_lag",
        "sources",
        "loss",
    ]


def test_lengths_and_a_sequence_alone_have_their_shapes(x):
    padded = dg.diagnose(Padded(np.array([STEPS, 7, *([9] * 6)])), x)
    assert padded.subjects[0].settings["x"] == "T=20, B=8, I=3, lengths 7 to 20"
    alone = dg.diagnose(layer_of("rnn"), x[:, 0], need_lag=3)
    assert alone.subjects[0].settings["x"] == "T=20, B=1, I=3"


def test_the_machine_names_the_library_of_matrix_products_and_no_path():
    found = machine()
    assert list(found) == [
        "processor", "architecture", "threads", "Python", "minirnn", "numpy", "numba",
        "matplotlib", "BLAS",
    ]  # fmt: skip
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    assert found["BLAS"] == f"{built['name']} {built['version']}" and "/" not in found["BLAS"]


def test_a_truncation_that_cannot_be_measured_is_said_to_be_missing(x, rng):
    both = layer_of("clockwork", bidirectional=True, zero=False)
    y = rng.standard_normal((STEPS, BATCH, 2 * HIDDEN))
    with use_reference():
        top, other = dg.diagnose(both, x, y).subjects
        cheap = dg.diagnose(both, x, y, level="cheap").subjects[0]
        forward = dg.diagnose(layer_of("clockwork", zero=False), x, y[..., :HIDDEN]).subjects[0]
    assert "tbptt_error" not in top.quantities
    assert top.settings["truncation"].startswith("not measured: the cell counts its steps")
    for subject in (other, cheap, forward):
        assert "truncation" not in subject.settings
    assert "tbptt_error" in forward.quantities


def test_a_report_of_a_model_is_a_page_and_json(x, tmp_path):
    report = dg.diagnose(layer_of("rnn", zero=False), x)
    report.to_html(tmp_path / "a.html")
    report.to_json(tmp_path / "a.json")
    dg.load_report(tmp_path / "a.json").to_html(tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
