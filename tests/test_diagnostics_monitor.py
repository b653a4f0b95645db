"""The monitor in a loop: it changes nothing, costs nothing in between, and tells the truth."""

import copy
import logging

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.monitor.alarms import Lookout
from diagnostics.monitor.sight import MOST
from tests.monitored import Net, batches, monitored, train
from tests.test_diagnostics_closed_forms import linear

LEVELS = ("cheap", "standard", "full")


def bits(net):
    return {name: array.tobytes() for name, array in net.state_dict().items()}


# ---- it changes nothing -------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True], ids=["after the update", "before the update"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cell", ["rnn", "lstm_peephole", "gru_before", "lstm_1997"])
def test_the_parameters_are_the_same_bits_with_and_without_a_monitor(cell, level, before):
    plain = train(Net(cell), 5)
    watched = train(net := Net(cell), 5, dg.Monitor(net, every=2, level=level), before=before)
    assert bits(plain) == bits(watched)


@pytest.mark.parametrize("level", LEVELS)
def test_so_they_are_with_levels_directions_lengths_and_dropout(level):
    """Dropout draws from the global generator: the monitor must leave that alone as well."""
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.3}
    plain = train(Net(**options), 3, lengths=True)
    drawn = minirnn.engine.random.generator().random(3)
    net = Net(**options)
    monitor = dg.Monitor(net, every=2, level=level)
    watched = train(net, 3, monitor, lengths=True)
    assert bits(plain) == bits(watched)
    np.testing.assert_array_equal(minirnn.engine.random.generator().random(3), drawn)
    assert set(monitor.rows[-1]["layers"]) == {
        f"rnn, level {i}, {way}" for i in (0, 1) for way in ("forward", "reverse")
    }


def test_a_step_says_the_same_before_the_update_and_after_it():
    """All but the update's size, which is the last that was made."""
    rows = [
        monitored(4, every=3, level="full", net=Net("gru"), before=before).rows[-1]
        for before in (False, True)
    ]
    assert rows[0]["layers"] == rows[1]["layers"] and rows[0]["since"] == rows[1]["since"]


# ---- it costs nothing in between, and leaves nothing behind -------------------------------------


def test_a_layer_is_watched_at_measured_steps_only(monkeypatch):
    watched = []
    watch = minirnn.watch
    monkeypatch.setattr(
        minirnn, "watch", lambda layer, **kept: watched.append(layer) or watch(layer, **kept)
    )
    net = Net()
    monitor = dg.Monitor(net, every=3)
    seen = []
    for _ in range(7):
        watched.clear()
        seen.append("forward" in vars(net.rnn))
        train(net, 1, monitor)
        assert net.rnn._watchers == [] and bool(watched) == seen[-1]
    assert seen == [True, False, False, True, False, False, True]
    assert [row["step"] for row in monitor.rows] == [0, 3, 6]


@pytest.mark.parametrize("where", ["forward", "loss", "body"])
@pytest.mark.parametrize("managed", [True, False])
def test_a_loop_that_raises_leaves_nothing_on_the_model(where, managed):
    net = Net()

    def loop(monitor):
        train(net, 2, monitor)
        ((x, y, _),) = batches(1)
        loss = minirnn.mse_loss(net(x[:, :, :2] if where == "forward" else x), y)
        loss.backward()
        monitor.step([1.0, 2.0] if where == "loss" else loss)
        raise ValueError("the loop's own")

    with pytest.raises(ValueError):
        if managed:
            with dg.Monitor(net, every=1) as monitor:
                loop(monitor)
        else:
            monitor = dg.Monitor(net, every=1)
            loop(monitor)
    assert net.rnn._watchers == []
    if not managed:
        monitor.close()
    assert "forward" not in vars(net.rnn)


def test_a_monitor_that_is_dropped_leaves_nothing_on_the_model():
    net = Net()
    monitor = dg.Monitor(net)
    assert "forward" in vars(net.rnn)
    del monitor
    assert "forward" not in vars(net.rnn)


def test_a_copy_of_the_model_is_its_own_while_a_step_is_measured():
    net = Net()
    monitor = dg.Monitor(net, every=1)
    twin = copy.deepcopy(net)
    train(twin, 1)
    monitor.step()
    assert monitor.rows[0]["missing"] == ["rnn"]  # no call of the copy was taken for one of ours


