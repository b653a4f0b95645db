"""Judge every network of a grid."""

from collections.abc import Iterator

import numpy as np

from diagnostics.rules import TABLE
from diagnostics.zoo.gates import fractions, timescales
from diagnostics.zoo.grid import FULL, Grid, Trial
from diagnostics.zoo.rates import rates
from diagnostics.zoo.vanished import vanished

CALIBRATED = ("R1", "R2", "R3", "R5", "R6", "R7", "R8", "R12")


def calibrate(grid: Grid = FULL, seed: int = 0) -> list[Trial]:
    """Judge every network of a grid, and compare with the truth."""
    return list(_trials(grid, seed))


def _trials(grid: Grid, seed: int) -> Iterator[Trial]:
    """Judge networks whose truth lies on both sides of each threshold, at the same distances."""
    for network in range(grid.networks):
        for distance in grid.distances:
            for name in CALIBRATED:
                # Draws of its own for each rule: a change of one leaves the others' numbers alone.
                key = [seed, network, grid.distances.index(distance), int(name[1:])]
                yield from _around(name, distance, grid, np.random.default_rng(key))


def _around(name: str, distance: float, grid: Grid, rng: np.random.Generator) -> Iterator[Trial]:
    """Judge two networks, one at this distance from each of a rule's thresholds."""
    for limit in (TABLE[name].warn, TABLE[name].fail):
        if name == "R5":  # a logarithm itself, on either side of 0
            yield from rates(name, rng.choice([-1, 1]) * (limit + distance), grid, rng)
        elif name == "R12":
            # From 0 on it warns; one row or none is as near to that as can be had.
            target = np.log(limit or 1 / grid.steps) + distance
            yield from vanished(target, grid, rng)
        else:
            target = np.log(limit) + distance
            if name in ("R6", "R7"):
                yield from fractions(name, target, grid, rng)
            elif name == "R8":
                yield from timescales(target, grid, rng)
            else:
                yield from rates(name, target, grid, rng)
