"""Verdicts as a whole: their table, transient growth, and input that is hardly any."""

from types import SimpleNamespace

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics import rules
from diagnostics.quantities.base import Cost
from diagnostics.quantities.clipping import clipping_statistics
from diagnostics.quantities.lag_gain import lag_gain_of_record, summarise
from diagnostics.rules.table import TABLE
from minirnn.layers.reference import use_reference
from tests.test_diagnostics_closed_forms import NON_NORMAL, linear, network
from tests.test_diagnostics_metamorphic import Padded
from tests.toy_record import ToyRecord, orthogonal, repeated

# ---- transient growth ---------------------------------------------------------------------------


def gain_of(samples):
    """A lag gain made by hand.  samples: (B, K+1)."""
    count, lags = samples.shape
    return summarise(
        samples[None], np.full((1, count), lags), lags, inject="h", dtype="float64", cost=Cost()
    )


def test_growth_that_dies_out_is_transient():
    lags = np.arange(50)
    grown = lags**2 * 0.7**lags + 0.7**lags  # at most 6.5, 25 times what 0.7^lag would be
    found = rules.transient(gain_of(np.tile(grown, (9, 1))))
    assert found.level == "warn" and found.ci is not None
    more = rules.transient(gain_of(np.tile(1e3 * grown - (1e3 - 1) * (lags == 0), (9, 1))))
    assert more.level == "fail"


@pytest.mark.parametrize(
    "gain",
    [
        0.9 ** np.arange(50.0),
        1.1 ** np.arange(50.0),  # grows for good: R2
        np.where(np.arange(50) < 25, 1.0, 0.5 ** (np.arange(50.0) - 24)),  # flat, then falls
        0.3 ** np.arange(50.0) + 0.1 * 0.95 ** np.arange(50.0),  # fast and slow modes
    ],
    ids=["decay", "growth", "late fall", "two modes"],
)
def test_what_never_grew_first_is_not_transient(gain):
    assert rules.transient(gain_of(np.tile(gain, (9, 1)))).level == "ok"


def test_transient_growth_of_few_sequences_is_inconclusive():
    gain = lag_gain_of_record(ToyRecord(repeated(NON_NORMAL.copy(), 40), 1, {"h": 2}), sources=1)
    assert rules.transient(gain).level == "inconclusive"


def test_sources_in_one_sequence_are_one_sample_of_transient_growth():
    """They make no interval of it, and a median of eight random directions is off by a tenth."""
    gain = lag_gain_of_record(ToyRecord(repeated(NON_NORMAL.copy(), 40), 1, {"h": 2}), max_lag=12)
    found = rules.transient(gain)
    assert gain.n[12] == 8 and found.level == "inconclusive" and "1 sample" in found.evidence


@pytest.mark.parametrize(
    ("rho", "level"), [(0.9, "ok"), (10 ** (-3 / 12), "inconclusive"), (0.5, "warn"), (0.2, "fail")]
)
def test_one_sequence_is_judged_at_a_lag_that_eight_sources_reach(rho, level):
    """G(12) = rho^12, here with a spread of a tenth over the steps."""
    factors = rho * (1 + 0.1 * np.sin(np.arange(40)))
    matrices = factors[:, None, None] * np.eye(2)
    gain = lag_gain_of_record(ToyRecord(matrices, 1, {"h": 2}), max_lag=12)
    assert gain.n[12] == 8 and rules.vanishing(gain).level == level


# ---- the table ----------------------------------------------------------------------------------


def test_every_rule_has_thresholds_in_order_a_remedy_and_a_source():
    assert list(TABLE) == [f"R{i}" for i in range(1, 16)]
    for name, rule in TABLE.items():
        assert rule.fail <= rule.warn if rule.small_is_bad else rule.warn <= rule.fail, name
        assert rule.remedy and rule.title and rule.judged
        assert rule.source.startswith(("anchor", "proposed")), name


