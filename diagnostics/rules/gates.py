"""Rules on the gates: R6 slope, R7 stuck, R8 memory."""

import numpy as np

from diagnostics.quantities.gate_statistics import GateStatistics
from diagnostics.quantities.timescales import MemoryTimescales
from diagnostics.rules.table import TABLE
from diagnostics.rules.verdict import Verdict, interval_of, verdict_of


def gate_slope(gates: GateStatistics, subject: str = "") -> Verdict:
    """Judge R6: do too many units of a gate pass on too little of a gradient."""
    if not gates.poor:
        return _without("R6", "the cell has no sigmoid and no tanh gate", subject)
    k = gates.worst_slope
    evidence = (
        f"gate {k} ({gates.activations[k]}): the mean derivative of {gates.value:.0%} of the "
        "units is too small"
    )
    if np.isnan(gates.value):
        evidence = f"gate {k} is not finite: see R2"
    samples = "steps of sequences"
    return verdict_of("R6", gates.value, gates.ci, gates.n, evidence, subject, samples=samples)


def gate_stuck(gates: GateStatistics, subject: str = "") -> Verdict:
    """Judge R7: do units of a gate stay at one end; a gate that holds its memory is no illness."""
    if not gates.at_end:
        return _without("R7", "the cell has no gate with an end to be stuck at", subject)
    k = gates.worst_end
    evidence = f"gate {k} ({gates.activations[k]}): {gates.stuck:.0%} of the units stay at one end"
    if np.isnan(gates.stuck):
        evidence = f"gate {k} is not finite: see R2"
    held = {gate: part for gate, part in gates.remembering.items() if part > 0}
    for gate, part in held.items():
        evidence += f"; gate {gate} holds the memory of {part:.0%} of the units all the time"
    samples = "steps of sequences"
    found = verdict_of(
        "R7", gates.stuck, gates.stuck_ci, gates.n, evidence, subject, samples=samples
    )
    if found.level == "ok" and max(held.values(), default=0.0) >= TABLE["R7"].warn:
        return Verdict("R7", "info", found.value, found.threshold, found.ci, evidence, "", subject)
    return found


def memory(scales: MemoryTimescales, lag: int, subject: str = "") -> Verdict:
    """Judge R8: can the slowest units remember for as long as the task needs."""
    if not scales.tau:
        return _without(
            "R8", "no unit keeps its state by itself: what is remembered, R1 tells", subject
        )
    value = scales.value / lag if lag else float("inf")
    ci = interval_of(scales.ci)
    if ci is not None:
        ci = (ci[0] / lag, ci[1] / lag) if lag else None
    steps = "endless" if np.isinf(scales.value) else f"{scales.value:.3g} steps"
    evidence = f"95th percentile of the units' timescales: {steps}; the task needs {lag}"
    if np.isnan(scales.value):
        evidence = "what the units keep is not finite: see R2"
    samples = "steps of sequences"
    return verdict_of("R8", value, ci, scales.n, evidence, subject, lag, samples)


def _without(rule: str, evidence: str, subject: str) -> Verdict:
    threshold = TABLE[rule].warn
    return Verdict(rule, "info", 0.0, threshold, None, evidence, "", subject)
