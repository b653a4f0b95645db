"""Which loss speaks to which step: the gradient of every single source at every row.

The total gradient is the sum over sources; one source alone is what the lag gain averages.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.arguments import whole_number
from diagnostics.quantities.base import UNSAVED, Cost, Quantity
from diagnostics.quantities.local_gradients import Arrays, local_of_layer
from diagnostics.quantities.statistics import Floats, joint_norm, medians
from diagnostics.quantities.watching import sweep_flops


@dataclass(frozen=True, kw_only=True)
class InfluenceMap(Quantity):
    """Gradient of S sources at T+1 rows.

    value: (S, T+1), median over sequences of the norm of d l_s / d s_t, all states together; 0
    for rows after the source.  sources: (S,), their rows.  gain: (T+1,), by lag the norm over that
    at the source itself, median over sources and sequences, NaN where there is none: the lag gain
    of the loss's own gradients.  summed[k]: (T+1, B, H), the sum over the sources, which is the
    total gradient where every row with a loss is a source.
    """

    sources: NDArray[np.int64]
    gain: Floats
    summed: Arrays = field(default_factory=dict, metadata=UNSAVED)


def influence_map(
    layer: Any,
    x: Any,
    d_output: Any,
    sources: int | None = None,
    direction: int = 0,
    level: int = -1,
    lengths: Any = None,
) -> InfluenceMap:
    """Measure how the loss of single steps reaches the rows of one level of a layer.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of the output's shape
    sources : how many rows, spread over those with a loss; None: all of them, one sweep each
    direction : 0 forward, 1 reverse
    level : of a stacked layer, by default the top one
    lengths : (B,), as the layer takes them
    """
    record, local = local_of_layer("influence_map", layer, x, d_output, direction, level, lengths)
    flops = sweep_flops(layer, record, level, direction)
    return influence_of_record(record, local, sources, flops)


def influence_of_record(
    record: Any, local: Arrays, sources: int | None = None, flops: int = 0
) -> InfluenceMap:
    """Carry the local gradient of each row back through a record, one row at a time."""
    if sources is not None:
        sources = whole_number("influence_map", "sources", sources, 1)
    rows = np.flatnonzero(np.any([a.any(axis=(1, 2)) for a in local.values()], axis=0))
    if sources is not None and sources < len(rows):
        rows = rows[np.unique(np.round(np.linspace(0, len(rows) - 1, sources)).astype(int))]
    steps, batch = next(iter(local.values())).shape[0] - 1, next(iter(local.values())).shape[1]
    norms = np.zeros((len(rows), steps + 1, batch))
    summed: Arrays = {k: np.zeros(a.shape, np.float64) for k, a in local.items()}
    alone = {k: np.zeros_like(a) for k, a in local.items()}
    for i, row in enumerate(rows):
        for k, a in local.items():
            alone[k][row] = a[row]
        swept = record.pullback(d_state=alone).carried_grads
        norms[i] = joint_norm(swept.values())
        for k in summed:
            summed[k] += swept[k]
            alone[k][row] = 0
    speaks = np.array([norms[i, row] > 0 for i, row in enumerate(rows)]).reshape(len(rows), batch)
    return InfluenceMap(
        value=np.stack([medians(n.T[spoken].T, None)[0] if spoken.any() else np.zeros(steps + 1)
                        for n, spoken in zip(norms, speaks, strict=True)])
        if len(rows) else np.zeros((0, steps + 1)),
        how=(
            "one backward pass per source row, from the loss of that row alone; norm per sequence "
            "over all states, then the median over the sequences that have a loss there"
        ),
        cost=Cost(sweeps=1 + len(rows), flops=flops * (1 + len(rows)), bytes=norms.nbytes),
        sources=rows,
        gain=_gain_by_lag(norms, rows, speaks),
        summed=summed,
    )  # fmt: skip


def _gain_by_lag(norms: Floats, rows: NDArray[np.int64], speaks: Any) -> Floats:
    """Return the median over sources and sequences by lag.  norms: (S, T+1, B)."""
    found: list[list[Floats]] = [[] for _ in range(norms.shape[1])]
    for i, row in enumerate(rows):
        for t in range(row + 1 if speaks[i].any() else 0):
            found[row - t].append(norms[i, t, speaks[i]] / norms[i, row, speaks[i]])
    return np.array([np.median(np.concatenate(v)) if v else np.nan for v in found])