@pytest.mark.parametrize("name", TABLE)
def test_a_value_on_each_side_of_each_threshold_is_judged_so(name):
    rule = TABLE[name]
    worse = -1 if rule.small_is_bad else 1
    step = worse * 1e-9 * max(1.0, abs(rule.fail))
    assert rules.verdict_of(name, rule.warn, None, 8, "").level == "ok"
    if rule.fail != rule.warn:
        assert rules.verdict_of(name, rule.warn + step * rule.warn, None, 8, "").level in (
            "warn", "ok" if rule.warn == 0 else "warn",
        )  # fmt: skip
    assert rules.verdict_of(name, rule.fail + step, None, 8, "").level == "fail"
    verdict = rules.verdict_of(name, rule.fail + step, None, 7, "why")
    assert verdict.level == "inconclusive" and "7 samples, 8 are needed" in verdict.evidence
    around = (rule.warn - abs(rule.warn) - 1, rule.warn + abs(rule.warn) + 1)
    assert rules.verdict_of(name, rule.warn, around, 8, "").level == "inconclusive"
    assert rules.verdict_of(name, float("nan"), None, 8, "").level == "inconclusive"


# ---- why nothing is said, and the way out -------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "n", "words"),
    [
        ("samples", 7, "7 samples, 8 are needed: pass more sequences"),
        ("samples", 1, "1 sample, 8 are needed: pass more sequences"),
        ("samples at this lag", 1, "1 sample at this lag, 8 are needed: pass more sequences"),
        ("steps", 7, "7 steps, 8 are needed: pass a longer x"),
        ("steps", 1, "1 step, 8 are needed: pass a longer x"),
        ("steps of sequences", 1, "1 step of a sequence, 8 are needed: pass more or longer sequ"),
        ("entries", 0, "0 entries, 8 are needed: pass more sequences"),
        ("entries", 1, "1 entry, 8 are needed: pass more sequences"),
    ],
)
def test_too_few_samples_are_counted_and_told_where_more_come_from(samples, n, words):
    found = rules.verdict_of("R1", 1.0, None, n, "why", samples=samples)
    assert found.level == "inconclusive" and found.evidence.startswith(f"why; {words}")


def test_credit_of_few_steps_asks_for_more_steps(rng):
    """Thousands of sequences of 5 steps are 5 steps."""
    layer = network("gru", 4, weight_hh=0.1)
    with use_reference():
        report = dg.diagnose(layer, rng.normal(size=(5, 30, 1)), np.ones((5, 30, 4)))
    (found,) = (v for v in report.verdicts if v.rule == "R14")
    assert found.level == "inconclusive"
    assert found.evidence.endswith("; 5 steps, 8 are needed: pass a longer x")


@pytest.mark.parametrize("steps", [5, 20])
def test_a_loss_that_does_not_see_the_layer_is_said_to_be_so(steps, rng):
    """No number of sequences would give it a gradient."""
    layer = network("gru", 4, weight_hh=0.1)
    with use_reference():
        report = dg.diagnose(
            layer, rng.normal(size=(steps, 8, 1)), np.ones((steps, 8, 4)),
            loss=lambda out, _: (0.0 * out).sum(),
        )  # fmt: skip
    for rule in ("R12", "R14"):
        (found,) = (v for v in report.verdicts if v.rule == rule)
        assert found.level == "inconclusive"
        assert found.evidence.startswith("the loss does not depend on the layer's states")
        assert "needed" not in found.evidence and "pass" not in found.evidence


def test_one_step_and_one_jacobian_are_written_in_the_singular():
    one = clipping_statistics([SimpleNamespace(norm=1.0, post=1.0, clipped=False, nonfinite=0)])
    assert rules.clipping(one).evidence.endswith("; 1 step is fewer than 8")
    found = rules.contraction(SimpleNamespace(n=1, largest=0.5))
    assert "; 1 Jacobian, 8 are needed: pass more or longer" in found.evidence


# ---- hardly any input ---------------------------------------------------------------------------

