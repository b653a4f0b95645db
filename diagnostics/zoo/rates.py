"""Networks of known rates, for R1, R2, R3 and R5.

Tanh units are driven a little out of their linear range, so that a rate is estimated and not
given. The truth is not what the weights alone would give but what the exact Jacobians of hundreds
of further sequences say; the weights are scaled until that lies where it is wanted.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.lyapunov import lyapunov_spectrum
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.step_jacobians import step_jacobians
from diagnostics.rules import Verdict
from diagnostics.rules.flow import peak_over_fit
from diagnostics.zoo.grid import ALL, INPUTS, UNITS, Grid, Trial, trial_of

DRIVE = 0.1  # size of the states: slopes of tanh spread by about its square
FEW = 32  # sequences by which the weights are scaled
ROUNDS = 4  # of scaling: tanh moves the truth by a little, and that again by less
DIRECTIONS = 4
DECAYS = (0.9, 0.8)  # eigenvalues of R3's matrix: the gain peaks after about six steps


def rates(name: str, target: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge a network by R1, R2, R3 or R5.  target: where the logarithm of its truth is to be."""
    network = _Network(name, grid, rng)
    # One unit of the unknown is one of the logarithm: lag times ln rho, or R3's ln of the growth.
    at = target
    for _ in range(ROUNDS):
        at += target - network.log_truth(at, FEW)
    log_truth = network.log_truth(at, ALL)
    truth = abs(log_truth) if name == "R5" else math.exp(log_truth)
    for batch in grid.batches:
        yield trial_of(name, batch, truth, network.verdict(at, batch))


class _Network:
    """A layer of which everything is drawn but how strong its recurrence is."""

    def __init__(self, name: str, grid: Grid, rng: Any) -> None:
        self.name, self.grid, self.rng = name, grid, rng
        self.layer = minirnn.Recurrent("rnn", INPUTS, UNITS, bias=False, dtype="float64",
                                       seed=int(rng.integers(2**31)))  # fmt: skip
        self.layer.weight_ih_l0.assign(rng.standard_normal((UNITS, INPUTS)))
        self.basis = minirnn.init.orthogonal()((UNITS, UNITS), rng, np.float64)
        self.noise = rng.standard_normal((grid.steps, ALL, INPUTS))
        self.directions = rng.standard_normal((DIRECTIONS, ALL, UNITS))
        self.directions /= np.linalg.norm(self.directions, axis=-1, keepdims=True)

    def log_truth(self, at: float, count: int) -> float:
        """Logarithm of what the exact Jacobians of `count` sequences say."""
        drive = self._set(at)
        jacobians = step_jacobians(self.layer, drive * self.noise[:, :count]).value
        if self.name == "R5":
            spectrum = lyapunov_spectrum(jacobians, k=1, warmup=0)
            return float(spectrum.value[0]) * self.grid.lag
        gain = median_gain(jacobians[1:], self.directions[:, :count])
        return math.log(peak_over_fit(gain)[0] if self.name == "R3" else gain[-1])

    def verdict(self, at: float, batch: int) -> Verdict:
        """Let the rule judge sequences of its own."""
        x = self._set(at) * self.rng.standard_normal((self.grid.steps, batch, INPUTS))
        if self.name == "R5":
            return rules.lyapunov(lyapunov_spectrum(self.layer, x, k=1), self.grid.lag)
        gain = lag_gain(self.layer, x)
        if self.name == "R3":
            return rules.transient(gain)
        return rules.vanishing(gain) if self.name == "R1" else rules.exploding(gain)

    def _set(self, at: float) -> float:
        """Set the recurrent weights, and return how large inputs are to be."""
        if self.name == "R3":
            block = _sheared(math.exp(at) * (DECAYS[0] - DECAYS[1]))
            weight = self.basis.T @ block @ self.basis
        else:
            weight = math.exp(at / self.grid.lag) * self.basis
        self.layer.weight_hh_l0.assign(weight)
        # Where states grow they are to be of this size at the end. What grows on its way forward
        # grows on its way back as well: R3's slopes may deviate by so much less, or chaos sets in.
        growth = _growth(weight, self.grid.steps)
        return DRIVE / (growth * growth if self.name == "R3" else growth)


def _growth(weight: Floats, steps: int) -> float:
    """Return how large states become that are driven by noise of size 1, without the tanh."""
    power, total = np.eye(UNITS), 0.0
    for _ in range(steps):
        total += float(np.sum(power**2)) / UNITS
        power = weight @ power
    return math.sqrt(total)


def _sheared(growth: float) -> Floats:
    """Return blocks [[a, growth], [0, b]]: their powers grow before they die out."""
    a, b = DECAYS
    return np.kron(np.eye(UNITS // 2), np.array([[a, growth], [0.0, b]]))


def median_gain(jacobians: Floats, v: Floats) -> Floats:
    """Median over sequences and directions of ||J^T ... J^T v|| by lag, from 0 to K.

    jacobians: (K, B, S, S).  v: (D, B, S), of length 1.
    """
    gain = [1.0]
    for jacobian in jacobians[::-1]:
        v = np.einsum("dbi,bij->dbj", v, jacobian)
        gain.append(float(np.median(np.linalg.norm(v, axis=-1))))
    return np.array(gain)
