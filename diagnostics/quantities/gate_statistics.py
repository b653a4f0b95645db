"""How far the gates of a cell are driven into saturation: by value, and by derivative.

By value: how often a unit is below 0.1 or above 0.9 (Karpathy, Johnson and Li 2015). By
derivative: the mean slope of a unit, with Kaldi's limits of 0.05 for a sigmoid (which has at most
0.25) and 0.2 for a tanh (at most 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.arguments import check_layer
from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.gate_sums import sums_of_gate
from diagnostics.quantities.kept_share import KeptShare, kept_share
from diagnostics.quantities.statistics import Floats, interval, resamples
from diagnostics.quantities.watching import evaluating, record_of, sweep_flops

LEAST_SLOPE = {"sigmoid": 0.05, "tanh": 0.2}  # Kaldi nnet3's limits of the mean derivative
STUCK = 0.95  # share of the time that a unit spends at one end
REPLICATES = 200


@dataclass(frozen=True, kw_only=True)
class GateStatistics(Quantity):
    """Saturation of the gates of one level and direction.

    value: the largest fraction, over gates, of units whose mean derivative is too small; ci: (2,).
    stuck: the largest fraction of units at one end for 95% of the time; stuck_ci: (2,).  Units
    that keep their state because a keeper gate stays there are not counted, but in remembering.
    By gate: activations; left[k], right[k], mean[k], slope[k] (H,), fractions of time at the
    ends, mean value and mean derivative of each unit; poor[k], at_end[k], fractions of units;
    remembering[k], fraction of units that a keeper gate holds.  worst_slope, worst_end: the gates
    that value and stuck are about.  A gate with a unit whose mean is not finite has NaN there, and
    is the worst.  n: steps of sequences that were counted.
    """

    stuck: float
    stuck_ci: Floats | None
    activations: dict[str, str]
    left: dict[str, Floats]
    right: dict[str, Floats]
    mean: dict[str, Floats]
    slope: dict[str, Floats]
    poor: dict[str, float]
    at_end: dict[str, float]
    remembering: dict[str, float]
    worst_slope: str
    worst_end: str
    n: int


def gate_statistics(
    layer: Any, x: Any, level: int = -1, direction: int = 0, lengths: Any = None
) -> GateStatistics:
    """Measure how saturated the gates of a recurrent layer are.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them; padded steps are not counted
    """
    check_layer("gate_statistics", layer, level, direction)
    with evaluating(layer), minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x, lengths=lengths)
    record = record_of(layer, seen, level, direction)
    share = kept_share(layer, seen, level, direction)
    return statistics_of_record(record, share, sweep_flops(layer, record, level, direction))


def statistics_of_record(record: Any, share: KeptShare, flops: int = 0) -> GateStatistics:
    """Measure saturation on a record of `minirnn.watch` (one level, one direction)."""
    structure, keepers = share.structure, share.structure.keepers
    activations = {k: structure.activations[k] for k in structure.gates}
    sums = {k: sums_of_gate(record.gates[k], name, share.piece, len(share.steps))
            for k, name in activations.items()}  # fmt: skip
    total = max(1, int(share.steps.sum()))
    means = {k: found.sum(axis=1) / total for k, found in sums.items()}  # (4, H)
    poor, at_end = _fractions(means, activations, keepers)
    worst_slope, worst_end = (max(by, key=_badness(by), default="") for by in (poor, at_end))
    value, stuck = poor.get(worst_slope, float("nan")), at_end.get(worst_end, float("nan"))
    return GateStatistics(
        value=value,
        **_intervals({"ci": value, "stuck_ci": stuck}, sums, share.steps, activations, keepers),
        how=(
            "activations of one forward pass, every step of every sequence; a unit's derivative "
            "is a (1 - a) for a sigmoid, 1 - a^2 for a tanh; interval: bootstrap over sequences, "
            "where there are few over pieces of them, and its mirror image"
        ),
        cost=Cost(sweeps=1, flops=flops, bytes=sum(record.gates[k].nbytes for k in activations)),
        stuck=stuck,
        activations=activations,
        left={k: m[0] for k, m in means.items()},
        right={k: m[1] for k, m in means.items()},
        mean={k: m[2] for k, m in means.items()},
        slope={k: m[3] for k, m in means.items()},
        poor=poor,
        at_end=at_end,
        remembering={k: float(np.mean(_holds(means[k], end))) for k, end in keepers.items()},
        worst_slope=worst_slope,
        worst_end=worst_end,
        n=int(share.steps.sum()),
    )


def _badness(by: dict[str, Any]) -> Callable[[str], float]:
    """Return the key that ranks gates by their fraction; NaN is the worst."""
    return lambda k: np.inf if np.isnan(by[k]) else float(by[k])


def _holds(means: Floats, end: str) -> Any:
    """Which units a keeper gate holds for nearly all of the time.  means: (4, ..., H)."""
    return means[1 if end == "open" else 0] >= STUCK


def _fractions(
    means: dict[str, Floats], activations: dict[str, str], keepers: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fractions of units with too small a slope, and at one end.  means[k]: (4, ..., H)."""
    poor, at_end = {}, {}
    for k, m in means.items():
        known = np.where(np.isfinite(m[2:]).all(axis=(0, -1)), 1.0, np.nan)
        held = _holds(m, keepers[k]) if k in keepers else np.zeros(m.shape[1:], bool)
        if activations[k] in LEAST_SLOPE:
            low = (m[3] < LEAST_SLOPE[activations[k]]) & ~held
            poor[k] = low.mean(axis=-1) * known
        at_end[k] = ((np.maximum(m[0], m[1]) >= STUCK) & ~held).mean(axis=-1) * known
    if means and next(iter(means.values())).ndim == 2:
        poor, at_end = ({k: float(v) for k, v in by.items()} for by in (poor, at_end))
    return poor, at_end


def _intervals(
    values: dict[str, float],
    sums: dict[str, Floats],
    steps: Any,
    activations: dict[str, str],
    keepers: dict[str, str],
) -> dict[str, Any]:
    """Intervals of the two largest fractions, bootstrap over the pieces of the batch."""
    there = steps > 0
    if there.sum() < 2 or not sums:
        return {"ci": None, "stuck_ci": None}
    steps, sums = steps[there], {k: found[:, there] for k, found in sums.items()}
    picks = resamples(len(steps), REPLICATES)
    total = np.maximum(1, steps[picks].sum(axis=1))[:, None]
    means = {k: found[:, picks].sum(axis=2) / total for k, found in sums.items()}  # (4, R, H)
    poor, at_end = _fractions(means, activations, keepers)
    found = {}
    for name, by in (("ci", poor), ("stuck_ci", at_end)):
        found[name] = _mirrored(values[name], np.max(list(by.values()), axis=0)) if by else None
    return found


def _mirrored(value: float, replicates: Floats) -> Floats:
    """95% interval of a fraction of units, with its mirror image about the value.

    Units close to a limit cross it by chance, and where most lie on one side more cross from
    there: the fraction is off to one side, and replicates of it are once more.
    """
    low, high = interval(replicates)
    return np.clip([min(low, 2 * value - high), max(high, 2 * value - low)], 0.0, 1.0)
