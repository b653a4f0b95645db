"""Rules on training steps: R9 clipping, R10 its direction, R11 its order, R13 update ratio."""

from collections.abc import Sequence

import numpy as np

from diagnostics.quantities.clip_effect import ClipDirection, GraphClipping
from diagnostics.quantities.clipping import Clipping
from diagnostics.quantities.update_ratio import UpdateRatio, worst_ratio
from diagnostics.rules.table import MIN_SAMPLES, TABLE
from diagnostics.rules.verdict import Verdict, verdict_of


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
        counted = f"{clip.window} steps are" if clip.window != 1 else "1 step is"
        evidence += f"; {counted} fewer than {MIN_SAMPLES}"
        warn = TABLE["R9"].warn
        return Verdict("R9", "inconclusive", clip.value, warn, None, evidence, "", subject)
    if clip.overall == 0:
        evidence += "; inert: it never fired"
        return Verdict("R9", "info", 0.0, 0.0, None, evidence, "", subject)
    found = verdict_of("R9", clip.value, None, clip.window, evidence, subject)
    meaning = {"ok": "; a safety net", "fail": "; it limits the step size"}.get(found.level, "")
    return Verdict(
        "R9", found.level, clip.value, found.threshold, None, evidence + meaning, found.remedy,
        subject,
    )  # fmt: skip


def clip_direction(clip: ClipDirection | GraphClipping, subject: str = "") -> Verdict:
    """Judge R10: does clipping turn the gradient.  A norm clip must not, up to rounding."""
    what = "clipped inside the graph" if isinstance(clip, GraphClipping) else "clipped"
    evidence = f"cosine between the gradient before and after being {what}: {clip.value:.4f}"
    # One number of one step, computed and not estimated.
    return verdict_of("R10", clip.value, None, MIN_SAMPLES, evidence, subject)


def clip_order(changed: Sequence[str], subject: str = "") -> Verdict:
    """Judge R11: had parameters changed between backward and the call that clips.

    changed: names of parameters that were not what they were after the backward pass.
    """
    shown = ", ".join(list(changed)[:3]) + (" ..." if len(changed) > 3 else "")
    evidence = "no parameter had changed before gradients were clipped"
    if changed:
        evidence = (
            f"{len(changed)} parameter(s) had changed before gradients were clipped ({shown}): "
            "what was clipped had already been used"
        )
    return verdict_of("R11", float(len(changed)), None, MIN_SAMPLES, evidence, subject)


def update_ratio(ratio: UpdateRatio, subject: str = "") -> Verdict:
    """Judge R13: is the step of any parameter far too small or far too large for it."""
    rule = TABLE["R13"]
    low, high = rule.warn, (rule.above or (1.0,))[0]
    name, value = worst_ratio(ratio, low, high)
    evidence = f"{name} moves by {value:.2g} of its norm; usual are {low:g} to {high:g}"
    if np.isinf(value):
        evidence = f"{name} moves by a step that is not finite: see R2"
    return verdict_of("R13", value, None, MIN_SAMPLES, evidence, subject)