def test_evaluation_in_between_is_not_taken_for_training():
    (x, y, _), (other, *_) = batches(2)
    net = Net()
    rows = []
    for evaluates in (False, True):
        monitor = dg.Monitor(net, every=1)
        minirnn.mse_loss(net(x), y).backward()
        if evaluates:
            net.eval()
            for _ in range(2 * MOST):
                minirnn.mse_loss(net(other), y).backward()
            with minirnn.no_grad():
                net(other)
            net.train()
            net(other)  # no backward pass goes through this one
        monitor.step()
        rows.append(monitor.rows[0]["layers"]["rnn"]["flow"])
    assert rows[0] == rows[1]


def test_two_monitors_on_one_model_do_not_disturb_each_other():
    net = Net()
    first, second = dg.Monitor(net, every=2), dg.Monitor(net, every=3)
    for x, y, _ in batches(7):
        minirnn.mse_loss(net(x), y).backward()
        first.step()
        second.step()
    assert [row["step"] for row in first.rows] == [0, 2, 4, 6]
    assert [row["step"] for row in second.rows] == [0, 3, 6]
    assert first.rows[-1]["layers"] == second.rows[-1]["layers"]


def test_a_layer_with_a_forward_of_its_own_is_seen_through_it():
    class Twice(minirnn.LSTM):
        def forward(self, x, scale):
            output, state = super().forward(x * scale)
            return super().forward(output, state)[0]

    layer = Twice(8, 8, seed=0)
    monitor = dg.Monitor(layer, every=1)
    layer(np.ones((4, 2, 8), np.float32), scale=np.float32(0.5)).sum().backward()
    monitor.step()
    assert monitor.rows[0]["missing"] == [] and list(monitor.rows[0]["layers"]) == ["Twice"]


def test_a_layer_that_a_step_does_not_reach_is_named():
    net = Net()
    net.unused = minirnn.GRU(3, 4)
    monitor = monitored(1, net=net)
    assert monitor.rows[0]["missing"] == ["unused"] and list(monitor.rows[0]["layers"]) == ["rnn"]
    assert [subject.name for subject in monitor.report().subjects] == ["training run", "rnn"]


# ---- it tells the truth -------------------------------------------------------------------------


def one_step(layer, x, d_output, level="cheap", lengths=None):
    """Measure one layer whose loss is <output, d_output>."""
    monitor = dg.Monitor(layer, every=1, level=level)
    output, _ = layer(x, lengths=lengths)
    (output * d_output).sum().backward()
    monitor.step()
    return monitor


@pytest.mark.parametrize("rho", [0.5, 1.0, 1.25])
def test_the_gradient_of_a_chain_shrinks_by_rho_a_step(rho):
    """h = rho h, one loss at the end: the norm at row t is rho^(T-t), and the rate is rho."""
    layer = minirnn.Recurrent(linear, 1, 2, dtype="float64")
    for name, parameter in layer.named_parameters():
        eye = rho * np.eye(2) if name == "weight_hh_l0" else np.zeros(parameter.shape)
        parameter.assign(eye)
    d = np.zeros((20, 8, 2))
    d[-1, :, 0] = 1.0
    monitor = one_step(layer, np.zeros((20, 8, 1)), d)
    row = monitor.rows[0]["layers"]["Recurrent"]
    expected = rho ** (20.0 - np.arange(21))
    # The file has 5 digits.
    np.testing.assert_allclose(row["flow"]["joint"], expected, rtol=1e-4)
    np.testing.assert_allclose(row["flow"]["states"]["h"], expected, rtol=1e-4)
    assert row["quantities"]["decay_rate"]["value"] == pytest.approx(rho, rel=1e-4)
    timeline = monitor.report()["Recurrent", "timeline"]
    assert timeline.value == pytest.approx(rho, rel=1e-4) and timeline.flow.shape == (1, 21)


@pytest.mark.parametrize("lengths", [None, [9, 4, 1, 9, 7, 0]])
@pytest.mark.parametrize("cell", ["lstm", "greff_fgr", "clockwork"])
def test_norms_are_those_of_the_carried_gradients_and_padding_does_not_count(rng, cell, lengths):
    layer = minirnn.Recurrent(cell, 3, 8, seed=0)
    x, d = (rng.standard_normal((9, 6, n)).astype(np.float32) for n in (3, 8))
    with minirnn.watch(layer) as seen:
        monitor = one_step(layer, x, d, lengths=lengths)
    row = monitor.rows[0]["layers"]["Recurrent"]
    squares = {k: (np.float64(a) ** 2).sum(axis=2) for k, a in seen.carried_grads.items()}
    ends = np.full(6, 9) if lengths is None else np.array(lengths)
    for name, square in (*squares.items(), ("joint", sum(squares.values()))):
        found = row["flow"]["joint"] if name == "joint" else row["flow"]["states"][name]
        norms = np.sqrt(square)
        expected = [np.median(norms[t, ends >= t]) for t in range(10)]
        np.testing.assert_allclose(np.array(found), expected, rtol=1e-4)


