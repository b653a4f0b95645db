"""Tasks that need a memory of a known number of steps: adding, and copying."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def adding(rng: np.random.Generator, steps: int, size: int) -> tuple[Floats, Floats]:
    """Draw numbers with two marks, x (T, B, 2), and the sum of the two marked numbers, y (B, 1).

    One mark lies in the first half, one in the second; the numbers are uniform in 0 to 1. Without
    memory the best guess is 1, with an error of 1/6: the variance of two such numbers together.
    """
    x, columns = np.zeros((steps, size, 2), np.float32), np.arange(size)
    x[:, :, 0] = rng.random((steps, size))
    early, late = rng.integers(0, steps // 2, size), rng.integers(steps // 2, steps, size)
    x[early, columns, 1] = x[late, columns, 1] = 1
    return x, (x[early, columns, 0] + x[late, columns, 0])[:, None]


def copying(
    rng: np.random.Generator, blanks: int, size: int, symbols: int, alphabet: int
) -> tuple[Floats, NDArray[Any]]:
    """Draw S symbols, then blanks, then S marks, at which the symbols are to be said in order.

    x: one-hot (S + blanks + S, B, alphabet + 2), the last two channels the blank and the mark.
    y: integers (S, B), for the last S steps.  A symbol is needed S + blanks steps after it came.
    Without memory the best guess leaves ln(alphabet).
    """
    y = rng.integers(0, alphabet, (symbols, size))
    ids = np.full((blanks + 2 * symbols, size), alphabet)
    ids[:symbols], ids[-symbols:] = y, alphabet + 1
    return np.eye(alphabet + 2, dtype=np.float32)[ids], y
