"""Do the verdicts say what is so?  Counts over a zoo of networks whose truth is known.

python -m diagnostics.calibration > docs/calibration.md
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import minirnn
from diagnostics.rules import TABLE
from diagnostics.rules.verdict import MARGIN
from diagnostics.zoo import BAND, UNITS, Grid, Trial, calibrate

MARGINS = (0.0, 0.1, 0.3, BAND, 1.0, 2.0, np.inf)  # of the table by margin


@dataclass(frozen=True)
class Row:
    """Counts of one rule and batch size.

    trials: in all.  bad: whose truth is warn or fail.  found: of those that were said to be bad,
    and how bad.  alarms: of the others, said to be bad.  far, far_wrong: outside the band, and
    wrong there; near, near_wrong, near_open: inside it, wrong and inconclusive there.
    """

    rule: str
    batch: int
    trials: int
    bad: int
    found: int
    alarms: int
    far: int
    far_wrong: int
    far_open: int
    near: int
    near_wrong: int
    near_open: int


def table(trials: Sequence[Trial]) -> list[Row]:
    """Count the trials by rule and batch size."""
    keys = dict.fromkeys((t.rule, t.batch) for t in trials)
    return [_row(*key, [t for t in trials if (t.rule, t.batch) == key]) for key in keys]


def by_margin(trials: Sequence[Trial]) -> list[tuple[str, float, float, int, int, int]]:
    """Count verdicts by rule and margin: rule, from, to, and how many right, wrong, inconclusive.

    A margin is the truth's distance from the nearest threshold, above `from` and up to `to`.
    """
    found = []
    for rule in dict.fromkeys(t.rule for t in trials):
        for low, high in pairwise(MARGINS):
            # A truth on the threshold itself belongs to the first margin.
            inside = [t for t in trials if t.rule == rule and max(t.distance, 1e-300) <= high]
            inside = [t for t in inside if max(t.distance, 1e-300) > low]
            wrong = sum(t.wrong for t in inside)
            open_ = sum(t.level == "inconclusive" for t in inside)
            found.append((rule, low, high, len(inside) - wrong - open_, wrong, open_))
    return found


def markdown(trials: Sequence[Trial], grid: Grid, seed: int = 0) -> str:
    """Write the calibration as the document that belongs to it."""
    lines = [
        "# Calibration of the verdicts",
        "",
        "Made by `python -m diagnostics.calibration`; nobody types these numbers. "
        f"Networks with known truth around every threshold: {grid.networks} of each kind, "
        f"T = {grid.steps}, {UNITS} units, {len(grid.distances)} distances, seed {seed}, float64.",
        "",
        f"With minirnn {minirnn.__version__} and NumPy {np.__version__}: {len(trials)} verdicts.",
        "",
        "## By margin",
        "",
        "The margin is |ln truth - ln threshold|, which is |ln rho - ln threshold| L for a rate "
        f"over L steps. Beyond {BAND} no verdict may be wrong; within, a verdict is right or "
        "inconclusive. All batch sizes together; with one sequence R1 and R2 have too few samples.",
        "",
        *_table(
            ("rule", "margin", "right", "wrong", "inconclusive"),
            (
                (_titled(rule), _between(low, high), right, wrong, open_)
                for rule, low, high, right, wrong, open_ in by_margin(trials)
            ),
        ),
        "",
        "## By batch size",
        "",
        f"*Far*: margins above {BAND}. *Near*: below. *Bad found*: of the networks whose truth is "
        "warn or fail, those given just that verdict; the rest is inconclusive. A verdict asks "
        f"that a threshold lie outside {MARGIN} times the 95% interval.",
        "",
        *_table(
            (
                "rule", "B", "networks", "bad found", "false alarms", "far: wrong",
                "far: inconclusive", "near: wrong", "near: inconclusive",
            ),
            (
                (
                    _titled(r.rule), r.batch, r.trials, f"{r.found} of {r.bad}",
                    f"{r.alarms} of {r.trials - r.bad}", f"{r.far_wrong} of {r.far}",
                    f"{r.far_open} of {r.far}", f"{r.near_wrong} of {r.near}",
                    f"{r.near_open} of {r.near}",
                )
                for r in table(trials)
            ),
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _titled(rule: str) -> str:
    return f"{rule} {TABLE[rule].title}"


def _between(low: float, high: float) -> str:
    return f"above {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def _row(rule: str, batch: int, trials: Sequence[Trial]) -> Row:
    def count(chosen: Callable[[Trial], bool]) -> int:
        return sum(map(chosen, trials))

    def bad(level: str) -> bool:
        return level in ("warn", "fail")

    return Row(
        rule=rule,
        batch=batch,
        trials=len(trials),
        bad=count(lambda t: bad(t.truth)),
        found=count(lambda t: bad(t.truth) and t.level == t.truth),
        alarms=count(lambda t: not bad(t.truth) and bad(t.level)),
        far=count(lambda t: not t.near),
        far_wrong=count(lambda t: not t.near and t.wrong),
        far_open=count(lambda t: not t.near and t.level == "inconclusive"),
        near=count(lambda t: t.near),
        near_wrong=count(lambda t: t.near and t.wrong),
        near_open=count(lambda t: t.near and t.level == "inconclusive"),
    )


if __name__ == "__main__":
    sys.stdout.write(markdown(calibrate(), Grid()))
