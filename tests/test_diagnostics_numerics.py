"""Numbers that leave their range, loss scaling, updates, and the report's checks of itself."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diagnostics as dg
import minirnn
from diagnostics import rules
from diagnostics.quantities import self_checks as checks
from minirnn import equations
from minirnn.layers.reference import use_reference
from tests.strategies import programs
from tests.test_diagnostics_closed_forms import at_the_end, linear, network


def chain(rho, steps, batch=8, dtype=np.float32, units=1):
    """h = rho h in a dtype, and a loss of 1 at the end."""
    layer = minirnn.Recurrent(linear, 1, units, dtype=dtype)
    for name, parameter in layer.named_parameters():
        value = rho * np.eye(units) if name == "weight_hh_l0" else np.zeros(parameter.shape)
        parameter.assign(value.astype(dtype))
    shape = (steps, batch, units)
    return layer, np.zeros((steps, batch, 1), dtype), at_the_end(shape, 1.0).astype(dtype)


# ---- where numbers vanish -----------------------------------------------------------------------


def test_half_to_the_150_is_exactly_zero_in_float32():
    """0.5^149 is the smallest number; 0.5^126 the smallest normal one."""
    layer, x, d = chain(0.5, 200)
    total = dg.gradient_flow(layer, x, d).total["h"][:, 0, 0][::-1]
    assert total[149] == np.float32(2.0**-149) and total[150] == 0.0
    found = dg.numeric_health(layer, x, d)
    assert found.first_vanished == 200 - 127
    assert found.value == pytest.approx((200 - 126) / 200)
    assert np.nansum(found.zero) == 200 - 149 and np.nansum(found.subnormal) == 149 - 126
    (event,) = found.events
    assert event == {
        "pass": "backward", "kind": "underflow", "where": "delta", "name": "h",
        "step": 200 - 127, "sequence": 0, "unit": 0,
    }  # fmt: skip
    assert rules.bit_vanished(found).level == "warn"
    assert dg.underflow_horizon(0.5) == 149


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("power", [0, 1, 10])
def test_a_scale_of_2_to_the_k_moves_the_horizon_by_k_steps(dtype, power):
    smallest = -np.log2(float(np.finfo(dtype).smallest_subnormal))
    assert dg.underflow_horizon(0.5, dtype, scale=2.0**power) == smallest + power
    assert dg.underflow_horizon(1.0, dtype) == np.inf
    assert dg.underflow_horizon(0.0, dtype) == 0


def test_float16s_floor_is_two_to_the_minus_24():
    assert dg.underflow_horizon(0.5, np.float16) == 24
    values = np.float16(0.5) ** np.arange(26, dtype=np.float16)
    assert values[24] > 0 and values[25] == 0


@given(st.floats(0.2, 0.97), st.floats(1e-3, 1e3))
def test_the_horizon_is_where_values_become_zero(rho, start):
    """The last lag at which the exact value does not round to zero."""
    lag = dg.underflow_horizon(rho, np.float32, start)
    assert np.float32(start * rho**lag) > 0 == np.float32(start * rho ** (lag + 1))


def test_loss_scaling_moves_the_measured_horizon_and_no_ratio():
    layer, x, d = chain(0.5, 200)
    found = dg.loss_scaling(layer, x, d, scales=[1.0, 2.0**10, 2.0**100, 2.0**127])
    np.testing.assert_array_equal(found.value, [126, 136, 200, 200])
    assert (found.vanished[:2] > 0).all() and not found.vanished[2:].any()
    assert found.best == 2.0**127 and not found.nonfinite.any()
    growing = dg.loss_scaling(*chain(2.0, 100), scales=[1.0, 2.0**60])
    assert growing.best == 1.0 and growing.nonfinite[1] > 0
    plain, scaled = (dg.lag_gain(layer, x).value for _ in range(2))
    np.testing.assert_array_equal(plain, scaled)


def test_scaling_by_a_power_of_two_is_exact_in_float64(rng):
    layer = minirnn.LSTM(3, 4, dtype="float64", seed=0)
    x, d = rng.normal(size=(10, 4, 3)), rng.normal(size=(10, 4, 4))
    one, other = (dg.gradient_flow(layer, x, a * d) for a in (1.0, 2.0**20))
    for k in "hc":
        np.testing.assert_array_equal(other.total[k], 2.0**20 * one.total[k])


@pytest.mark.parametrize(("steps", "level"), [(100, "ok"), (150, "warn"), (400, "fail")])
def test_bit_vanishing_is_judged_by_the_rows_it_covers(steps, level):
    layer, x, d = chain(0.5, steps)
    assert rules.bit_vanished(dg.numeric_health(layer, x, d)).level == level
    wide = chain(0.5, steps, dtype=np.float64)
    assert rules.bit_vanished(dg.numeric_health(*wide)).level == "ok"


def test_a_state_that_no_gradient_reaches_is_no_underflow(rng):
    """The truncated LSTM of 1997 cuts the gradient of h, i and o off on purpose."""
    layer = minirnn.Recurrent("lstm_1997_truncated", 3, 4, seed=0)
    x = rng.normal(size=(20, 8, 3)).astype(np.float32)
    with use_reference():
        found = dg.numeric_health(layer, x, at_the_end((20, 8, 4), 1.0).astype(np.float32))
    assert rules.bit_vanished(found).level == "ok" and not found.events


# ---- where numbers are no numbers ---------------------------------------------------------------


def test_the_first_nan_is_found_in_time_gate_and_unit(rng):
    layer = minirnn.Recurrent("lstm", 3, 4, dtype="float64", seed=0)
    x = rng.normal(size=(10, 5, 3))
    x[4, 2, 1] = np.nan
    with use_reference():
        found = dg.numeric_health(layer, x, np.ones((10, 5, 4)))
    forward, backward = (e for e in found.events if e["kind"] == "nan")
    assert forward == {
        "pass": "forward", "kind": "nan", "where": "inputs", "name": "x", "step": 4,
        "sequence": 2, "unit": 1,
    }  # fmt: skip
    # Backward meets it at the last row: everything after step 4 of that sequence is NaN.
    assert (backward["pass"], backward["sequence"], backward["step"]) == ("backward", 2, 9)
    assert found.nonfinite[5] > 0


def test_a_nan_weight_of_one_gate_names_the_gate(rng):
    layer = minirnn.Recurrent("lstm", 3, 4, dtype="float64", seed=0)
    weight = layer.weight_ih_l0.numpy().copy()
    weight[2 * 4 + 1, 0] = np.nan  # unit 1 of g
    layer.weight_ih_l0.assign(weight)
    with use_reference():
        found = dg.numeric_health(layer, rng.normal(size=(6, 3, 3)), np.ones((6, 3, 4)))
    first = found.events[0]
    assert (first["where"], first["name"], first["unit"], first["step"]) == ("gates", "g", 1, 0)


def test_an_overflow_on_the_way_back_is_found_where_it_begins():
    """2^128 is not a float32: with rho = 2 that is row T - 128."""
    layer, x, d = chain(2.0, 150)
    found = dg.numeric_health(layer, x, d)
    (event,) = (e for e in found.events if e["kind"] == "inf")
    assert (event["where"], event["step"], event["pass"]) == ("delta", 150 - 128, "backward")


# ---- updates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "level"),
    [(1e-7, "fail"), (1e-5, "warn"), (1e-3, "ok"), (5e-2, "warn"), (0.5, "fail")],
)
def test_updates_are_judged_relative_to_their_parameters(step, level, rng):
    before = {"w": rng.normal(size=(5, 5)), "b": 1e6 * rng.normal(size=5)}
    after = {k: v * (1 + 1e-3) for k, v in before.items()}
    after["b"] = before["b"] * (1 + step)
    found = dg.update_ratio(before, after)
    np.testing.assert_allclose(found.value, [1e-3, step], rtol=1e-6)  # 1 + 1e-7 is rounded
    verdict = rules.update_ratio(found)
    assert verdict.level == level
    if level != "ok":
        assert verdict.evidence.startswith("b moves")


def test_a_parameter_of_zeros_has_no_ratio():
    found = dg.update_ratio({"b": np.zeros(3), "w": np.ones(3)}, {"b": np.ones(3), "w": np.ones(3)})
    assert np.isnan(found.value[0]) and found.value[1] == 0.0
    with pytest.raises(ValueError, match=r"the same names, got \['w'\] in one of them only"):
        dg.update_ratio({"w": np.ones(1)}, {})
    nothing = dg.update_ratio({"b": np.zeros(3)}, {"b": np.ones(3)})
    assert rules.update_ratio(nothing).level == "inconclusive"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("norm", [0.0, 1.0])
def test_an_update_that_is_not_finite_fails_and_names_its_parameter(value, norm):
    """Also beside one that did not move at all, and of a parameter of zeros."""
    before = {"still": np.ones(3), "w": norm * np.ones(3), "b": np.ones(3)}
    after = {**before, "w": np.array([norm, value, norm]), "b": 1.001 * np.ones(3)}
    found = dg.update_ratio(before, after)
    np.testing.assert_allclose(found.value, [0.0, np.inf, 1e-3], rtol=1e-9)
    verdict = rules.update_ratio(found)
    assert verdict.level == "fail"
    assert verdict.evidence == "w moves by a step that is not finite: see R2"


def test_a_parameter_that_was_broken_before_the_update_fails_too():
    broken = {"w": np.array([np.inf, np.nan])}
    assert rules.update_ratio(dg.update_ratio(broken, broken)).level == "fail"


def test_updates_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="at least one parameter, got none; pass the model's"):
        dg.update_ratio({}, {})
    with pytest.raises(ValueError, match=r"w must have one shape, got \(3, 1\) before and \(3,\)"):
        dg.update_ratio({"w": np.ones((3, 1))}, {"w": np.ones(3)})


def test_parameters_that_changed_before_clipping_fail_r11():
    assert rules.clip_order([]).level == "ok"
    verdict = rules.clip_order(["weight_hh_l0"])
    assert verdict.level == "fail" and "weight_hh_l0" in verdict.evidence


def test_clip_direction_refuses_what_cannot_be_compared():
    with pytest.raises(ValueError, match="the same names"):
        dg.clip_direction({"a": np.ones(2)}, {"b": np.ones(2)})
    with pytest.raises(ValueError, match=r"a must have one shape, got \(2,\) before and \(3,\)"):
        dg.clip_direction({"a": np.ones(2)}, {"a": np.ones(3)})
    zero = dg.clip_direction({"a": np.zeros(2)}, {"a": np.zeros(2)})
    assert rules.clip_direction(zero).level == "inconclusive"


# ---- the report's own checks --------------------------------------------------------------------


def identities_hold(name, rng):
    """Levels, lengths, exponents and lag gains of one cell."""
    with use_reference():
        layer = minirnn.Recurrent(name, 2, 4, num_layers=2, dtype="float64", seed=0)
        x = rng.normal(size=(4, 3, 2))
        spectra, gains = [dg.lyapunov_spectrum(layer, x)], [dg.lag_gain(layer, x)]
        found = dg.self_checks(layer, x, lengths=[4, 0, 3], gains=gains, spectra=spectra)
    assert found.value <= 1, (found.worst, found.residuals, found.tolerances)
    assert rules.self_check(found).level == "ok"
    return found


@given(programs(), st.integers(0, 2**16), st.sampled_from([np.float32, np.float64]))
def test_the_identities_hold_for_any_cell(program, seed, dtype):
    rng = np.random.default_rng(seed)
    with use_reference():
        layer = minirnn.Recurrent(
            program.cell(), 2, 3, num_layers=int(rng.integers(1, 3)),
            bidirectional=bool(rng.integers(2)), dtype=dtype, seed=seed,
        )  # fmt: skip
        x = rng.normal(size=(4, 3, 2)).astype(dtype)
        lengths = None if rng.integers(2) else rng.integers(0, 5, 3)
        found = dg.self_checks(layer, x, lengths=lengths)
    for name in found.residuals:
        assert found.residuals[name] <= found.tolerances[name], (name, found)


@pytest.mark.parametrize("name", ["lstm_peephole", "clockwork", "rnn_relu", "gru_none"])
def test_the_identities_hold_for_cells_of_the_registry(name, rng):
    identities_hold(name, rng)


def broken(monkeypatch, change):
    """Make gradients wrong on their way into the checks."""
    real = checks.minirnn.grad

    def grad(*arguments, **options):
        found = real(*arguments, **options)
        return tuple(g if g is None else minirnn.Tensor(change(g.numpy())) for g in found)

    monkeypatch.setattr(checks.minirnn, "grad", grad)


@pytest.mark.parametrize("size", [0.9, 1.01])
def test_a_wrong_gradient_fails_and_withdraws_every_verdict(size, monkeypatch, rng):
    layer = minirnn.Recurrent("gru", 2, 4, dtype="float64", seed=0)
    x = rng.normal(size=(6, 8, 2))
    with use_reference():
        broken(monkeypatch, lambda g: size * g)
        found = dg.self_checks(layer, x)
        report = dg.diagnose(layer, x)
    bad = {name[:3] for name, r in found.residuals.items() if r > found.tolerances[name]}
    assert bad == {"(a)", "(b)", "(d)"}
    assert found.worst[:3] in bad
    levels = {v.rule: v.level for v in report.verdicts}
    assert levels.pop("R15") == "fail" and set(levels.values()) == {"inconclusive"}
    assert all("withdrawn" in v.evidence for v in report.verdicts if v.rule != "R15")


DIRECTIONAL = "(d) directional difference"


def kinked(cell, seed):
    """A float32 layer of 16 units, and 30 steps of 8 sequences."""
    x = np.random.default_rng(seed).normal(size=(30, 8, 3)).astype(np.float32)
    return minirnn.Recurrent(cell, 3, 16, seed=seed), x


@minirnn.cell(gates="if")
def all_kinks(wx, u, prev):
    i, f = equations.clip(wx.i + u.i @ prev.h, -0.5, 0.5), equations.relu(wx.f + u.f @ prev.h)
    h = equations.where(i < f, equations.maximum(i, 0.5 * f), equations.tanh(i))
    return equations.minimum(0.5 * prev.h + h, 1.0)


@pytest.mark.parametrize(
    ("cell", "seed"), [("rnn_relu", 0), ("rnn_relu", 13), ("ligru", 9), ("ligru", 40)]
)
def test_kinks_that_a_step_may_cross_break_no_check(cell, seed):
    """A step of eps^(1/3) of float32 crosses kinks by the dozen: these layers failed by them."""
    with use_reference():
        found = dg.self_checks(*kinked(cell, seed))
    assert found.value <= 1, (found.worst, found.residuals, found.tolerances)
    # A wrong digit in the third place is seen: 16 eps for each of the 30 steps are 7e-5.
    assert found.tolerances[DIRECTIONAL] < 2e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cell_of_nothing_but_kinks_passes(dtype):
    for seed in range(5):
        layer, x = kinked(all_kinks, seed)
        with use_reference():
            found = dg.self_checks(layer.to(dtype), x.astype(dtype))
        assert DIRECTIONAL in found.residuals
        assert found.value <= 1, (seed, found.worst, found.residuals, found.tolerances)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_that_stands_on_its_kinks_passes(dtype):
    """Without input and bias a relu is at 0: one side's slope is as good as the other's."""
    layer, x = kinked("rnn_relu", 1)
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):
            parameter.assign(np.zeros(parameter.shape, np.float32))
    x[:10] = 0
    with use_reference():
        found = dg.self_checks(layer.to(dtype), x.astype(dtype))
    assert found.residuals[DIRECTIONAL] <= found.tolerances[DIRECTIONAL]


@pytest.mark.parametrize("cell", ["rnn_relu", "ligru", all_kinks])
@pytest.mark.parametrize("size", [0.0, 0.9, 0.998, 1.002, -1.0])
def test_a_wrong_gradient_of_a_cell_with_kinks_is_caught(cell, size, monkeypatch):
    broken(monkeypatch, lambda g: (size * g).astype(g.dtype))
    with use_reference():
        found = dg.self_checks(*kinked(cell, 17))
    assert found.residuals[DIRECTIONAL] > found.tolerances[DIRECTIONAL]


def test_one_slope_that_is_wrong_is_caught(monkeypatch):
    """The gradients of one unit, or of the first of the inputs, are twice what they are."""

    def change(g):
        return np.concatenate([2 * g[:1], g[1:]])

    broken(monkeypatch, change)
    with use_reference():
        found = dg.self_checks(*kinked("rnn_relu", 17))
    assert found.residuals[DIRECTIONAL] > found.tolerances[DIRECTIONAL]


def test_a_batch_that_mixes_its_sequences_is_caught(monkeypatch, rng):
    """As a kernel would that reads the neighbour's row."""
    layer = minirnn.Recurrent("gru", 2, 4, dtype="float64", seed=0)
    real = checks._deltas

    def mixed(twin, v):
        found = real(twin, v)
        return found + 1e-6 * found.mean(axis=1, keepdims=True)

    monkeypatch.setattr(checks, "_deltas", mixed)
    with use_reference():
        found = dg.self_checks(layer, rng.normal(size=(6, 4, 2)))
    assert found.worst == "(f) batch alone" and found.value > 1


