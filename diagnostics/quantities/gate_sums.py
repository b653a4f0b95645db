"""Sums over time of what a gate does: at its ends, its value, its derivative; in few passes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.statistics import Floats

# Per activation: below this is left-saturated, above that right-saturated.
ENDS = {"sigmoid": (0.1, 0.9), "tanh": (-0.97, 0.97), "relu": (0.0, np.inf)}
# Worked on at a time: rows of so many entries that what NumPy takes for each is small, and so few
# that they stay in the cache and a byte counts them.
_WIDE, _ROWS = 1024, 32


def slope_of(activation: str, a: Any, out: Any = None) -> Any:
    """Return the derivative of an activation from its value; out: where to write it."""
    if activation == "relu":
        return np.multiply(a > 0, 1.0, out=out)
    if activation == "sigmoid":
        return np.multiply(np.subtract(1, a, out=out), a, out=out)
    return np.subtract(1, np.multiply(a, a, out=out), out=out)


def sums_of_gate(a: Any, activation: str, piece: NDArray[np.int64], count: int) -> Floats:
    """Sum left, right, value and slope over the pieces of a batch.

    a: (T, B, H).  piece: (T, B), which of the pieces 0 to count - 1 a step of a sequence belongs
    to, -1 for none.  Returns (4, count, H): how often a unit is at each end, and its sums.
    """
    found = np.zeros((4, count, a.shape[2]))
    if count == 1 and not piece.any():
        found[:, 0] = _sums(a.reshape(-1, a.shape[2]), activation)
        return found
    for n in range(count):
        found[:, n] = _sums(a[piece == n], activation)
    return found


def _sums(rows: Any, activation: str) -> Floats:
    """Sum over the first axis.  rows: (N, H).  Returns (4, H)."""
    count, hidden = rows.shape
    side = max(1, min(count, _WIDE // max(1, hidden)))  # so many rows are worked on as one
    whole = count - count % side
    found = np.zeros((4, side * hidden))
    wide = rows[:whole].reshape(-1, side * hidden)
    # One memory for all blocks: the system's pages of new memory cost more than the arithmetic.
    exact, flag = np.empty((2, _ROWS, side * hidden)), np.empty((_ROWS, side * hidden), bool)
    for first in range(0, len(wide), _ROWS):
        block = wide[first : first + _ROWS]
        n = len(block)
        _count(block, activation, exact[:, :n], flag[:n], found)
    found = found.reshape(4, side, hidden).sum(axis=1)
    if count > whole:
        found += _sums(rows[whole:], activation)
    return found


def _count(rows: Any, activation: str, exact: Floats, flag: Any, found: Floats) -> None:
    """Add the sums over the first axis of a block that the cache holds.

    rows, flag: (N, W).  exact: (2, N, W), to work in.  found: (4, W), added to.
    """
    (low, high), (a, slope) = ENDS[activation], exact
    a[...] = rows
    less = np.less_equal if activation == "relu" else np.less
    for sums, compare, end in zip(found[:2], (less, np.greater), (low, high), strict=True):
        compare(a, end, out=flag)
        sums += np.add.reduce(flag.view(np.uint8), axis=0, dtype=np.uint8)
    found[2] += np.add.reduce(a, axis=0)
    slope_of(activation, a, out=slope)
    found[3] += np.add.reduce(slope, axis=0)
