"""Rules on how a gradient flows back: R1 vanishing, R2 exploding, R3 transient, R12, R14."""

import math

import numpy as np

from diagnostics.quantities.credit import Credit
from diagnostics.quantities.decay_rate import rate_of
from diagnostics.quantities.lag_gain import LagGain
from diagnostics.quantities.numeric_health import NumericHealth
from diagnostics.quantities.statistics import Floats, interval
from diagnostics.rules.table import TABLE
from diagnostics.rules.verdict import Interval, Verdict, interval_of, verdict_of

BROKEN = "take weights from before they broke, and find the training step that broke them"
GROWN = 2.0  # a peak below this is no growth, whatever the late lags do
COHERENT, REACHING = 0.05, 0.1


def vanishing(gain: LagGain, need_lag: int | None = None, subject: str = "") -> Verdict:
    """Judge R1: is enough of the gradient left at the lag that the task needs."""
    lag = needed_lag(gain, need_lag)
    value, ci, n = _at(gain, lag)
    if n and np.isnan(value):
        evidence = f"the lag gain is not finite from lag {_first_nonfinite(gain)} on: see R2"
        warn = TABLE["R1"].warn
        return Verdict("R1", "inconclusive", value, warn, ci, evidence, "", subject, lag)
    words = "samples at this lag"
    return verdict_of("R1", value, ci, n, _left(value, ci, lag), subject, lag, words)


def exploding(
    gain: LagGain, need_lag: int | None = None, nonfinite_steps: int = 0, subject: str = ""
) -> Verdict:
    """Judge R2: does the gradient grow on its way back, or was any gradient not finite.

    nonfinite_steps: training steps with a non-finite gradient; one is enough for a fail.
    """
    lag = needed_lag(gain, need_lag)
    value, ci, n = _at(gain, lag)
    if nonfinite_steps or not np.all(np.isfinite(gain.value[gain.n > 0])):
        evidence = (
            f"{nonfinite_steps} training step(s) had a non-finite gradient"
            if nonfinite_steps
            else f"the lag gain is not finite from lag {_first_nonfinite(gain)} on"
        )
        rule = TABLE["R2"]
        return Verdict("R2", "fail", value, rule.fail, ci, evidence, rule.remedy, subject, lag)
    evidence = f"{_left(value, ci, lag)}, at most {gain.peak:.2g} at any lag"
    return verdict_of("R2", value, ci, n, evidence, subject, lag, "samples at this lag")


def not_finite(weights: str = "", gradient: str = "", subject: str = "") -> Verdict:
    """Judge R2 where weights, or the loss's own gradient, are not finite: it fails.

    weights, gradient: what is not finite there, in words.
    """
    rule = TABLE["R2"]
    evidence = "; ".join(words for words in (weights, gradient) if words)
    remedy = BROKEN if weights else rule.remedy
    return Verdict("R2", "fail", float("nan"), rule.fail, None, evidence, remedy, subject)


def transient(gain: LagGain, subject: str = "") -> Verdict:
    """Judge R3: does a gradient that dies out in the end grow first."""
    floor = float(np.finfo(gain.dtype).tiny)
    value, lag, rho = peak_over_fit(gain.value, floor)
    ci = None
    if gain.replicates is not None:
        ci = interval(np.array([peak_over_fit(g, floor)[0] for g in gain.replicates]))
    peak = gain.value[lag]
    evidence = (
        f"the lag gain is largest at lag {lag}, {peak:.2g}, where {rho:.3g} per step would give "
        f"{peak / value:.2g}"
        if lag and np.isfinite(value) and value
        else f"the lag gain grows nowhere above {GROWN:g}"
    )
    if np.isnan(gain.value[gain.n > 0]).any():
        evidence = f"the lag gain is not finite from lag {_first_nonfinite(gain)} on: see R2"
    # Few sources of one sequence reach the lags that the fit needs: they make no interval, and
    # without one the calibration found verdicts that were not so.
    n = int(gain.n[lag]) if ci is not None else min(int(gain.n[lag]), 1)
    return verdict_of("R3", value, ci, n, evidence, subject, lag)


