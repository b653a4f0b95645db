"""What a calibration tries, and what one trial of it is."""

from dataclasses import dataclass

import numpy as np

from diagnostics.rules import TABLE, Verdict
from diagnostics.rules.table import MIN_SAMPLES
from diagnostics.rules.verdict import judged

BAND = 0.7  # |ln rho - ln threshold| L below this is too close to call
UNITS, INPUTS = 12, 3
DISTANCES = (-2.0, -1.0, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1.0, 2.0)
ALL = 256  # sequences that the truth is taken from where no formula gives it


@dataclass(frozen=True)
class Grid:
    """What is tried: steps T, batches B, distances from each threshold, networks of each kind."""

    steps: int = 60
    batches: tuple[int, ...] = (1, 8, 32)
    distances: tuple[float, ...] = DISTANCES
    networks: int = 10

    @property
    def lag(self) -> int:
        """The lag that gradients are judged at."""
        return self.steps - 1


FULL = Grid()
FAST = Grid(steps=40, batches=(1, 8), distances=(-1.0, -0.3, 0.3, 1.0), networks=2)


@dataclass(frozen=True)
class Trial:
    """One verdict on one network.

    distance: of the truth from the nearest threshold, |ln truth - ln threshold|.
    """

    rule: str
    batch: int
    distance: float
    truth: str
    level: str

    @property
    def near(self) -> bool:
        """Whether the truth lies in the band that is too close to call."""
        return self.distance <= BAND

    @property
    def wrong(self) -> bool:
        """Whether a verdict was given that is not so."""
        return self.level not in (self.truth, "inconclusive")


def trial_of(name: str, batch: int, truth: float, verdict: Verdict) -> Trial:
    """Hold a verdict against the truth, which is a number as the rule judges it."""
    rule = TABLE[name]
    # R12 warns from 0 on: nothing but 0 itself is near to that.
    limits = np.array([limit for limit in (rule.warn, rule.fail) if limit])
    with np.errstate(divide="ignore"):  # nothing at all is infinitely far
        # R5 judges a logarithm already; the others are compared as logarithms.
        apart = truth - limits if name == "R5" else np.log(truth) - np.log(limits)
    level = judged(name, truth, None, MIN_SAMPLES)[0]
    return Trial(name, batch, float(np.abs(apart).min()), level, verdict.level)