def test_a_lag_gain_that_does_not_begin_at_one_is_caught(rng):
    layer = minirnn.Recurrent("gru", 2, 4, dtype="float64", seed=0)
    x = rng.normal(size=(6, 4, 2))
    with use_reference():
        gain = dg.lag_gain(layer, x)
        spectrum = dg.lyapunov_spectrum(layer, x)
        off = replace(gain, value=gain.value * 1.001)
        shifted = replace(spectrum, value=spectrum.value + 1e-6)
        found = dg.self_checks(layer, x, gains=[off], spectra=[shifted])
    bad = {name[:3] for name, r in found.residuals.items() if r > found.tolerances[name]}
    assert bad == {"(c)", "(e)"}


def test_nan_weights_are_not_the_reports_fault(rng):
    layer = minirnn.Recurrent("gru", 2, 4, dtype="float64", seed=0)
    layer.weight_hh_l0.assign(np.full((12, 4), np.nan))
    with use_reference():
        report = dg.diagnose(layer, rng.normal(size=(6, 8, 2)), np.zeros((6, 8, 4)), level="full")
    levels = {v.rule: v.level for v in report.verdicts}
    assert levels["R2"] == "fail" and levels["R15"] == "inconclusive"
    assert levels["R1"] == "inconclusive" and "ok" not in {levels["R5"], levels["R14"]}


def test_checking_leaves_the_layer_alone(rng):
    layer = minirnn.Recurrent("gru", 2, 4, batch_first=True, dropout=0.5, num_layers=2, seed=0)
    before = layer.state_dict()
    x = rng.normal(size=(3, 6, 2)).astype(np.float32)
    with use_reference():
        found = dg.self_checks(layer, x, rng.normal(size=(3, 6, 4)))
        single = dg.self_checks(layer, x[0])
    assert found.value <= 1 and single.value <= 1
    assert layer.training and layer.batch_first and not layer._watchers
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad is None for p in layer.parameters())
    assert network(linear, 2).weight_hh_l0.requires_grad
