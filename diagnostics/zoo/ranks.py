"""Spearman's rank correlation, within groups, and how often chance makes one as large."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from diagnostics.quantities.statistics import Floats

SHUFFLES = 10_000


def ranks(values: Any) -> Floats:
    """Ranks from 1 on, the mean of the places for those that are equal.  values: (N,)."""
    given = np.asarray(values, np.float64)
    # A value's rank: how many are smaller, and the middle of those that equal it.
    smaller = (given[:, None] > given).sum(axis=1)
    equal = (given[:, None] == given).sum(axis=1)
    return np.asarray(smaller + (equal + 1) / 2)


def rank_correlation(
    x: Any, y: Any, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return Spearman's rho of x and y, and its p value by shuffling.

    x, y: (N,).  groups: (N,), ranks are taken, and shuffled, within each: what sets whole groups
    apart counts for nothing.  p: part of the shuffles whose |rho| is as large, two-sided.  Both
    are NaN where x or y is the same throughout every group.
    """
    labels = [0] * len(x) if groups is None else list(groups)
    rng = np.random.default_rng(seed)
    products, squares, shuffled = 0.0, np.zeros(2), np.zeros(SHUFFLES)
    for label in dict.fromkeys(labels):
        members = [index for index, own in enumerate(labels) if own == label]
        rank_x, rank_y = (_centred(np.asarray(v, np.float64)[members]) for v in (x, y))
        products += float(rank_x @ rank_y)
        squares += [rank_x @ rank_x, rank_y @ rank_y]
        shuffled += rng.permuted(np.tile(rank_y, (SHUFFLES, 1)), axis=1) @ rank_x
    if not squares.all():
        return float("nan"), float("nan")
    # Equal up to rounding counts as equally large.
    larger = np.sum(np.abs(shuffled) >= abs(products) * (1 - 1e-9) - 1e-9)
    return float(products / np.sqrt(squares.prod())), float((1 + larger) / (1 + SHUFFLES))


def _centred(values: Floats) -> Floats:
    own = ranks(values)
    return own - own.mean()
