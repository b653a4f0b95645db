"""One closed form: what was found, what is true, and how far apart they may be."""

from dataclasses import dataclass
from typing import Any

import numpy as np

ROUNDED = "rounding, grown over the steps"


@dataclass(frozen=True)
class Outcome:
    """One closed form.

    name: what it is.  found, truth: arrays of one shape, or words.  tolerance: relative to the
    truth, and absolute where the truth is 0; reason: why it is not 0.  row: of the tables of
    closed forms that it belongs to.
    """

    name: str
    found: Any
    truth: Any
    tolerance: float
    reason: str
    row: str = ""

    @property
    def error(self) -> float:
        """Largest deviation, relative where the truth is not 0; of words 0 or infinity."""
        if isinstance(self.truth, str):
            return 0.0 if self.found == self.truth else float("inf")
        found, truth = np.asarray(self.found, np.float64), np.asarray(self.truth, np.float64)
        same = (found == truth) | (np.isnan(found) & np.isnan(truth))
        with np.errstate(invalid="ignore"):
            rest = np.where(same, 0.0, np.abs(found - truth))
        return float(np.max(rest / np.where(truth == 0, 1.0, np.abs(truth)), initial=0.0))

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return bool(self.error <= self.tolerance)


def word(name: str, found: str, truth: str) -> Outcome:
    """Make the closed form of a verdict's level."""
    return Outcome(name, found, truth, 0.0, "exact")
