"""Verdicts: levels flip exactly at their thresholds, and doubt is a level of its own."""

from types import SimpleNamespace

import numpy as np
import pytest

from diagnostics import rules
from diagnostics.quantities.base import Cost
from diagnostics.quantities.clipping import clipping_statistics
from diagnostics.quantities.lag_gain import lag_gain_of_record, summarise
from tests.toy_record import ToyRecord, orthogonal, repeated


def gain_of(rho, rng, steps=50, batch=8, dtype=np.float64):
    return lag_gain_of_record(
        ToyRecord(repeated(rho * orthogonal(4, rng), steps), batch, {"h": 4}, dtype)
    )


def clips(norms, max_norm):
    infos = [
        SimpleNamespace(norm=n, post=min(n, max_norm), clipped=n > max_norm, nonfinite=0)
        if np.isfinite(n)
        else SimpleNamespace(norm=n, post=n, clipped=False, nonfinite=3)
        for n in norms
    ]
    return clipping_statistics(infos, max_norm)


@pytest.mark.parametrize(
    ("left", "level"),
    [(1e-2, "ok"), (1.01e-3, "ok"), (0.99e-3, "warn"), (1.01e-6, "warn"), (0.99e-6, "fail")],
)
def test_vanishing_is_judged_by_what_is_left_at_the_largest_lag(left, level, rng):
    verdict = rules.vanishing(gain_of(left ** (1 / 49), rng))
    assert (verdict.rule, verdict.level) == ("R1", level)
    assert verdict.value == pytest.approx(left, rel=1e-9)
    assert bool(verdict.remedy) == (level != "ok")


@pytest.mark.parametrize(
    ("gained", "level"),
    [(1.0, "ok"), (0.99e3, "ok"), (1.01e3, "warn"), (0.99e6, "warn"), (1.01e6, "fail")],
)
def test_exploding_is_judged_by_what_arrives_at_the_largest_lag(gained, level, rng):
    verdict = rules.exploding(gain_of(gained ** (1 / 49), rng))
    assert (verdict.rule, verdict.level) == ("R2", level)


def test_a_task_that_needs_a_short_lag_is_judged_there(rng):
    gain = gain_of(0.5, rng)
    assert rules.vanishing(gain).level == "fail"
    assert rules.vanishing(gain, need_lag=5).level == "ok"
    with pytest.raises(ValueError, match=r"need_lag must lie in 0 to 49, .* got 60; pass a longer"):
        rules.vanishing(gain, need_lag=60)


@pytest.mark.parametrize("rule", [rules.vanishing, rules.exploding])
def test_fewer_than_eight_samples_are_inconclusive(rule, rng):
    verdict = rule(gain_of(1e-4, rng, batch=7))
    assert verdict.level == "inconclusive"
    assert "7 samples at this lag, 8 are needed" in verdict.evidence
    assert verdict.remedy == ""


def test_an_interval_that_straddles_a_threshold_is_inconclusive():
    """Nine sequences, each alone with its own factor, around the threshold of 1e-3."""
    factors = (1e-3 * np.geomspace(0.2, 5, 9)) ** (1 / 49)
    samples = factors[None, :, None] ** np.arange(50)
    gain = summarise(samples, np.full((1, 9), 50), 50, inject="h", dtype="float64", cost=Cost())
    verdict = rules.vanishing(gain)
    assert verdict.level == "inconclusive"
    assert verdict.ci[0] < 1e-3 < verdict.ci[1]
    assert "interval straddles 0.001" in verdict.evidence


def test_a_gradient_that_is_not_finite_fails_r2_whatever_the_sample(rng):
    gain = gain_of(1e30, rng, steps=10, batch=1, dtype=np.float32)
    assert not np.isfinite(gain.value[-1])
    verdict = rules.exploding(gain)
    assert verdict.level == "fail" and "not finite from lag 2 on" in verdict.evidence


def test_a_training_step_that_is_not_finite_fails_r2(rng):
    verdict = rules.exploding(gain_of(1.0, rng), nonfinite_steps=1)
    assert verdict.level == "fail" and "1 training step(s)" in verdict.evidence


def test_a_gain_that_is_not_a_number_is_no_sign_of_health(rng):
    gain = gain_of(1.0, rng)
    gain.value[20:] = np.nan
    assert rules.vanishing(gain).level == "inconclusive"
    assert rules.exploding(gain).level == "fail"


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_the_size_of_the_states_gradient_changes_no_verdict(scale, rng):
    """The gain is relative: a loss times a constant is the same network."""
    jacobians = repeated(0.8 * orthogonal(4, rng), 50)

    class Scaled(ToyRecord):
        def pullback(self, d_output=None, d_state=None, clip=None):
            scaled = {k: scale * a for k, a in d_state.items()}
            return super().pullback(d_state=scaled)

    plain = rules.vanishing(lag_gain_of_record(ToyRecord(jacobians, 8, {"h": 4})))
    scaled = rules.vanishing(lag_gain_of_record(Scaled(jacobians, 8, {"h": 4})))
    assert scaled.level == plain.level
    assert scaled.value == pytest.approx(plain.value, rel=1e-12)