LEVELS = ("cheap", "standard", "full")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("steps", "batch", "units"), [(1, 1, 1), (1, 8, 4), (2, 1, 4), (9, 8, 1)])
@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_one_step_one_sequence_and_one_unit_have_a_report(level, steps, batch, units, name):
    with use_reference():
        layer = minirnn.Recurrent(name, 1, units, dtype="float64", seed=0)
        x = np.ones((steps, batch, 1))
        report = dg.diagnose(layer, x, np.zeros((steps, batch, units)), level=level)
    assert {v.level for v in report.verdicts} <= set(rules.LEVELS)
    assert report.json() and str(report) and report.exit_code("R15") == 0
    assert level == "cheap" or report["lag_gain"].value[0] == 1.0


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 2)])
def test_no_steps_and_no_sequences_are_one_clear_error(shape):
    layer = minirnn.Recurrent("lstm", 2, 4, dtype="float64")
    y = np.zeros((*shape[:2], 4))
    words = "at least one step of one sequence"
    for level in LEVELS:
        with use_reference(), pytest.raises(ValueError, match=words):
            dg.diagnose(layer, np.zeros(shape), y, loss=lambda out, y: out.sum(), level=level)


@pytest.mark.parametrize("what", ["weights", "input"])
@pytest.mark.parametrize("level", LEVELS)
def test_numbers_that_are_not_finite_are_reported_and_located(what, level, rng):
    layer = minirnn.Recurrent("lstm", 2, 4, dtype="float64", seed=0)
    x = rng.normal(size=(12, 8, 2))
    if what == "weights":
        layer.weight_hh_l0.assign(np.full((16, 4), np.inf))
    else:
        x[3] = np.nan
    with use_reference():
        report = dg.diagnose(layer, x, np.zeros((12, 8, 4)), level=level)
    events = report["numeric_health"].events
    assert events and events[0]["pass"] == "forward"
    assert events[0]["step"] == (3 if what == "input" else 0)
    verdicts = {v.rule: v for v in report.verdicts}
    assert verdicts["R2"].level == "fail"
    assert ("64 of 64 in weight_hh_l0" in verdicts["R2"].evidence) is (what == "weights")
    assert not {"ok", "info"} & {verdicts[rule].level for rule in ("R6", "R7", "R8")}


def test_a_loss_whose_gradient_is_not_finite_fails_though_the_recurrence_is_sound(rng):
    layer = minirnn.Recurrent("lstm", 2, 4, dtype="float64", seed=0)
    model = Padded(layer)
    model.readout.weight.assign(np.full((2, 4), np.nan))
    x, y = rng.normal(size=(12, 8, 2)), np.zeros((12, 8, 2))
    with use_reference():
        report = dg.diagnose(model, x, y)
    (verdict,) = [v for v in report.verdicts if v.rule == "R2"]
    assert verdict.level == "fail" and "nan on the way backward" in verdict.evidence
    assert np.isfinite(report["lag_gain"].value).all()


def test_one_gate_that_is_not_finite_leaves_no_gate_judged_well(rng):
    layer = minirnn.Recurrent("gru", 2, 4, dtype="float64", seed=0)
    bias = np.zeros(12)
    bias[4] = np.nan  # one unit of the second gate
    layer.bias_ih_l0.assign(bias)
    found = dg.gate_statistics(layer, rng.normal(size=(12, 8, 2)))
    assert np.isnan(found.value) and np.isnan(found.stuck)
    assert rules.gate_slope(found).level == rules.gate_stuck(found).level == "inconclusive"
    assert "is not finite: see R2" in rules.gate_slope(found).evidence


def test_a_layer_that_the_input_does_not_reach_is_left_out(rng):
    class Half(minirnn.Module):
        def __init__(self):
            self.used = minirnn.Recurrent("rnn", 2, 4, dtype="float64", seed=0)
            self.idle = minirnn.Recurrent("rnn", 2, 4, dtype="float64", seed=0)

        def forward(self, x):
            return self.used(x)

    with use_reference():
        report = dg.diagnose(Half(), rng.normal(size=(10, 8, 2)))
    assert [subject.name for subject in report.subjects] == ["used"]


