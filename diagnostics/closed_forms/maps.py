"""Rows of 6.2 on maps whose exponents are known: cat, logistic, Henon."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.closed_forms.outcome import ROUNDED, Outcome
from diagnostics.quantities.lyapunov import lyapunov_spectrum

Outcomes = Iterator[Outcome]


def cat_map(rng: Any) -> Outcomes:
    """Arnold's map: plus and minus ln((3 + sqrt 5) / 2)."""
    cat = np.broadcast_to(np.array([[2.0, 1.0], [1.0, 1.0]]), (100, 2, 2))
    golden = math.log((3 + math.sqrt(5)) / 2)
    yield Outcome("cat map", lyapunov_spectrum(cat).value, [golden, -golden], 1e-12, ROUNDED)


def logistic_map(rng: Any) -> Outcomes:
    """4 x (1 - x): ln 2."""
    x, slopes = 0.3123, np.empty((20_000, 1, 1))
    for t in range(len(slopes)):
        slopes[t] = 4 - 8 * x
        x = 4 * x * (1 - x)
    found = lyapunov_spectrum(slopes, every=50).value
    yield Outcome("logistic map at 4: ln 2", found, math.log(2), 0.015, "20000 steps")


def henon_map(rng: Any) -> Outcomes:
    """With a = 1.4 and b = 0.3 the sum is ln b exactly, the first about 0.419."""
    x, y, jacobians = 0.1, 0.1, np.empty((4000, 2, 2))
    for t in range(len(jacobians)):
        jacobians[t] = [[-2.8 * x, 1.0], [0.3, 0.0]]
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    found = lyapunov_spectrum(jacobians).value
    yield Outcome("Henon map: ln 0.3", found.sum(), math.log(0.3), 1e-12, ROUNDED)
    yield Outcome("Henon map: first exponent", found[0], 0.419, 0.05, "4000 steps of chaos")
