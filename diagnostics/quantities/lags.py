"""Where the lag gain's sources sit and which lags they reach: index arithmetic, medians over it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.statistics import Floats

Rows = NDArray[np.int64]
Reached = NDArray[np.bool_]

_ENTRIES = 2**20  # of resampled gains held at a time


def source_rows(steps: int, sources: int) -> Rows:
    """Rows that sources sit on: evenly spread over the second half of the rows 1 to steps."""
    first = steps - (steps + 1) // 2 + 1
    return np.unique(np.round(np.linspace(first, steps, sources))).astype(np.int64)


def rows_by_sequence(lengths: Rows, sources: int) -> Rows:
    """Lay out the source rows of every sequence.  lengths: (B,).  Returns (S, B).

    0 stands for no source: a short sequence has fewer of them, one of length 0 none.
    """
    columns = [source_rows(int(n), sources) if n else np.zeros(0, np.int64) for n in lengths]
    rows = np.zeros((max((len(column) for column in columns), default=0), len(columns)), np.int64)
    for b, column in enumerate(columns):
        rows[: len(column), b] = column
    return rows


def reach(rows: Rows, max_lag: int, steps: int) -> Reached:
    """Which source reaches which lag.  rows: (S, B).  Returns (S, B, max_lag+1).

    Row 0 holds the initial state, which no step computed; it counts only where max_lag = T asks
    for the whole way.  Where all sequences are alike, B is 1 in the result.
    """
    if (rows == rows[:, :1]).all():
        rows = rows[:, :1]
    first_row = 0 if max_lag == steps else 1
    far_enough = rows[..., None] - np.arange(max_lag + 1) >= first_row
    return np.asarray(far_enough & (rows > 0)[..., None])


def gains_of(norms: Floats, rows: Rows, max_lag: int) -> Floats:
    """Gains of one sweep.  norms: (T+1, B), ||delta_t||.  rows: (B,).  Returns (B, max_lag+1).

    Lags beyond row 0 repeat its value; `reach` says which entries count.
    """
    sequences = np.arange(len(rows))
    back = np.maximum(rows[:, None] - np.arange(max_lag + 1), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(norms[back, sequences[:, None]] / norms[rows, sequences][:, None])


def over_pairs(
    samples: Floats,
    reached: Reached,
    reduce: Callable[[Floats], Floats],
    shape: tuple[int, ...] = (),
) -> Floats:
    """Reduce the (source, sequence) pairs that reach a lag, lag by lag.

    samples: (S, B, K+1).  reached: (S, B or 1, K+1).  reduce: (lags, pairs) to (lags, *shape).
    Returns (K+1, *shape), NaN where no pair reaches.  Lags with the same pairs go together.
    """
    result = np.full((samples.shape[-1], *shape), np.nan)
    patterns, group = np.unique(reached.reshape(-1, reached.shape[-1]), axis=1, return_inverse=True)
    for index, pattern in enumerate(patterns.T):
        if pattern.any():
            lags = np.flatnonzero(group == index)
            pairs = np.broadcast_to(pattern.reshape(reached.shape[:2]), samples.shape[:2])
            result[lags] = reduce(samples[pairs][:, lags].T)
    return result


def median_gain(samples: Floats, reached: Reached) -> Floats:
    """Median over the pairs that reach a lag.  Returns (K+1,)."""
    return over_pairs(samples, reached, lambda pairs: np.median(pairs, axis=-1))


def resampled_gains(samples: Floats, reached: Reached, picks: Rows) -> Floats:
    """Median gains of bootstrap replicates.

    samples: (S, B, K+1).  picks: (R, B), the sequences that each replicate holds.  Returns
    (R, K+1).
    """
    if reached.shape[1] > 1:
        return np.stack([median_gain(samples[:, pick], reached[:, pick]) for pick in picks])
    found = np.full((len(picks), samples.shape[2]), np.nan)
    patterns, group = np.unique(reached[:, 0], axis=1, return_inverse=True)
    for index, pattern in enumerate(patterns.T):
        if not pattern.any():
            continue
        lags = np.flatnonzero(group == index)
        some = samples[pattern][:, :, lags]  # the sources that reach these lags
        width = max(1, _ENTRIES // some.size)  # replicates at a time
        for first in range(0, len(picks), width):
            chosen = picks[first : first + width]
            # (sources, replicates, sequences, lags): the medians run over the pairs.
            drawn = some[:, chosen].transpose(1, 3, 0, 2).reshape(len(chosen), len(lags), -1)
            found[first : first + width, lags] = np.median(drawn, axis=2)
    return found


def range_over_sources(samples: Floats, reached: Reached) -> Floats:
    """Return what one sequence says of the range of its gains, at lags that all sources reach.

    samples, reached: (S, K+1).  Returns (K+1, 2): smallest and largest gain, each moved outwards
    by their ratio. The sources share one trajectory and differ by less than sequences do:
    resampling them gave intervals that were too narrow for verdicts near a threshold.
    """
    low, high = samples.min(axis=0), samples.max(axis=0)
    known = (low > 0) & np.isfinite(high)
    ratio = np.ones_like(high)
    ratio[known] = high[known] / low[known]
    whole = np.all(reached, axis=0)
    return np.where(whole, np.stack([low / ratio, high * ratio]), np.nan).T


def band_of_gains(samples: Floats, reached: Reached) -> Floats:
    """10 and 90% quantiles over the pairs that reach a lag.  Returns (K+1, 2)."""
    return over_pairs(
        samples,
        reached,
        lambda pairs: np.quantile(pairs, [0.1, 0.9], axis=-1, method="nearest").T,
        (2,),
    )
