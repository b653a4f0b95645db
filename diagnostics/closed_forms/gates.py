"""Rows of 6.1 on gated cells: what they keep, and their zero fixed point."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.closed_forms.networks import gated, logistic, network, silence
from diagnostics.closed_forms.outcome import ROUNDED, Outcome
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.linearisation import linearisation
from diagnostics.quantities.step_jacobians import step_jacobians
from diagnostics.quantities.timescales import memory_timescales

Outcomes = Iterator[Outcome]


def _kept(made: str, gates: int, inject: str, rng: Any) -> Outcomes:
    """Without recurrent weights a state is kept by sigma(1) a step."""
    biases = np.zeros((gates, 5))
    biases[1] = 1.0  # f of i f g o, z of r z n
    layer, x = network(made, 5, bias_ih=biases.ravel()), rng.standard_normal((30, 2, 1))
    keeps = float(logistic(1.0))
    gain = lag_gain(layer, x, inject=inject).value
    yield Outcome(f"{made} without recurrence: sigma(1)^k", gain, keeps ** np.arange(30.0), 1e-11,
                  ROUNDED)  # fmt: skip
    tau = memory_timescales(layer, x).value
    yield Outcome(f"{made}: timescale", tau, -1 / math.log(keeps), 1e-12, "rounding")
    yield Outcome(f"{made}: half-life 2.21 steps", math.log(0.5) / math.log(gain[1]), 2.21, 3e-3,
                  "three digits")  # fmt: skip


def lstm_forgets(rng: Any) -> Outcomes:
    """dc_T/dc_t = sigma(b_f)^(T-t)."""
    yield from _kept("lstm", 4, "c", rng)


def gru_keeps(rng: Any) -> Outcomes:
    """dh_T/dh_t = sigma(b_z)^(T-t)."""
    yield from _kept("gru", 3, "h", rng)


def lstm_fixed_point(rng: Any) -> Outcomes:
    """At 0 the nonzero eigenvalues are those of diag f + diag i W_g diag o; H are 0."""
    layer, weights, biases = gated("lstm", 4, 2, rng)
    i, f, o = (logistic(biases[k]) for k in (0, 1, 3))
    truth = np.linalg.eigvals(np.diag(f) + np.diag(i) @ weights[2] @ np.diag(o))
    size = np.hypot(*linearisation(layer, silence(3)).eigenvalues.T)
    yield Outcome("LSTM at its zero fixed point: eigenvalues", size[:5],
                  np.sort(np.abs(truth))[::-1], 1e-9, "eigenvalues")  # fmt: skip
    yield Outcome("LSTM at its zero fixed point: the others", size[5:], np.zeros(5), 1e-6,
                  "a defective zero: the square root of rounding")  # fmt: skip


def gru_fixed_point(rng: Any) -> Outcomes:
    """At 0 J = diag z + diag((1 - z) r) W_n."""
    layer, weights, biases = gated("gru", 3, 2, rng)
    r, z = logistic(biases[0]), logistic(biases[1])
    truth = np.diag(z) + np.diag((1 - z) * r) @ weights[2]
    found = step_jacobians(layer, silence(2)).value[1, 0]
    yield Outcome("GRU at its zero fixed point: Jacobian", found, truth, 1e-12, "rounding")