def test_gates_and_timescales_are_those_of_the_forget_bias(rng):
    """No weights: f = sigma(b), every unit keeps that share, tau = -1 / ln f."""
    layer = minirnn.LSTM(3, 8, seed=0, init={"bias": minirnn.init.forget_bias(3.0)})
    for name in ("weight_ih_l0", "weight_hh_l0"):
        getattr(layer, name).assign(np.zeros_like(getattr(layer, name).numpy()))
    x, d = (rng.standard_normal((9, 6, n)).astype(np.float32) for n in (3, 8))
    row = one_step(layer, x, d).rows[0]["layers"]["LSTM"]
    f = 1 / (1 + np.exp(-3.0))
    assert row["gates"]["f"]["mean"] == pytest.approx(f, rel=1e-4)
    assert row["gates"]["f"]["high"] == 1.0 and row["gates"]["f"]["low"] == 0.0
    assert row["gates"]["f"]["slope"] == pytest.approx(f * (1 - f), rel=1e-4)
    assert row["gates"]["i"]["high"] == 0.0 and row["gates"]["i"]["mean"] == 0.5
    scales = row["quantities"]["memory_timescales"]
    assert scales["value"] == pytest.approx(-1 / np.log(f), rel=1e-4)
    # c = f c: the rate of the joint state is f as well.
    assert row["quantities"]["decay_rate"]["value"] == pytest.approx(f, rel=1e-3)


@pytest.mark.parametrize("cell", ["gru", "gru_before_write", "mgu"])
def test_timescales_of_gates_are_those_of_the_equations(rng, cell):
    layer = minirnn.Recurrent(cell, 3, 8, seed=0)
    x, d = (rng.standard_normal((9, 6, n)).astype(np.float32) for n in (3, 8))
    scales = one_step(layer, x, d).rows[0]["layers"]["Recurrent"]["quantities"]["memory_timescales"]
    exact = dg.memory_timescales(layer, x)
    np.testing.assert_allclose(scales["tau"]["h"], exact.tau["h"], rtol=1e-4)
    assert scales["value"] == pytest.approx(exact.value, rel=1e-4)


def test_level_standard_measures_what_diagnose_does(rng):
    layer = minirnn.LSTM(3, 8, seed=0)
    x, d = (rng.standard_normal((9, 8, n)).astype(np.float32) for n in (3, 8))
    found = one_step(layer, x, d, "full").report()
    gain, alone = found["LSTM", "lag_gain"], dg.lag_gain(layer, x)
    np.testing.assert_allclose(gain.value, alone.value, rtol=1e-4)
    np.testing.assert_allclose(gain.ci, alone.ci, rtol=1e-4)
    credit = dg.credit(layer, x, d)
    np.testing.assert_allclose(found["LSTM", "credit"].value, credit.value, rtol=1e-4)
    spectrum = dg.lyapunov_spectrum(layer, x, k=8)
    np.testing.assert_allclose(found["LSTM", "lyapunov"].value, spectrum.value, rtol=1e-4)
    assert found["LSTM", "timeline"].exponent[0] == pytest.approx(spectrum.value[0], rel=1e-4)
    judged = {verdict.rule for verdict in found.verdicts if verdict.subject == "LSTM"}
    assert judged == {"R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R12", "R14"}


@pytest.mark.parametrize("before", [False, True])
def test_the_update_ratio_is_that_of_gradient_descent(before):
    """Plain descent moves by lr ||g||: of this step, or before the update of the last one."""
    net = Net()
    optimizer = minirnn.SGD(net.parameters(), lr=0.1)
    monitor, expected = dg.Monitor(net, every=1), []
    for x, y, _ in batches(3):
        optimizer.zero_grad()
        minirnn.mse_loss(net(x), y).backward()
        weight = net.rnn.weight_hh_l0
        expected.append(0.1 * np.linalg.norm(weight.grad) / np.linalg.norm(weight.numpy()))
        if before:
            monitor.step()
        optimizer.step()
        if not before:
            monitor.step()
    found = [
        row["update_ratio"] and row["update_ratio"]["rnn.weight_hh_l0"] for row in monitor.rows
    ]
    if before:
        assert found[0] is None  # nothing had been written yet
    # The update itself is rounded to float32.
    np.testing.assert_allclose(found[1:], expected[:-1] if before else expected[1:], rtol=1e-3)


