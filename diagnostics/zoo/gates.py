"""Networks whose gates have a known distribution, for R6, R7 and R8.

For R6 and R7 the recurrent weights of an LSTM are 0 and its inputs normal: what goes into a unit's
gate is then N(bias, SPREAD^2), and its mean slope and the time that it spends at an end are known
by formula. Each unit lies on a known side of its limit, some close by; what fraction of the units
does is exact. For R8 the forget gate's bias sets the timescale, and the truth is what hundreds of
further sequences say.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.quantities.gate_statistics import LEAST_SLOPE, STUCK, gate_statistics
from diagnostics.quantities.gate_sums import ENDS, slope_of
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.timescales import memory_timescales
from diagnostics.zoo.grid import ALL, INPUTS, UNITS, Grid, Trial, trial_of

MANY = 60  # units, so that fractions around a threshold can be had
GATES = ("i", "f", "g", "o")  # in the layer's order
# f at its open end is memory, which is no illness and another rule's matter.
TRIED = {"i": "sigmoid", "g": "tanh", "o": "sigmoid"}
SPREAD = 0.5  # of what goes into a gate
CLOSEST, FARTHEST = 0.05, 2.0  # of a unit from its limit, in units of SPREAD


def fractions(name: str, target: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge by R6 or R7 an LSTM of which about exp(target) of one gate's units are bad."""
    bad = int(np.clip(round(MANY * math.exp(target)), 0, MANY))
    gate = str(rng.choice(list(TRIED)))
    layer = _lstm(gate, _biases(name, TRIED[gate], bad, rng), rng)
    rule = {"R6": rules.gate_slope, "R7": rules.gate_stuck}[name]
    for batch in grid.batches:
        x = rng.standard_normal((grid.steps, batch, INPUTS))
        yield trial_of(name, batch, bad / MANY, rule(gate_statistics(layer, x)))


def _biases(name: str, activation: str, bad: int, rng: Any) -> Floats:
    """Draw biases of the units, so that just `bad` of them lie beyond their limit."""
    limit = flat_at(activation) if name == "R6" else stuck_at(activation)
    beyond = np.where(np.arange(MANY) < bad, 1, -1) * rng.uniform(CLOSEST, FARTHEST, MANY)
    sides = rng.choice([-1.0, 1.0], MANY)
    return np.asarray(rng.permutation(sides * (limit + SPREAD * beyond)))


def stuck_at(activation: str) -> float:
    """Return the bias from which on a unit is at its upper end for 95% of the time."""
    high = ENDS[activation][1]
    edge = math.atanh(high) if activation == "tanh" else math.log(high / (1 - high))
    return edge + SPREAD * NormalDist().inv_cdf(STUCK)


def flat_at(activation: str) -> float:
    """Return the bias from which on a unit's mean slope is below its limit: by bisection."""
    low, high = 0.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        flat = mean_slope(activation, middle) < LEAST_SLOPE[activation]
        low, high = (low, middle) if flat else (middle, high)
    return high


def mean_slope(activation: str, bias: float) -> float:
    """Mean derivative of a gate whose input is N(bias, SPREAD^2), by Gauss and Hermite."""
    # 40 points: exact to 1e-12 for slopes that change over a length of 1.
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    a = bias + SPREAD * points
    value = np.tanh(a) if activation == "tanh" else 1 / (1 + np.exp(-a))
    return float(weights @ slope_of(activation, value) / weights.sum())


def _lstm(gate: str, biases: Floats, rng: Any) -> Any:
    """Make an LSTM without recurrence, all but one of whose gates are in the middle."""
    layer = minirnn.Recurrent("lstm", INPUTS, MANY, dtype="float64",
                              seed=int(rng.integers(2**31)))  # fmt: skip
    for parameter in layer.parameters():
        parameter.assign(np.zeros(parameter.shape))
    weight, bias = np.zeros((4, MANY, INPUTS)), np.zeros((4, MANY))
    weight[GATES.index(gate)] = rng.standard_normal((MANY, INPUTS))
    weight *= SPREAD / np.maximum(np.linalg.norm(weight, axis=-1, keepdims=True), 1e-300)
    bias[GATES.index(gate)] = biases
    layer.weight_ih_l0.assign(weight.reshape(4 * MANY, INPUTS))
    layer.bias_ih_l0.assign(bias.reshape(-1))
    return layer


def timescales(target: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge an LSTM by R8.  target: ln of the forget gates' timescale over the lag."""
    tau = grid.lag * math.exp(target)
    bias = float(-np.log(np.expm1(1 / tau)))  # sigma(bias) = exp(-1 / tau)
    init = {"bias": minirnn.init.forget_bias(bias)}
    layer = minirnn.Recurrent("lstm", INPUTS, UNITS, dtype="float64", init=init,
                              seed=int(rng.integers(2**31)))  # fmt: skip
    layer.weight_ih_l0.assign(0.3 * layer.weight_ih_l0.numpy())

    def scales(count: int) -> Any:
        return memory_timescales(layer, rng.standard_normal((grid.steps, count, INPUTS)))

    truth = scales(ALL).value / grid.lag
    for batch in grid.batches:
        yield trial_of("R8", batch, truth, rules.memory(scales(batch), grid.lag))
