"""A verdict, and how a number with its interval is held against two thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diagnostics.rules.table import MIN_SAMPLES, RULES, TABLE

# A 95% interval leaves 1 of 20 outside; 1.5 times its width leaves 1 of 300, and is asked.
MARGIN = 1.5
MORE = "pass more sequences"
# What there may be too few of: the word for one, and where more come from.
COUNTED = {
    "steps": ("step", "pass a longer x"),
    "steps of sequences": ("step of a sequence", "pass more or longer sequences"),
    "entries": ("entry", MORE),
}
LEVELS = ("ok", "info", "warn", "fail", "inconclusive")
Interval = tuple[float, float] | None


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


def verdict_of(
    name: str,
    value: float,
    ci: Any,
    n: int,
    evidence: str,
    subject: str = "",
    lag: int | None = None,
    samples: str = "samples",
) -> Verdict:
    """Hold a value with its interval against a rule's thresholds.

    name: a key of `TABLE`.  ci: two numbers or None.  n: how many samples it rests on, of which
    `samples` is the word, one of `COUNTED` or some "samples".  Fewer than 8, or an interval across
    a threshold: inconclusive.
    """
    rule = TABLE[name]
    interval = interval_of(ci)
    level, threshold = judged(name, value, interval, n)
    if level == "inconclusive":
        evidence += _doubt(value, n, threshold, samples)
    remedy = rule.remedy if level in ("warn", "fail") else ""
    return Verdict(name, level, value, threshold, interval, evidence, remedy, subject, lag)


def judged(name: str, value: float, ci: Interval, n: int) -> tuple[str, float]:
    """Return the level and the threshold that decided it."""
    rule = TABLE[name]
    limits = (rule.warn, rule.fail, *(rule.above or ()))
    crossed = [limit for limit in limits if ci is not None and _across(value, ci, limit)]
    if np.isnan(value) or n < MIN_SAMPLES or crossed:
        return "inconclusive", crossed[0] if crossed else rule.warn
    warn, fail = rule.above or (np.inf, np.inf)
    for level, limit, other in (("fail", rule.fail, fail), ("warn", rule.warn, warn)):
        if value < limit if rule.small_is_bad else value > limit:
            return level, limit
        if value > other:
            return level, other
    return "ok", rule.warn


def judged_lags(verdicts: Sequence[Verdict], subject: str | None = None) -> list[int]:
    """Return the lags that gradients were judged at, of one subject or of all, smallest first.

    Those of R1 and R2: other rules look at other lags, R3 at that of the peak.
    """
    return sorted(
        {
            v.lag
            for v in verdicts
            if v.rule in ("R1", "R2") and v.lag is not None and subject in (None, v.subject)
        }
    )


def interval_of(ci: Any) -> Interval:
    """Return an interval as a pair of floats; None where there is none."""
    if ci is None or np.isnan(np.asarray(ci, np.float64)).any():
        return None
    low, high = (float(end) for end in ci)
    return low, high


def _across(value: float, ci: tuple[float, float], limit: float) -> bool:
    """Whether a limit lies inside an interval with its margin.

    Both ends are moved away from the value by half of their distance, on the scale of ratios
    where all are positive; an interval of no length crosses nothing.
    """
    low, high = ci
    if not low < high:
        return False
    if 0 < low <= value <= high < np.inf:
        low, high = value * (low / value) ** MARGIN, value * (high / value) ** MARGIN
    elif np.isfinite([low, value, high]).all():
        low, high = value + MARGIN * (low - value), value + MARGIN * (high - value)
    return min(low, ci[0]) <= limit <= max(high, ci[1])


def _doubt(value: float, n: int, threshold: float, samples: str) -> str:
    """Why a verdict is inconclusive."""
    if n < MIN_SAMPLES:
        one, way_out = COUNTED.get(samples, (samples.replace("samples", "sample", 1), MORE))
        return f"; {n} {one if n == 1 else samples}, {MIN_SAMPLES} are needed: {way_out}"
    if np.isnan(value):
        return "; there is nothing to judge"
    return f"; the interval straddles {threshold:g}, or nearly so"


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