@pytest.mark.parametrize(
    ("clipped", "level"),
    [(0, "info"), (1, "ok"), (10, "ok"), (11, "warn"), (50, "warn"), (51, "fail")],
)
def test_clipping_is_judged_by_the_fraction_of_steps(clipped, level):
    verdict = rules.clipping(clips([2.0] * clipped + [0.5] * (100 - clipped), 1.0))
    assert (verdict.rule, verdict.level) == ("R9", level)
    assert verdict.value == pytest.approx(clipped / 100)
    assert verdict.ci is None  # counted, not estimated


def test_clipping_that_never_fires_is_inert():
    verdict = rules.clipping(clips([0.5] * 20, 1.0))
    assert verdict.level == "info" and "never fired" in verdict.evidence


def test_a_window_with_no_clipping_in_a_run_that_was_clipped_is_not_inert():
    statistics = clipping_statistics(
        [SimpleNamespace(norm=2.0, post=1.0, clipped=k < 5, nonfinite=0) for k in range(50)],
        1.0,
        window=20,
    )
    assert statistics.value == 0 and statistics.overall == 0.1
    assert rules.clipping(statistics).level == "ok"


def test_a_few_steps_say_nothing_about_clipping():
    assert rules.clipping(clips([2.0] * 7, 1.0)).level == "inconclusive"


def test_clipping_statistics_count_steps_that_are_not_finite_apart():
    statistics = clips([1.0, 2.0, np.inf, np.nan, 3.0], 1.5)
    assert statistics.nonfinite_steps == 2
    assert statistics.value == pytest.approx(2 / 5)
    np.testing.assert_allclose(statistics.percentiles[0], 2.0)
    assert "2 step(s) not finite" in rules.clipping(statistics).evidence


def test_clipping_statistics_of_a_scale_are_the_scale_of_the_statistics(rng):
    norms = rng.lognormal(size=200)
    plain, scaled = clips(norms, 1.0), clips(1e6 * norms, 1e6)
    np.testing.assert_allclose(scaled.percentiles, 1e6 * plain.percentiles, rtol=1e-12)
    assert scaled.value == plain.value
    np.testing.assert_allclose(plain.post, np.minimum(norms, 1.0))


def test_a_window_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="window must be a whole number, 1 or more, got 0"):
        clipping_statistics([], 1.0, window=0)


@pytest.mark.parametrize(
    ("fail_on", "chosen"),
    [
        ("fail", ["R1"]),
        ("warn", ["R1", "R9"]),
        ("R9", ["R9"]),
        ("R2", []),
        ("R2, R1", ["R1"]),
        ("fail,R9", ["R1", "R9"]),
    ],
)
def test_fail_on_names_levels_and_rules(fail_on, chosen):
    levels = (("R1", "fail"), ("R2", "ok"), ("R9", "warn"), ("R2", "inconclusive"))
    verdicts = [rules.Verdict(rule, level, 0.0, 0.0, None, "", "") for rule, level in levels]
    assert [verdict.rule for verdict in rules.selected(verdicts, fail_on)] == chosen


@pytest.mark.parametrize(
    ("fail_on", "words"), [("R77", "'R77' is none of warn, fail, R1"), (",", "names nothing")]
)
def test_fail_on_refuses_what_it_does_not_know(fail_on, words):
    with pytest.raises(ValueError, match=words):
        rules.selected([], fail_on)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("threshold", [1e-6, 1e-3, 1e3, 1e6])
def test_no_verdict_is_wrong_away_from_its_threshold(threshold, batch, rng):
    """Noisy steps around known rates: |ln G(L) - ln threshold| > 0.7 is judged right or not at all.

    With one sequence there are too few samples for any judgement.
    """
    order = {"ok": 0, "warn": 1, "fail": 2}
    rule = rules.vanishing if threshold < 1 else rules.exploding
    limits = (1e-3, 1e-6) if threshold < 1 else (1e3, 1e6)
    for distance in (-2.0, -1.0, 1.0, 2.0):
        left = threshold * np.exp(distance)
        jacobians = np.stack(
            [
                left ** (1 / 49) * orthogonal(4, rng) * np.exp(0.03 * rng.standard_normal())
                for _ in range(50)
            ]
        )
        # The noise is the network's own: the truth is the product of its steps, row 50 to row 1.
        truth = abs(np.linalg.det(np.linalg.multi_dot(list(jacobians[1:])))) ** 0.25
        if any(abs(np.log(truth / limit)) <= 0.7 for limit in limits):
            continue
        crossed = sum((truth < x) if threshold < 1 else (truth > x) for x in limits)
        verdict = rule(lag_gain_of_record(ToyRecord(jacobians, batch, {"h": 4})))
        if batch == 1:
            assert verdict.level == "inconclusive"
        else:
            assert order[verdict.level] == crossed
