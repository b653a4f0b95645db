"""Rules on the recurrence as a dynamical system: R4 contraction, R5 Lyapunov."""

import numpy as np

from diagnostics.quantities.lyapunov import LyapunovSpectrum
from diagnostics.quantities.singular_values import SingularValues
from diagnostics.rules.table import MIN_SAMPLES, TABLE
from diagnostics.rules.verdict import Interval, Verdict, interval_of, verdict_of


def contraction(values: SingularValues, subject: str = "") -> Verdict:
    """Judge R4: is it proved that gradients shrink at every step that was looked at.

    A fact, never an illness by itself: R1 says whether too little is left.
    """
    limit, largest = TABLE["R4"].warn, values.largest
    if values.n < MIN_SAMPLES or not np.isfinite(largest):
        few = ""
        if values.n < MIN_SAMPLES:
            counted = f"{values.n} Jacobian" + "s" * (values.n != 1)
            few = f"; {counted}, {MIN_SAMPLES} are needed: pass more or longer sequences"
        evidence = f"the largest singular value of a step's Jacobian is {largest:.3g}{few}"
        return Verdict("R4", "inconclusive", largest, limit, None, evidence, "", subject)
    if largest < limit:
        looked = f"no singular value of {values.n} Jacobians is above {largest:.3g}"
        evidence = f"the gradient contracts at every step: {looked}"
        if values.n < values.count:
            evidence = (
                f"the gradient contracts at every step that was looked at: {looked}; there are "
                f"{values.count}"
            )
        return Verdict("R4", "info", largest, limit, None, evidence, "", subject)
    evidence = f"singular values reach {largest:.3g}: nothing is proved"
    return Verdict("R4", "ok", largest, limit, None, evidence, "", subject)


def lyapunov(spectrum: LyapunovSpectrum, lag: int, subject: str = "") -> Verdict:
    """Judge R5: does the first exponent, over the lag that the task needs, leave the range."""
    first = float(spectrum.value[0])
    ci = interval_of(None if spectrum.ci is None else spectrum.ci[0])
    value = abs(first) * lag if lag else 0.0
    evidence = (
        f"first exponent {first:.3g} per step, over {lag} steps a factor of {_factor(first, lag)}"
    )
    if ci is not None and ci[0] > 0:
        evidence += "; chaos: the interval of the exponent lies above 0"
    scaled = None if ci is None else _absolute(ci, lag)
    # Three blocks that agree by chance make a narrow interval: the calibration found one wrong.
    n, words = spectrum.steps, "steps"
    if spectrum.blocks is not None:
        n, words = min(n, spectrum.blocks), "blocks of steps"
    return verdict_of("R5", value, scaled, n, evidence, subject, lag, words)


def _absolute(ci: tuple[float, float], lag: int) -> Interval:
    """Interval of |lambda| L from that of lambda."""
    ends = sorted(abs(end) * lag if lag else 0.0 for end in ci)
    low = 0.0 if ci[0] < 0 < ci[1] else ends[0]
    return low, ends[1]


def _factor(first: float, lag: int) -> str:
    if np.isnan(first):
        return "nan"
    power = first * lag / np.log(10) if lag else 0.0
    return f"{10**power:.2g}" if abs(power) < 300 else f"1e{power:+.0f}"
