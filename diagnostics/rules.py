"""Verdicts: rules that judge a quantity against thresholds, apart from how it was measured.

Thresholds are relative (to the gradient at lag 0, to the number of steps), never absolute sizes:
scaling the loss changes no verdict.  `inconclusive` is a level of its own, for too few samples or
an interval that straddles a threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.quantities.clipping import Clipping
from diagnostics.quantities.lag_gain import LagGain

LEVELS = ("ok", "info", "warn", "fail", "inconclusive")
RULES = {"R1": "vanishing", "R2": "exploding", "R9": "clipping"}

MIN_SAMPLES = 8
VANISHING_WARN, VANISHING_FAIL = 1e-3, 1e-6  # G(L); 1e-6 is about 10 eps of float32
EXPLODING_WARN, EXPLODING_FAIL = 1e3, 1e6  # G(L)
CLIPPED_WARN, CLIPPED_FAIL = 0.1, 0.5  # fraction of steps

REMEDY = {
    "R1": (
        "a gated cell, a larger forget bias, an orthogonal or identity initialisation, "
        "or a task that needs fewer steps"
    ),
    "R2": "clip the norm at 5 to 10 times its median, or lower the recurrent gain",
    "R9": "raise the threshold to 5 to 10 times the median norm, or lower the learning rate",
}


@dataclass(frozen=True)
class Verdict:
    """One rule's judgement.

    rule: a key of `RULES`.  level: one of `LEVELS`.  value: what was judged.  threshold: the one
    that decided.  ci: (low, high) or None.  evidence: the fact in words.  remedy: one line, empty
    where nothing is wrong.  subject: the run or layer it is about.  lag: where a lag gain was
    judged, else None.
    """

    rule: str
    level: str
    value: float
    threshold: float
    ci: tuple[float, float] | None
    evidence: str
    remedy: str
    subject: str = ""
    lag: int | None = None

    @property
    def title(self) -> str:
        """The rule with its name: 'R1 vanishing'."""
        return f"{self.rule} {RULES.get(self.rule, '')}".strip()


def vanishing(gain: LagGain, need_lag: int | None = None, subject: str = "") -> Verdict:
    """Judge R1: is enough of the gradient left at the lag that the task needs."""
    lag = needed_lag(gain, need_lag)
    value, ci, n = _at(gain, lag)
    if n and np.isnan(value):
        evidence = f"the lag gain is not finite from lag {_first_nonfinite(gain)} on: see R2"
        return Verdict("R1", "inconclusive", value, VANISHING_WARN, ci, evidence, "", subject, lag)
    level, threshold = _judge(
        -value, None if ci is None else (-ci[1], -ci[0]), (-VANISHING_WARN, -VANISHING_FAIL), n
    )
    evidence = _left(value, ci, lag) + _doubt(level, n, -threshold)
    remedy = _remedy("R1", level)
    return Verdict("R1", level, value, -threshold, ci, evidence, remedy, subject, lag)


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
        remedy = REMEDY["R2"]
        return Verdict("R2", "fail", value, EXPLODING_FAIL, ci, evidence, remedy, subject, lag)
    level, threshold = _judge(value, ci, (EXPLODING_WARN, EXPLODING_FAIL), n)
    evidence = f"{_left(value, ci, lag)}, at most {gain.peak:.2g} at any lag"
    evidence += _doubt(level, n, threshold)
    remedy = _remedy("R2", level)
    return Verdict("R2", level, value, threshold, ci, evidence, remedy, subject, lag)


def clipping(clip: Clipping, subject: str = "") -> Verdict:
    """Judge R9: is clipping a safety net, or does it set the step size.

    The fraction is counted over the window, not estimated, so it has no interval.
    """
    median = float(clip.percentiles[0])
    threshold = "" if clip.max_norm is None else f" at {clip.max_norm:g}"
    evidence = (
        f"{clip.value:.1%} of {clip.window} steps clipped{threshold}; norm before: "
        f"median {median:.2g}, P90 {clip.percentiles[1]:.2g}, P99 {clip.percentiles[2]:.2g}"
    )
    if clip.nonfinite_steps:
        evidence += f"; {clip.nonfinite_steps} step(s) not finite"
    if clip.window < MIN_SAMPLES:
        evidence += f"; {clip.window} steps are fewer than {MIN_SAMPLES}"
        return Verdict("R9", "inconclusive", clip.value, CLIPPED_WARN, None, evidence, "", subject)
    if clip.overall == 0:
        evidence += "; inert: it never fired"
        return Verdict("R9", "info", 0.0, 0.0, None, evidence, "", subject)
    level, limit = _judge(clip.value, None, (CLIPPED_WARN, CLIPPED_FAIL), clip.window)
    evidence += {"ok": "; a safety net", "fail": "; it limits the step size"}.get(level, "")
    return Verdict("R9", level, clip.value, limit, None, evidence, _remedy("R9", level), subject)


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


def selected(verdicts: Sequence[Verdict], fail_on: str) -> list[Verdict]:
    """Return the verdicts that `fail_on` objects to.

    fail_on: names separated by commas. "fail": any verdict that fails; "warn": that warns or
    fails; a rule such as "R1": that rule when it warns or fails.
    """
    names = [name.strip() for name in fail_on.split(",") if name.strip()]
    known = ("warn", "fail", *RULES)
    for name in names:
        if name not in known:
            raise ValueError(f"fail_on: {name!r} is none of {', '.join(known)}")
    if not names:
        raise ValueError(f"fail_on: names nothing; pass one or more of {', '.join(known)}")
    bad = [verdict for verdict in verdicts if verdict.level in ("warn", "fail")]
    return [v for v in bad if {"warn", v.level, v.rule} & set(names)]


def _at(gain: LagGain, lag: int) -> tuple[float, tuple[float, float] | None, int]:
    low, high = (float(end) for end in gain.ci[lag])
    ci = None if np.isnan(low) or np.isnan(high) else (low, high)
    return float(gain.value[lag]), ci, int(gain.n[lag])


def _judge(
    value: float, ci: tuple[float, float] | None, thresholds: tuple[float, float], n: int
) -> tuple[str, float]:
    """Level and deciding threshold of a value that is bad when it is large."""
    warn, fail = thresholds
    crossed = [limit for limit in (warn, fail) if ci is not None and ci[0] <= limit < ci[1]]
    if n < MIN_SAMPLES or crossed:
        return "inconclusive", crossed[0] if crossed else warn
    if value > fail:
        return "fail", fail
    return ("warn", warn) if value > warn else ("ok", warn)


def _left(value: float, ci: tuple[float, float] | None, lag: int) -> str:
    """Say how much of a gradient is left, with its interval."""
    if value == 0:
        return f"nothing of a gradient is left {lag} steps earlier"
    between = "" if ci is None else f" ({ci[0]:.2g} to {ci[1]:.2g})"
    return f"{value:.2g}{between} of a gradient is left {lag} steps earlier"


def _doubt(level: str, n: int, threshold: float) -> str:
    """Why a verdict is inconclusive."""
    if level != "inconclusive":
        return ""
    if n < MIN_SAMPLES:
        return f"; {n} samples at this lag, {MIN_SAMPLES} are needed: pass more sequences"
    return f"; the interval straddles {threshold:g}"


def _remedy(rule: str, level: str) -> str:
    return REMEDY[rule] if level in ("warn", "fail") else ""


def _first_nonfinite(gain: LagGain) -> int:
    return int(np.flatnonzero(~np.isfinite(gain.value) & (gain.n > 0))[0])
