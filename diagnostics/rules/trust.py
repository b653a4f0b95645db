"""R15: can a report be trusted; and what happens to its verdicts if not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diagnostics.quantities.self_checks import SelfChecks
from diagnostics.rules.table import MIN_SAMPLES, TABLE
from diagnostics.rules.verdict import Verdict, verdict_of

WITHDRAWN = "withdrawn: a self-check failed (R15); it said: "


def self_check(checks: SelfChecks, subject: str = "") -> Verdict:
    """Judge R15: does every identity of the report hold up to rounding."""
    worst = checks.worst
    evidence = f"{len(checks.residuals)} identities hold up to rounding"
    if not checks.value <= TABLE["R15"].warn:
        evidence = (
            f"{worst}: residual {checks.residuals[worst]:.2g}, "
            f"allowed {checks.tolerances[worst]:.2g}"
        )
    if not checks.residuals:
        evidence = "no identity could be checked"
    elif np.isnan(checks.value):
        # Numbers that are not finite obey no identity; R2 and R12 say where they come from.
        evidence = f"{worst} is not a number: the gradients are not finite"
    return verdict_of("R15", checks.value, None, MIN_SAMPLES, evidence, subject)


def withdrawn(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Withdraw every other verdict on a layer whose self-check failed.

    A layer's levels and directions are subjects of their own, named after it.
    """
    broken = [v.subject for v in verdicts if v.rule == "R15" and v.level == "fail"]
    return [
        replace(v, level="inconclusive", evidence=WITHDRAWN + v.evidence, remedy="")
        if v.rule != "R15" and any(f"{v.subject}, ".startswith(f"{name}, ") for name in broken)
        else v
        for v in verdicts
    ]
