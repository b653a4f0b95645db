"""Norms, medians, slopes and bootstrap intervals: no networks, only arrays."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ENTRIES = 2**20  # of resampled values held at a time
_BLOCK = 2**15  # entries worked on at a time: with what is made of them they stay in the cache
_LEAST_SQUARES = 1e-250  # of a sum that squares below the range cannot change
REPLICATES = 400  # of the bootstrap: the ends of a 95% interval are then known to about 1 %


def blocks_of(array: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of an array's first axis, of about as many entries as the cache holds."""
    rows = max(1, _BLOCK * len(array) // max(1, array.size))
    for first in range(0, len(array), rows):
        yield slice(first, first + rows)


def joint_norm(arrays: Iterable[NDArray[np.floating]]) -> Floats:
    """Euclidean norm over the last axis of all arrays together.

    arrays: each (..., H_k), the states of one cell side by side.  Returns (...).  Scaled by the
    largest entry first where squares have left the range, or may have; those of single precision
    never do.
    """
    given = [np.asarray(array) for array in arrays]
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.asarray(sum(_squares(array) for array in given))
        single = all(a.dtype.itemsize < 8 and a.dtype.kind == "f" for a in given)
        if single or ((squares > _LEAST_SQUARES) & (squares < np.inf)).all():
            return np.sqrt(squares)
        return _scaled_norm([array.astype(np.float64, copy=False) for array in given])


def _squares(array: NDArray[Any]) -> Floats:
    """Sum of squares over the last axis, in double precision.  (..., H) to (...)."""
    if array.ndim == 1:
        parts = [array[part].astype(np.float64, copy=False) for part in blocks_of(array)]
        return np.asarray(sum(sum_of_squares(a) for a in parts))
    found = np.empty(array.shape[:-1])
    for part in blocks_of(array):
        exact = array[part].astype(np.float64, copy=False)
        np.vecdot(exact, exact, out=found[part])
    return found


def sum_of_squares(array: NDArray[Any]) -> float:
    """Sum of squares of all entries, in their own precision.

    Not a product of BLAS: that would wake threads of its own, which take the cores on which a
    layer's own threads wait for the next step.
    """
    flat = array.ravel()
    return float(np.einsum("i,i->", flat, flat))


def _scaled_norm(arrays: list[Floats]) -> Floats:
    """Joint norm by way of the largest entry."""
    largest = np.max([np.max(np.abs(a), axis=-1, initial=0.0) for a in arrays], axis=0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    squares = sum(np.sum((a / scale[..., None]) ** 2, axis=-1) for a in arrays)
    return np.asarray(scale * np.sqrt(squares))


def resamples(count: int, replicates: int = REPLICATES, seed: int = 0) -> NDArray[np.int64]:
    """Draw which items each bootstrap replicate holds.  Returns (replicates, count)."""
    return np.random.default_rng(seed).integers(0, count, size=(replicates, count))


def interval(replicates: Floats) -> Floats:
    """95% percentile interval over the first axis.  replicates: (R, ...).  Returns (..., 2).

    The ends are replicates themselves (no interpolation), so infinities stay what they are.
    """
    ends = np.quantile(replicates, [0.025, 0.975], axis=0, method="inverted_cdf")
    return np.moveaxis(ends, 0, -1)


def medians(values: Floats, valid: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats]:
    """Median over the sequences of every row, and its interval.

    values: (N, B).  valid: (N, B), which entries count, default all.  Returns (N,) and (N, 2);
    NaN where no entry counts.
    """
    if valid is None:
        return np.median(values, axis=1), median_interval(values)
    middle = np.full(len(values), np.nan)
    ends = np.full((len(values), 2), np.nan)
    for rows, chosen in _by_pattern(values, valid):
        middle[rows], ends[rows] = np.median(chosen, axis=1), median_interval(chosen)
    return middle, ends


def row_medians(values: Floats, valid: NDArray[np.bool_] | None = None) -> Floats:
    """Median over the sequences of every row, as `medians`, without the interval's cost."""
    if valid is None:
        return _middle(values)
    middle = np.full(len(values), np.nan)
    for rows, chosen in _by_pattern(values, valid):
        middle[rows] = _middle(chosen)
    return middle


def _middle(values: Floats) -> Floats:
    """Median over the last axis: of short rows, at a third of the time that NumPy's takes."""
    ordered, count = np.sort(values, axis=1), values.shape[1]
    middle = ordered[:, (count - 1) // 2 : count // 2 + 1].mean(axis=1)
    return np.where(np.isnan(ordered[:, -1]), np.nan, middle)  # NaN is last


def _by_pattern(values: Floats, valid: NDArray[np.bool_]) -> Iterator[tuple[Any, Floats]]:
    """Yield the rows in which the same entries count, and those entries."""
    patterns, group = np.unique(valid, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        if pattern.any():
            rows = group == index
            yield rows, values[rows][:, pattern]


def median_interval(values: Floats, seed: int = 0) -> Floats:
    """Bootstrap interval over sequences of the median over them.

    values: (N, B), one column per sequence.  Returns (N, 2); NaN if B < 2, where there is no
    variation over sequences to draw from.
    """
    if values.shape[1] < 2:
        return np.full((values.shape[0], 2), np.nan)
    picks = resamples(values.shape[1], seed=seed)
    width = max(1, _ENTRIES // max(1, values.size))  # replicates at a time
    parts = [
        np.median(values[:, picks[first : first + width]], axis=2)
        for first in range(0, len(picks), width)
    ]
    return interval(np.concatenate(parts, axis=1).T)


def theil_slope(x: Floats, y: Floats) -> float:
    """Robust slope of y over x: the median over pairs of points half the range apart.

    Theil's incomplete method: point i is paired with point i + n/2 only.  For n points that
    costs n/2 slopes instead of n^2/2, and the far pairs are the ones that carry information.
    """
    if len(x) < 2:
        return float("nan")
    half = len(x) // 2
    return float(np.median((y[-half:] - y[:half]) / (x[-half:] - x[:half])))


def student_quantile(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t; infinite without a degree of freedom.

    Expansion of Cornish and Fisher around the normal quantile (Abramowitz and Stegun 26.7.5):
    within 0.2 % from 3 degrees of freedom on.
    """
    if freedom < 1:
        return float("inf")
    if freedom <= 2:
        return (12.706204736, 4.302652730)[freedom - 1]
    z, n = 1.959963985, float(freedom)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / n**power for power, term in enumerate(terms))


def ratio_interval(sums: Floats, counts: Floats) -> Floats:
    """95% interval of sum(sums) / sum(counts) from blocks taken as independent.

    sums: (N, ...), counts: (N,), how much each block holds.  Returns (..., 2), NaN for one block.
    A sum of -inf makes an interval of -inf: no block can bring it back.
    """
    n, total = len(counts), counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        value = sums.sum(axis=0) / total
        rest = sums - value * counts.reshape(-1, *(1,) * (sums.ndim - 1))
        error = np.sqrt((rest**2).sum(axis=0) * n / max(n - 1, 1)) / total
        half = student_quantile(n - 1) * error if n > 1 else np.full_like(value, np.nan)
        ends = np.stack([value - half, value + half], axis=-1)
    return np.where(np.isneginf(value)[..., None], -np.inf, ends)