def peak_over_fit(gain: Floats, floor: float = 0.0) -> tuple[float, int, float]:
    """Return the peak of a lag gain over rho^lag, its lag, and rho.

    1 without growth, and where the gain does not die out: that is R2's.  NaN where there is
    nothing to fit.  gain: (K+1,).
    """
    rho = rate_of(gain, floor)
    if np.isnan(rho) or np.isnan(gain).all():
        return float("nan"), 0, rho
    lag = int(np.nanargmax(gain))
    if gain[lag] < GROWN or not rho < 1:
        return 1.0, 0, rho
    if rho == 0:
        return float("inf"), lag, rho
    return math.exp(min(math.log(gain[lag]) - lag * math.log(rho), 700.0)), lag, rho


def bit_vanished(health: NumericHealth, subject: str = "") -> Verdict:
    """Judge R12: are gradients exact zeros or subnormal numbers."""
    value, evidence = health.value, "delta holds normal numbers at all rows before the last loss"
    if value == 0 and np.nansum(health.nonfinite) > 0:
        value, evidence = float("nan"), "delta is not finite: see R2"
    if health.first_vanished is not None:
        evidence = (
            f"more than half of delta is zero or subnormal at {health.value:.0%} of the rows "
            f"before the last loss, first at row {health.first_vanished} on the way back"
        )
    if not health.rows:
        return _unseen("R12", value, subject)
    return verdict_of("R12", value, None, health.n, evidence, subject, samples="entries")


def credit_assignment(credit: Credit, subject: str = "") -> Verdict:
    """Judge R14: do steps cancel, or do only the last ones teach anything."""
    if not credit.value.any():
        return _unseen("R14", float("nan"), subject)
    scores = {"coherence": credit.coherence / COHERENT, "reach": credit.reach / REACHING}
    value = min(scores.values(), key=lambda score: np.inf if np.isnan(score) else score)
    ci = None
    if value == scores["reach"] and credit.reach_ci is not None:
        ci = tuple(end / REACHING for end in credit.reach_ci)
    evidence = (
        f"coherence of the steps' shares {credit.coherence:.2g}; 90% of the credit lies in the "
        f"last {credit.reach:.0%} of the steps up to the last loss"
    )
    return verdict_of("R14", value, ci, len(credit.value), evidence, subject, samples="steps")


def _unseen(rule: str, value: float, subject: str) -> Verdict:
    """Judge nothing where the loss sends no gradient into the layer: no input would change that."""
    evidence = (
        "the loss does not depend on the layer's states, its gradient by them is exactly 0: "
        "there is nothing to judge"
    )
    return Verdict(rule, "inconclusive", value, TABLE[rule].warn, None, evidence, "", subject)


def needed_lag(gain: LagGain, need_lag: int | None) -> int:
    """Return the lag to judge: the one the task needs, by default the largest that was measured."""
    largest = len(gain.value) - 1
    if need_lag is None:
        return largest
    if not 0 <= need_lag <= largest:
        raise ValueError(
            f"diagnose: need_lag must lie in 0 to {largest}, the largest lag measured, "
            f"got {need_lag}; pass a longer x"
        )
    return need_lag


def _at(gain: LagGain, lag: int) -> tuple[float, Interval, int]:
    return float(gain.value[lag]), interval_of(gain.ci[lag]), int(gain.n[lag])


def _left(value: float, ci: Interval, lag: int) -> str:
    """Say how much of a gradient is left, with its interval."""
    if value == 0:
        return f"nothing of a gradient is left {lag} steps earlier"
    between = "" if ci is None else f" ({ci[0]:.2g} to {ci[1]:.2g})"
    return f"{value:.2g}{between} of a gradient is left {lag} steps earlier"


def _first_nonfinite(gain: LagGain) -> int:
    return int(np.flatnonzero(~np.isfinite(gain.value) & (gain.n > 0))[0])