def test_without_clipping_the_norm_is_measured_all_the_same():
    net = Net()
    norms = []
    monitor = dg.Monitor(net, every=2)
    for x, y, _ in batches(3):
        net.zero_grad()
        minirnn.mse_loss(net(x), y).backward()
        grads = [np.float64(p.grad).ravel() for p in net.parameters()]
        norms.append(float(np.linalg.norm(np.concatenate(grads))))
        monitor.step()
    found = [norm for row in monitor.rows for norm in row["since"]["norm"]]
    assert found == [pytest.approx(norms[0]), None, pytest.approx(norms[2])]


# ---- what broke first ---------------------------------------------------------------------------


def test_the_first_nan_is_found_in_step_time_sequence_and_unit(caplog):
    net = Net()
    monitor = dg.Monitor(net, every=1)
    with caplog.at_level(logging.WARNING, "diagnostics"):
        for n, (x, y, _) in enumerate(batches(4)):
            net.zero_grad()
            if n == 2:
                x[4, 3, 1] = np.nan
            loss = minirnn.mse_loss(net(x), y)
            loss.backward()
            monitor.step(loss)
    broke = monitor.first_break
    assert broke.step == 2 and broke.what == "nonfinite"
    assert broke.where == {
        "layer": "rnn", "pass": "forward", "kind": "nan", "where": "inputs", "name": "x",
        "step": 4, "sequence": 3, "unit": 1,
    }  # fmt: skip
    assert len(caplog.messages) == 1 and "training step 2" in caplog.messages[0]
    assert "NaN in inputs x, of rnn on the way forward, row 4, sequence 3, unit 1" in caplog.text
    verdict = next(v for v in monitor.report().verdicts if v.rule == "R2")
    assert verdict.level == "fail" and "first at training step 2" in verdict.evidence


def test_the_first_nan_is_that_of_the_lowest_level_whatever_comes_first_in_time():
    """The reverse direction of the upper level has it at its own step 2, which comes earlier."""
    net = Net(num_layers=2, bidirectional=True)
    monitor = dg.Monitor(net, every=1)
    ((x, _, _),) = batches(1)
    x[9, 3, 1] = np.nan
    net(x).sum().backward()
    monitor.step()
    where = monitor.first_break.where
    assert (where["layer"], where["where"], where["step"]) == ("rnn, level 0, forward", "inputs", 9)


def test_a_gradient_that_breaks_between_measured_steps_is_found_by_gate_and_unit():
    net = Net()
    monitor = dg.Monitor(net, every=100)
    for n, (x, y, _) in enumerate(batches(6)):
        net.zero_grad()
        loss = minirnn.mse_loss(net(x), y)
        loss.backward()
        if n == 3:
            grad = net.rnn.weight_hh_l0.grad.copy()
            grad[8 + 5, 2] = np.inf  # the second gate, f, unit 5
            net.rnn.weight_hh_l0.grad = grad
        monitor.step(loss, minirnn.clip_grad_norm(net.parameters(), 1.0))
    broke = monitor.first_break
    assert broke.step == 3 and broke.where == {
        "where": "gradient", "name": "rnn.weight_hh_l0", "kind": "inf", "gate": "f", "unit": 5,
    }  # fmt: skip
    assert [row["step"] for row in monitor.rows] == [0, 4]  # the step after it is measured


def test_a_norm_that_explodes_is_told_of_once_and_where():
    net = Net()
    monitor = dg.Monitor(net, every=100)
    for n, (x, y, _) in enumerate(batches(14)):
        net.zero_grad()
        scale = 1e5 if n in (10, 12) else 1.0
        (scale * minirnn.mse_loss(net(x), y)).backward()
        monitor.step(1.0, minirnn.clip_grad_norm(net.parameters(), np.inf))
    broke = monitor.first_break
    assert broke.step == 10 and broke.what == "explosion" and broke.ratio > 1e4
    assert broke.where["where"] == "gradient" and broke.where["name"] in dict(
        net.named_parameters()
    )
    found = [v for v in monitor.report().verdicts if v.rule == "R2"]
    assert len(found) == 1 and found[0].level == "warn" and "times its median" in found[0].evidence


