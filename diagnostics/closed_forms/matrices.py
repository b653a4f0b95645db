"""Rows of 6.1 on networks that are a matrix: linear, tanh at 0, ReLU with positive numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics import rules
from diagnostics.closed_forms.networks import (
    SKEWED,
    delta_norms,
    linear,
    network,
    orthogonal,
    silence,
)
from diagnostics.closed_forms.outcome import ROUNDED, Outcome, word
from diagnostics.quantities.decay_rate import decay_rate
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.linearisation import linearisation
from diagnostics.quantities.singular_values import product_bound

Outcomes = Iterator[Outcome]
# G(L) crosses a limit: the level below it, and above.
FLIPS = (
    (rules.vanishing, 1e-3, "warn", "ok"), (rules.vanishing, 1e-6, "fail", "warn"),
    (rules.exploding, 1e3, "ok", "warn"), (rules.exploding, 1e6, "warn", "fail"),
)  # fmt: skip


def orthogonal_matrix(rng: Any) -> Outcomes:
    """Orthogonal matrices keep the norm of delta."""
    q, g = orthogonal(8, rng), rng.standard_normal(8)
    for made, name in ((linear, "linear"), ("rnn", "tanh at 0")):
        norms = delta_norms(network(made, 8, weight_hh=q), silence(1000), g)
        truth = np.full(1001, np.linalg.norm(g))
        yield Outcome(f"orthogonal, {name}: delta keeps its norm", norms, truth, 1e-12, ROUNDED)


def normal_matrix(rng: Any) -> Outcomes:
    """Q Lambda Q^T: ||delta_{T-k}||^2 = sum Lambda_i^2k c_i^2 with c = Q^T g."""
    q, g = orthogonal(8, rng), rng.standard_normal(8)
    values = np.array([1.2, 0.9, 0.5, -0.3, 0.1, 0.7, -0.95, 0.2])
    layer = network(linear, 8, weight_hh=q @ np.diag(values) @ q.T)
    lags = np.arange(30, -1, -1)[:, None]
    truth = np.sqrt((values ** (2 * lags) * (q.T @ g) ** 2).sum(axis=1))
    norms = delta_norms(layer, silence(30), g)
    yield Outcome("normal: eigenvalues to the power of the lag", norms, truth, 1e-12, ROUNDED)


def isometries(rng: Any) -> Outcomes:
    """Permutation, Householder reflection, rotation: the norm stays, the phase is the angle."""
    v = rng.standard_normal(6)
    c, s = np.cos(0.7), np.sin(0.7)
    made = {
        "permutation": np.eye(6)[rng.permutation(6)],
        "Householder": np.eye(6) - 2 * np.outer(v, v) / (v @ v),
        "rotation": np.kron(np.eye(3), [[c, -s], [s, c]]),
    }
    for name, matrix in made.items():
        layer, g = network(linear, 6, weight_hh=matrix), rng.standard_normal(6)
        norms = delta_norms(layer, silence(50), g)
        yield Outcome(f"{name}: delta keeps its norm", norms / norms[-1], np.ones(51), 1e-12,
                      ROUNDED)  # fmt: skip
    eigenvalues = linearisation(layer, silence(4)).eigenvalues
    angles = np.abs(np.arctan2(eigenvalues[:, 1], eigenvalues[:, 0]))
    yield Outcome("rotation: its angle", angles, np.full(6, 0.7), 1e-12, "eigenvalues")


def scaled_orthogonal_matrix(rng: Any) -> Outcomes:
    """With W = rho Q: G(k) = rho^k, and R1 and R2 flip exactly at their rho."""
    q = orthogonal(8, rng)
    for rho in (0.8, 1.0, 1.05):
        gain = lag_gain(network(linear, 8, weight_hh=rho * q), silence(60, 2)).value
        truth = rho ** np.arange(60.0)
        yield Outcome(f"{rho} times orthogonal: G(k) = rho^k", gain, truth, 1e-11, ROUNDED)
    for rule, limit, below, above in FLIPS:
        for factor, level in ((0.999, below), (1.001, above)):
            rho = (limit * factor) ** (1 / 99)
            gained = lag_gain(network(linear, 8, weight_hh=rho * q), silence(100, 8), sources=2)
            found = rule(gained)
            yield word(f"rho = {rho:.6f} over 99 steps: {found.rule}", found.level, level)


def skewed_matrix(rng: Any) -> Outcomes:
    """[[.9, 5], [0, .8]]: spectral radius 0.9, and yet a peak of 13.48: R3 and not R2."""
    layer, x = network(linear, 2, weight_hh=SKEWED), silence(60, 16)
    bound = np.exp(product_bound(layer, x).value)
    truth = np.array([np.linalg.norm(np.linalg.matrix_power(SKEWED, k), 2) for k in range(61)])
    yield Outcome("non-normal: norms of powers", bound, truth, 1e-11, ROUNDED)
    yield Outcome("non-normal: peak", bound.max(), 13.478, 5e-5, "five digits")
    found = linearisation(layer, x)
    yield Outcome("non-normal: spectral radius", found.value, 0.9, 1e-12, "eigenvalues")
    gain = lag_gain(layer, x)
    yield word("non-normal: R3", rules.transient(gain).level, "warn")
    yield word("non-normal: R2", rules.exploding(gain).level, "ok")


def jordan_block(rng: Any) -> Outcomes:
    """(lambda I + N)^k has entries C(k, j) lambda^(k - j): about k^(m-1) lambda^k."""
    block = 0.8 * np.eye(3) + np.diag([1.0, 1.0], 1)
    layer = network(linear, 3, weight_hh=block)
    found = product_bound(layer, silence(400)).value[[200, 400]]
    k = np.array([200.0, 400.0])
    truth = np.log(k * (k - 1) / 2) + (k - 2) * np.log(0.8)
    # The other entries are smaller by 2 lambda / k: the norm is larger by about its square.
    yield Outcome("Jordan block: k (k - 1) / 2 rho^(k - 2)", np.exp(found - truth), np.ones(2),
                  2e-3, "the next entries, (1.6 / k)^2 and more")  # fmt: skip
    rate = decay_rate(lag_gain(layer, silence(400, 8))).value
    # d/dk of 2 ln k is 2 / k, over the lags 200 to 399 about 2 / 300.
    yield Outcome("Jordan block: the rate that is fitted", rate, 0.8 * np.exp(2 / 300), 5e-3,
                  "fewer sources reach the longer lags")  # fmt: skip


def positive_relu(rng: Any) -> Outcomes:
    """With positive weights and inputs ReLU is linear."""
    weight = rng.uniform(0.01, 0.3, (5, 5))
    layer = network("rnn_relu", 5, weight_hh=weight, weight_ih=0.5)
    x, g = rng.uniform(0.1, 1.0, (12, 1, 1)), rng.standard_normal(5)
    norms = delta_norms(layer, x, g)[1:]
    truth = [np.linalg.norm(np.linalg.matrix_power(weight.T, 12 - t) @ g) for t in range(1, 13)]
    yield Outcome("positive ReLU network: powers of W", norms, truth, 1e-12, ROUNDED)


def identity_relu(rng: Any) -> Outcomes:
    """With the identity every gradient is handed on."""
    layer = network("rnn_relu", 6, weight_hh=np.eye(6), weight_ih=0.5)
    gain = lag_gain(layer, rng.uniform(0.1, 1.0, (30, 2, 1))).value
    yield Outcome("identity ReLU network: G(k) = 1", gain, np.ones(30), 1e-12, ROUNDED)
