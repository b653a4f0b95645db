"""A zoo of networks with known truth around every threshold, and what the rules say to them.

Each network is rho times an orthogonal matrix, with tanh units driven a little out of their
linear range, so that a rate is estimated and not given. The truth is not rho but what the exact
Jacobians of hundreds of further sequences say. Timescales are set by a forget gate's bias.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.lyapunov import lyapunov_spectrum
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.step_jacobians import step_jacobians
from diagnostics.quantities.timescales import memory_timescales
from diagnostics.rules import TABLE, Verdict
from diagnostics.rules.verdict import judged

BAND = 0.7  # |ln rho - ln threshold| L below this is too close to call
UNITS, INPUTS = 12, 3
DRIVE = 0.1  # size of the states: slopes of tanh spread by about its square
DISTANCES = (-2.0, -1.0, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1.0, 2.0)
ALL = 256  # sequences that the truth is taken from


@dataclass(frozen=True)
class Grid:
    """What is tried: steps T, batches B, distances from each threshold, networks of each kind."""

    steps: int = 60
    batches: tuple[int, ...] = (1, 8, 32)
    distances: tuple[float, ...] = DISTANCES
    networks: int = 10


FAST = Grid(steps=40, batches=(1, 8), distances=(-1.0, -0.3, 0.3, 1.0), networks=2)


@dataclass(frozen=True)
class Trial:
    """One verdict on one network.

    distance: of the truth from the nearest threshold, |ln truth - ln threshold|.
    """

    rule: str
    batch: int
    distance: float
    truth: str
    level: str

    @property
    def near(self) -> bool:
        """Whether the truth lies in the band that is too close to call."""
        return self.distance <= BAND

    @property
    def wrong(self) -> bool:
        """Whether a verdict was given that is not so."""
        return self.level not in (self.truth, "inconclusive")


def calibrate(grid: Grid = Grid(), seed: int = 0) -> list[Trial]:
    """Judge every network of a grid, and compare with the truth."""
    return list(_trials(grid, seed))


def _trials(grid: Grid, seed: int) -> Iterator[Trial]:
    lag = grid.steps - 1
    for network in range(grid.networks):
        for distance in grid.distances:
            rng = np.random.default_rng([seed, network, grid.distances.index(distance)])
            for name in ("R1", "R2", "R5"):
                for limit in (TABLE[name].warn, TABLE[name].fail):
                    target = limit if name == "R5" else np.log(limit)
                    sign = rng.choice([-1, 1]) if name == "R5" else 1
                    rho = float(np.exp(sign * (target + distance) / lag))
                    yield from _of_rate(name, rho, grid, rng)
            for limit in (TABLE["R8"].warn, TABLE["R8"].fail):
                yield from _of_memory(limit * np.exp(distance) * lag, grid, rng)


def _of_rate(name: str, rho: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge a tanh network of a given rate by R1, R2 or R5."""
    lag = grid.steps - 1
    init = {"weight_hh": minirnn.init.orthogonal(rho)}
    layer = minirnn.Recurrent("rnn", INPUTS, UNITS, bias=False, dtype="float64", init=init,
                              seed=int(rng.integers(2**31)))  # fmt: skip
    layer.weight_ih_l0.assign(rng.standard_normal((UNITS, INPUTS)))
    # Where states grow they are to be of this size at the end.
    scale = DRIVE * min(1.0, rho**-grid.steps) * np.sqrt(abs(1 - rho**2) + 1 / grid.steps)

    def sequences(count: int) -> Floats:
        drawn: Floats = scale * rng.standard_normal((grid.steps, count, INPUTS))
        return drawn

    jacobians = step_jacobians(layer, sequences(ALL)).value
    if name == "R5":
        truth = abs(float(lyapunov_spectrum(jacobians, k=1, warmup=0).value[0])) * lag
    else:
        truth = _median_gain(jacobians[1:], rng)
    for batch in grid.batches:
        x = sequences(batch)
        if name == "R5":
            verdict = rules.lyapunov(lyapunov_spectrum(layer, x, k=1), lag)
        else:
            rule = rules.vanishing if name == "R1" else rules.exploding
            verdict = rule(lag_gain(layer, x))
        yield _trial(name, batch, truth, verdict)


def _of_memory(tau: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge an LSTM whose forget gates have a given timescale by R8."""
    bias = float(-np.log(np.expm1(1 / tau)))  # sigma(bias) = exp(-1 / tau)
    init = {"bias": minirnn.init.forget_bias(bias)}
    layer = minirnn.Recurrent("lstm", INPUTS, UNITS, dtype="float64", init=init,
                              seed=int(rng.integers(2**31)))  # fmt: skip
    layer.weight_ih_l0.assign(0.3 * layer.weight_ih_l0.numpy())

    def scales(count: int) -> Any:
        return memory_timescales(layer, rng.standard_normal((grid.steps, count, INPUTS)))

    truth = scales(ALL).value / (grid.steps - 1)
    for batch in grid.batches:
        verdict = rules.memory(scales(batch), grid.steps - 1)
        yield _trial("R8", batch, truth, verdict)


def _trial(name: str, batch: int, truth: float, verdict: Verdict) -> Trial:
    rule = TABLE[name]
    limits = np.array([rule.warn, rule.fail])
    # R5 judges a logarithm already; the others are compared as logarithms.
    apart = truth - limits if name == "R5" else np.log(truth) - np.log(limits)
    level = judged(name, truth, None, ALL)[0]
    return Trial(name, batch, float(np.abs(apart).min()), level, verdict.level)


def _median_gain(jacobians: Floats, rng: Any) -> float:
    """Median over sequences and directions of ||J^T ... J^T v||.  jacobians: (K, B, S, S)."""
    v = rng.standard_normal((4, *jacobians.shape[1:3]))
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    for jacobian in jacobians[::-1]:
        v = np.einsum("dbi,bij->dbj", v, jacobian)
    return float(np.median(np.linalg.norm(v, axis=-1)))
