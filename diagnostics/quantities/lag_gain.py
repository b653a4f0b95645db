"""Lag gain: what is left of a gradient after k steps back in time.

With a loss at every step the plain norm of dL/dh_t hides vanishing, because each step adds a
fresh local term.  Here one step s is asked alone: a unit cotangent is put on row s and carried
back, and G(k) is the norm that arrives at row s - k.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minirnn
from diagnostics.quantities.arguments import check_layer, whole_number
from diagnostics.quantities.base import UNSAVED, Cost, Quantity
from diagnostics.quantities.lags import (
    band_of_gains,
    gains_of,
    median_gain,
    range_over_sources,
    reach,
    resampled_gains,
    rows_by_sequence,
)
from diagnostics.quantities.statistics import Floats, interval, joint_norm, resamples
from diagnostics.quantities.watching import evaluating, record_of, sweep_flops


@dataclass(frozen=True, kw_only=True)
class LagGain(Quantity):
    """Lag gain.

    value: (K+1,), G(0) = 1 to G(K), NaN where no source reaches.  ci: (K+1, 2), bootstrap over
    sequences; of one sequence the range over its sources, NaN where not all of them reach.
    n: (K+1,), how many (source, sequence) pairs reached the lag.  band: (K+1, 2), the 10 and 90%
    quantiles over those pairs.  rows: (S,), the source rows; (S, B), with 0 for none, where
    sequences differ in length.  inject: the state that the cotangent is put on.  samples:
    (S, B, K+1), the single gains.  replicates: (R, K+1), the bootstrap's gains, None for one
    sequence.
    """

    n: NDArray[np.int64]
    band: Floats
    rows: NDArray[np.int64]
    inject: str
    dtype: str
    samples: Floats | None = field(default=None, metadata=UNSAVED)
    replicates: Floats | None = field(default=None, metadata=UNSAVED)

    @property
    def peak(self) -> float:
        """Largest gain at any lag: above 1 it is transient growth."""
        return float(np.nanmax(self.value))


def summarise(
    samples: Floats,
    rows: NDArray[np.int64],
    steps: int,
    *,
    inject: str,
    dtype: str,
    cost: Cost,
    seed: int = 0,
) -> LagGain:
    """Make a lag gain from the gains of single sources and sequences.

    samples: (S, B, K+1).  rows: (S, B), the row that each starts from, 0 for none.
    """
    count, max_lag = samples.shape[1], samples.shape[2] - 1
    reached = reach(rows, max_lag, steps)
    ci, replicates = np.full((max_lag + 1, 2), np.nan), None
    if count >= 2:
        replicates = resampled_gains(samples, reached, resamples(count, seed=seed))
        ci = interval(replicates)
    elif len(samples) >= 2:
        ci = range_over_sources(samples[:, 0], reached[:, 0])
    return LagGain(
        value=median_gain(samples, reached),
        ci=ci,
        how=(
            f"a random unit vector on state {inject} at each of {len(rows)} rows in the second "
            "half of a sequence, carried back through the recurrence alone; median over rows and "
            "sequences of the norm that arrives, all states together; interval: "
            + (
                "bootstrap over sequences"
                if count >= 2
                else "range over those rows, widened by its own ratio"
            )
        ),
        cost=cost,
        n=np.broadcast_to(reached, samples.shape).sum(axis=(0, 1)),
        band=band_of_gains(samples, reached),
        rows=rows[:, 0] if reached.shape[1] == 1 else rows,
        inject=inject,
        dtype=dtype,
        samples=samples,
        replicates=replicates,
    )


def lag_gain_of_record(
    record: Any,
    sources: int = 8,
    max_lag: int | None = None,
    inject: str | None = None,
    seed: int = 0,
    flops: int = 0,
) -> LagGain:
    """Measure the lag gain on a record of `minirnn.watch` (one level, one direction)."""
    states = record.states
    inject = next(iter(states)) if inject is None else inject
    if inject not in states:
        raise ValueError(
            f"lag_gain: inject must be a state of the cell, got {inject!r}; "
            f"the cell has {', '.join(states)}"
        )
    rows_held, batch, hidden = states[inject].shape
    steps = rows_held - 1
    max_lag = _checked_lag(max_lag, steps)
    sources = whole_number("lag_gain", "sources", sources, 1)
    if batch == 0:
        raise ValueError("lag_gain: x must hold at least one sequence, got a batch of 0")
    lengths = np.full(batch, steps) if record.lengths is None else np.asarray(record.lengths)
    rows = rows_by_sequence(lengths, sources)
    if not rows.any():
        raise ValueError("lag_gain: no sequence has a step; pass lengths above 0")
    dtype = states[inject].dtype
    directions = np.random.default_rng(seed).standard_normal((len(rows), batch, hidden))
    directions /= joint_norm([directions])[..., None]

    samples = np.empty((len(rows), batch, max_lag + 1))
    d_state = np.zeros((steps + 1, batch, hidden), dtype=dtype)
    for index, row in enumerate(rows):
        there = np.flatnonzero(row)
        d_state[row[there], there] = directions[index, there]
        swept = record.pullback(d_state={inject: d_state})
        samples[index] = gains_of(joint_norm(swept.carried_grads.values()), row, max_lag)
        d_state[row[there], there] = 0.0
    held = len(states) * d_state.nbytes
    cost = Cost(sweeps=1 + len(rows), flops=flops * (1 + len(rows)), bytes=held * len(rows))
    return summarise(samples, rows, steps, inject=inject, dtype=dtype.name, cost=cost, seed=seed)


def _checked_lag(max_lag: int | None, steps: int) -> int:
    if steps == 0:
        raise ValueError("lag_gain: x must have at least one step, got T = 0")
    if max_lag is None:
        return steps - 1
    max_lag = whole_number("lag_gain", "max_lag", max_lag)
    if max_lag > steps:
        raise ValueError(
            f"lag_gain: max_lag must lie in 0 to T = {steps}, got {max_lag}; "
            "pass a longer x to look further back"
        )
    return max_lag


def lag_gain(
    layer: Any,
    x: Any,
    sources: int = 8,
    max_lag: int | None = None,
    inject: str | None = None,
    level: int = -1,
    direction: int = 0,
    seed: int = 0,
    lengths: Any = None,
) -> LagGain:
    """Measure how much of a gradient is left after k steps back through a recurrent layer.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it: (T, B, I), batch_first (B, T, I), unbatched (T, I)
    sources : how many rows of the second half a cotangent starts from
    max_lag : largest lag, default T - 1; T counts the initial state as well
    inject : the state that the cotangent is put on, default the output state
    level, direction : which recurrence of a stacked or bidirectional layer
    seed : of the random unit vectors and of the bootstrap
    lengths : (B,), as the layer takes them

    Returns
    -------
    LagGain
        ``value`` (max_lag+1,), ``ci``, ``n``, ``band``
    """
    check_layer("lag_gain", layer, level, direction)
    with evaluating(layer), minirnn.watch(layer) as seen:
        layer(x, lengths=lengths)
    record = record_of(layer, seen, level, direction)
    flops = sweep_flops(layer, record, level, direction)
    return lag_gain_of_record(record, sources, max_lag, inject, seed, flops)
