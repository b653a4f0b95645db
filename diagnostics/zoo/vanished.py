"""Networks whose gradients leave the range of float32 at a known row, for R12."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.quantities.numeric_health import numeric_health
from diagnostics.zoo.grid import UNITS, Grid, Trial, trial_of

DECADES = 1.0  # over which the entries of the last gradient are spread
TINY = float(np.finfo(np.float32).tiny)


def vanished(target: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge by R12 a network of whose rows about exp(target) have vanished.

    W is rho times the identity and the states are 0, so that an entry m of the loss's gradient is
    m rho^k after k steps: counted by logarithms, and nothing is estimated.
    """
    rows = min(int(grid.steps * math.exp(target)), grid.steps - 2)
    # A middling entry, 10^-(DECADES/2), gets as small as TINY just before that many rows are left.
    log_rho = (math.log(TINY) + DECADES / 2 * math.log(10)) / (grid.steps - rows + 0.5)
    layer = minirnn.Recurrent("rnn", 1, UNITS, bias=False, seed=0)
    layer.weight_hh_l0.assign((np.exp(log_rho) * np.eye(UNITS)).astype(np.float32))
    for batch in grid.batches:
        d_output = np.zeros((grid.steps, batch, UNITS), np.float32)
        d_output[-1] = 10 ** -rng.uniform(0, DECADES, (batch, UNITS))
        truth = _part(np.log(d_output[-1].astype(np.float64)), log_rho, grid)
        health = numeric_health(layer, np.zeros((grid.steps, batch, 1), np.float32), d_output)
        yield trial_of("R12", batch, truth, rules.bit_vanished(health))


def _part(logs: Any, log_rho: float, grid: Grid) -> float:
    """Part of the T rows before the last in which more than half of the entries are gone."""
    gone = [np.mean(logs + k * log_rho < math.log(TINY)) > 0.5 for k in range(1, grid.steps + 1)]
    return float(np.mean(gone))
