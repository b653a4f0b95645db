"""The rules: what each judges, its thresholds, where they come from, and the way out.

Thresholds are relative (to the gradient at lag 0, to the number of steps, to the number of units),
never absolute sizes: scaling the loss changes no verdict.
"""

from dataclasses import dataclass

MIN_SAMPLES = 8


@dataclass(frozen=True)
class Rule:
    """One rule.

    title: a word or two.  judged: the number, in words.  warn, fail: its thresholds.  small_is_bad:
    whether it is bad below them.  above: a second pair, beyond which it is bad again.  fact:
    whether it is neither good nor bad, level info.  remedy: one line.  source: "anchor" where the
    numbers are taken from a tool or a paper, "proposed" where they are this project's own.
    """

    title: str
    judged: str
    warn: float
    fail: float
    remedy: str
    source: str
    small_is_bad: bool = False
    above: tuple[float, float] | None = None
    fact: bool = False


TABLE = {
    "R1": Rule(
        "vanishing",
        "what is left of a gradient at the lag that the task needs (the lag gain)",
        1e-3,
        1e-6,
        "a gated cell, a larger forget bias, an orthogonal or identity initialisation, "
        "or a task that needs fewer steps",
        "anchor: the ratio 1e-3 of AUTOTRAINER; 1e-6 is about 10 eps of float32",
        small_is_bad=True,
    ),
    "R2": Rule(
        "exploding",
        "what a gradient has grown to at the lag that the task needs (the lag gain)",
        1e3,
        1e6,
        "clip the norm at 5 to 10 times its median, or lower the recurrent gain",
        "proposed: as R1, the other way",
    ),
    "R3": Rule(
        "transient",
        "the lag gain's peak over rho to the power of its lag",
        10.0,
        1e3,
        "orthogonal or normal recurrent weights; the peak is what clipping has to catch",
        "proposed: growth of a non-normal matrix",
    ),
    "R4": Rule(
        "contraction",
        "the largest singular value of any step Jacobian",
        1.0,
        1.0,
        "see R1",
        "anchor: the sufficient condition of Pascanu et al. 2013",
        small_is_bad=True,
        fact=True,
    ),
    "R5": Rule(
        "Lyapunov",
        "the first Lyapunov exponent times the lag that the task needs, absolute value",
        6.9,
        13.8,
        "bring the recurrent gain towards 1: orthogonal weights, gates, or gradient flossing",
        "proposed: ln 1e3 and ln 1e6, as R1 and R2",
    ),
    "R6": Rule(
        "gate slope",
        "fraction of a gate's units whose mean derivative is below 0.05 (sigmoid) or 0.2 (tanh)",
        0.2,
        0.5,
        "scale the input down, or move the gate's bias towards 0",
        "anchor: the units' limits are Kaldi nnet3's; the fractions are proposed",
    ),
    "R7": Rule(
        "gate stuck",
        "fraction of a gate's units at one end of their range for 95% of the time",
        0.1,
        0.3,
        "scale the input down, or move the gate's bias towards 0",
        "anchor: 0.1 and 0.9 of Karpathy et al. 2015; the fractions are proposed",
    ),
    "R8": Rule(
        "memory",
        "the units' 95th percentile timescale over the lag that the task needs",
        1 / 3,
        0.1,
        "chrono initialisation, or a larger forget bias",
        "proposed: the reasoning of chrono initialisation",
        small_is_bad=True,
    ),
    "R9": Rule(
        "clipping",
        "fraction of steps clipped",
        0.1,
        0.5,
        "raise the threshold to 5 to 10 times the median norm, or lower the learning rate",
        "anchor: what users of clipping ask for; fractions proposed",
    ),
    "R10": Rule(
        "clip direction",
        "cosine between the gradient before and after clipping",
        0.99,
        0.9,
        "clip the norm of all gradients together: it keeps the direction",
        "proposed",
        small_is_bad=True,
    ),
    "R11": Rule(
        "clip order",
        "parameters that had changed before the call that clips",
        0.0,
        0.0,
        "clip between backward() and the optimizer's step",
        "anchor: a bug that shipped (graphstorm 1366)",
    ),
    "R12": Rule(
        "bit-vanished",
        "fraction of rows in which more than half of delta is zero or subnormal",
        0.0,
        0.5,
        "scale the loss by a power of two, use float64, or shorten the sequence; it does not "
        "bring back what R1 calls vanished",
        "proposed",
    ),
    "R13": Rule(
        "update ratio",
        "norm of an update over the norm of its parameter, the parameter farthest outside",
        1e-4,
        1e-6,
        "change the learning rate by the factor that is missing to 1e-3",
        "anchor: the rule of thumb of CS231n, 1e-3",
        small_is_bad=True,
        above=(1e-2, 1e-1),
    ),
    "R14": Rule(
        "credit",
        "the smaller of coherence over 0.05 and the last part of the steps with 90% of the "
        "credit over 0.1",
        1.0,
        0.0,
        "see R1 and R8: early steps teach nothing; or average over more sequences",
        "proposed",
        small_is_bad=True,
    ),
    "R15": Rule(
        "self-check",
        "the largest residual of the report's own checks over its tolerance",
        1.0,
        1.0,
        "do not trust this report; run `python -m diagnostics check` and report a bug",
        "anchor: identities that are exact up to rounding",
    ),
}
RULES = {name: rule.title for name, rule in TABLE.items()}
