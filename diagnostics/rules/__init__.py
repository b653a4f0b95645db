"""Verdicts: rules that judge a quantity against thresholds, apart from how it was measured.

Thresholds are relative (to the gradient at lag 0, to the number of steps), never absolute sizes:
scaling the loss changes no verdict.  `inconclusive` is a level of its own, for too few samples or
an interval that straddles a threshold.
"""

from diagnostics.rules.dynamics import contraction, lyapunov
from diagnostics.rules.flow import (
    bit_vanished,
    credit_assignment,
    exploding,
    needed_lag,
    not_finite,
    transient,
    vanishing,
)
from diagnostics.rules.gates import gate_slope, gate_stuck, memory
from diagnostics.rules.table import MIN_SAMPLES, RULES, TABLE, Rule
from diagnostics.rules.training import clip_direction, clip_order, clipping, update_ratio
from diagnostics.rules.trust import self_check, withdrawn
from diagnostics.rules.verdict import LEVELS, Verdict, judged_lags, selected, verdict_of

VANISHING_WARN, VANISHING_FAIL = TABLE["R1"].warn, TABLE["R1"].fail
EXPLODING_WARN, EXPLODING_FAIL = TABLE["R2"].warn, TABLE["R2"].fail
CLIPPED_WARN, CLIPPED_FAIL = TABLE["R9"].warn, TABLE["R9"].fail

__all__ = [
    "CLIPPED_FAIL",
    "CLIPPED_WARN",
    "EXPLODING_FAIL",
    "EXPLODING_WARN",
    "LEVELS",
    "MIN_SAMPLES",
    "RULES",
    "TABLE",
    "VANISHING_FAIL",
    "VANISHING_WARN",
    "Rule",
    "Verdict",
    "bit_vanished",
    "clip_direction",
    "clip_order",
    "clipping",
    "contraction",
    "credit_assignment",
    "exploding",
    "gate_slope",
    "gate_stuck",
    "judged_lags",
    "lyapunov",
    "memory",
    "needed_lag",
    "not_finite",
    "selected",
    "self_check",
    "transient",
    "update_ratio",
    "vanishing",
    "verdict_of",
    "withdrawn",
]