def test_a_gradient_that_was_zero_and_then_is_not_is_told_of():
    net = Net()
    monitor = dg.Monitor(net, every=100)
    for n, (x, y, _) in enumerate(batches(14)):
        net.zero_grad()
        (float(n >= 12) * minirnn.mse_loss(net(x), y)).backward()
        monitor.step(1.0, minirnn.clip_grad_norm(net.parameters(), np.inf))
    broke = monitor.first_break
    assert (broke.step, broke.what, broke.ratio) == (12, "explosion", float("inf"))
    assert "inf times its median" in broke.evidence


@pytest.mark.parametrize("first", (1e4, 1e-4))
def test_norms_are_compared_with_those_of_the_last_hundred_steps_alone(first):
    """So that a start that was louder or quieter neither hides an explosion nor makes one."""
    lookout = Lookout()
    assert not any(lookout.look(1.0, first, 0) for _ in range(9))
    told = [lookout.look(1.0, 1.0, 0) is not None for _ in range(100)]
    assert not any(told[10:]) and any(told) == (first < 1.0)  # the median is a quiet one until then
    assert lookout.look(1.0, 900.0, 0) is None
    assert lookout.look(1.0, 1100.0, 0)[0] == "explosion"


def test_a_healthy_run_has_no_first_break():
    assert monitored(12).first_break is None


@pytest.mark.parametrize("level", LEVELS)
def test_a_model_full_of_nan_is_measured_without_an_error(level):
    net = Net()
    net.rnn.weight_hh_l0.assign(np.full((32, 8), np.nan, np.float32))
    monitor = monitored(3, net=net, level=level)
    assert monitor.first_break.step == 0 and monitor.report().json()


# ---- what it is given ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every must be a whole number, 1 or more, got 0"),
        ({"every": 2.5}, "every must be a whole number"),
        ({"level": "high"}, "level must be one of cheap, standard, full, got 'high'"),
        ({"window": -1}, "window must be"),
        ({"keep": True}, "keep must be"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options, words):
    with pytest.raises(ValueError, match=words):
        dg.Monitor(Net(), **options)


def test_a_model_without_a_recurrent_layer_is_refused():
    for model in (minirnn.Linear(2, 3), None):
        with pytest.raises(ValueError, match=r"must be or contain a minirnn\.Recurrent"):
            dg.Monitor(model)


def test_what_step_is_given_is_looked_at():
    net = Net()
    monitor = dg.Monitor(net)
    with pytest.raises(ValueError, match=r"loss must be one number, got shape \(2,\)"):
        monitor.step(np.zeros(2))
    with pytest.raises(TypeError, match="clip_info must be what clip_grad_norm"):
        monitor.step(1.0, 3.0)
    monitor.close()
    monitor.close()
    with pytest.raises(RuntimeError, match="is closed"):
        monitor.step(1.0)


def test_a_step_without_time_or_without_sequences_is_missing_and_no_error():
    net = Net()
    monitor = dg.Monitor(net, every=1)
    for shape in ((0, 2, 5), (3, 0, 5), (1, 1, 5)):
        net(np.zeros(shape, np.float32)).sum().backward()
        monitor.step()
    assert [row["missing"] for row in monitor.rows] == [["rnn"], ["rnn"], []]
    assert len(monitor.rows[-1]["layers"]["rnn"]["flow"]["joint"]) == 2


def test_the_ring_keeps_so_many_rows():
    monitor = monitored(7, keep=3)
    assert [row["step"] for row in monitor.rows] == [4, 5, 6]
    report = monitor.report()
    assert report["training run", "course"].steps.tolist() == [4, 5, 6]
    assert len(report["rnn", "timeline"].steps) == 3


def test_a_gradient_that_overflows_on_its_way_back_is_found_at_its_row():
    """h = 1e13 h in float32: after three steps back 1e39 is infinite, at row T - 3."""
    layer = minirnn.Recurrent(linear, 1, 2)
    for name, parameter in layer.named_parameters():
        eye = 1e13 * np.eye(2) if name == "weight_hh_l0" else np.zeros(parameter.shape)
        parameter.assign(eye.astype(np.float32))
    monitor = dg.Monitor(layer, every=1)
    layer(np.zeros((6, 4, 1), np.float32))[0][-1].sum().backward()
    monitor.step()
    where = monitor.first_break.where
    assert (where["pass"], where["kind"], where["where"]) == ("backward", "inf", "delta")
    assert (where["name"], where["step"]) == ("h", 3)