class Reader(minirnn.Module):
    """Ids that are looked up by an embedding, or by the layer itself."""

    def __init__(self, folded):
        self.folded = folded
        self.embedding = minirnn.Embedding(5, 3, dtype="float64", seed=0)
        self.recurrent = minirnn.Recurrent("gru", 3, 4, dtype="float64", seed=0)
        self.readout = minirnn.Linear(4, 5, dtype="float64", seed=1)

    def forward(self, ids):
        if self.folded:
            hidden, _ = self.recurrent(ids, embedding=self.embedding)
        else:
            hidden, _ = self.recurrent(self.embedding(ids))
        return self.readout(hidden)


@pytest.mark.parametrize("level", LEVELS)
def test_a_layer_that_looks_ids_up_itself_has_the_same_report(level, rng):
    ids, y = rng.integers(0, 5, (12, 8)), rng.integers(0, 5, (12, 8))
    plain, folded = (dg.diagnose(Reader(f), ids, y, level=level) for f in (False, True))
    assert {v.rule: v.level for v in plain.verdicts} == {v.rule: v.level for v in folded.verdicts}
    names = ["gradient_flow", "tbptt_error"] if level != "cheap" else ["gradient_flow"]
    for name in names:
        np.testing.assert_allclose(plain[name].value, folded[name].value, rtol=1e-10, atol=1e-12)


def test_every_level_and_direction_of_a_stack_is_a_subject(rng):
    with use_reference():
        layer = minirnn.Recurrent(
            "gru", 2, 4, num_layers=2, bidirectional=True, dtype="float64", seed=0
        )
        x, y = rng.normal(size=(10, 8, 2)), rng.normal(size=(10, 8, 8))
        report = dg.diagnose(layer, x, y, level="full")
    assert [s.name for s in report.subjects] == [
        "Recurrent, level 1, forward", "Recurrent, level 1, reverse",
        "Recurrent, level 0, forward", "Recurrent, level 0, reverse",
    ]  # fmt: skip
    with use_reference():
        for subject in report.subjects:
            level, direction = int("level 1" in subject.name), int("reverse" in subject.name)
            gain = dg.lag_gain(layer, x, level=level, direction=direction)
            np.testing.assert_array_equal(subject.quantities["lag_gain"].value, gain.value)
            flow = dg.gradient_flow(layer, x, minirnn.grad(
                *flow_inputs(layer, x, y))[0].numpy(), direction, level)  # fmt: skip
            np.testing.assert_allclose(
                subject.quantities["gradient_flow"].value, flow.value, rtol=1e-10
            )


def flow_inputs(layer, x, y):
    """The mean squared error's loss and the output that it is differentiated by."""
    output, _ = layer(x)
    return minirnn.mse_loss(output, y), [output]


def test_a_saved_report_holds_every_quantity(rng, tmp_path):
    with use_reference():
        layer = minirnn.Recurrent("lstm", 2, 4, dtype="float64", seed=0)
        x, y = rng.normal(size=(20, 8, 2)), rng.normal(size=(20, 8, 4))
        report = dg.diagnose(layer, x, y, level="full")
    report.to_json(tmp_path / "run.json")
    loaded = dg.load_report(tmp_path / "run.json")
    assert loaded.json() == report.json()
    assert loaded.to_dict() == report.to_dict()
    report.to_markdown(tmp_path / "run.md")
    assert len((tmp_path / "run.md").read_text()) > 1000
    assert len(str(report).splitlines()) <= 25
    assert len({type(q) for q in report.subjects[0].quantities.values()}) == 16


def test_an_orthogonal_linear_network_has_no_complaint(rng):
    layer = network(linear, 4, weight_hh=orthogonal(4, rng), weight_ih=1.0)
    with use_reference():
        report = dg.diagnose(layer, rng.normal(size=(30, 16, 1)), level="full")
    assert not [v for v in report.verdicts if v.level in ("warn", "fail")]
