"""Rows of 6.2 on matrices and networks: Lyapunov exponents that are known on paper."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import minirnn
from diagnostics.closed_forms.networks import gated, logistic, network, orthogonal, silence
from diagnostics.closed_forms.outcome import ROUNDED, Outcome
from diagnostics.quantities.lyapunov import lyapunov_spectrum
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.step_jacobians import step_jacobians

Outcomes = Iterator[Outcome]
TURNING = "complex pairs turn for ever: 1 / steps"


def _repeated(matrix: Floats, steps: int) -> Floats:
    return np.broadcast_to(matrix, (steps, *matrix.shape))


def constant_matrix(rng: Any) -> Outcomes:
    """Its exponents are ln |eigenvalues|; where one is 0, -inf."""
    basis = rng.standard_normal((4, 4))
    matrix = basis @ np.diag([1.3, -0.9, 0.6, 0.2]) @ np.linalg.inv(basis)
    found = lyapunov_spectrum(_repeated(matrix, 200)).value
    truth = np.log([1.3, 0.9, 0.6, 0.2])
    yield Outcome("constant matrix: ln |eigenvalues|", found, truth, 1e-8, "transient")
    found = lyapunov_spectrum(_repeated(np.diag([1.0, 0.5, 0.0]), 20)).value
    ends = [0.0, math.log(0.5), -np.inf]
    yield Outcome("a singular matrix: -inf", found, ends, 1e-12, "rounding")


def orthogonal_exponents(rng: Any) -> Outcomes:
    """All 0."""
    found = lyapunov_spectrum(_repeated(orthogonal(6, rng), 100)).value
    yield Outcome("orthogonal matrix: 0", found, np.zeros(6), 1e-13, ROUNDED)


def log_determinant(rng: Any) -> Outcomes:
    """Any sequence: the exponents sum to the mean of ln |det J_t|, exactly."""
    drawn = rng.standard_normal((50, 2, 5, 5))
    mean = float(np.linalg.slogdet(drawn)[1].mean())
    found = lyapunov_spectrum(drawn).value.sum()
    yield Outcome("sum of the exponents: ln |det|", found, mean, 1e-10, "QR")


def random_matrices(rng: Any) -> Outcomes:
    """Newman's exponents: (ln 2 s^2 + psi((n - i + 1) / 2)) / 2."""
    found = lyapunov_spectrum(rng.standard_normal((4000, 6, 6)) / math.sqrt(6)).value
    yield Outcome("products of random matrices (Newman)", found, newman(6, 1 / 6), 0.15,
                  "4000 samples")  # fmt: skip


def intervals_hold_the_truth(rng: Any) -> Outcomes:
    """In 95 of 100 runs; the binomial spread of 200 is 1.5%, three of them are allowed."""
    truth, hits = newman(2, 0.5), np.zeros(2)
    for _ in range(200):
        drawn = rng.standard_normal((32, 8, 2, 2)) * math.sqrt(0.5)
        ci = lyapunov_spectrum(drawn, warmup=4).ci
        hits += (ci[:, 0] < truth) & (truth < ci[:, 1])
    yield Outcome("95% intervals, 200 runs", hits / 200, [0.95, 0.95], 0.046 / 0.95,
                  "three standard deviations of 200 runs")  # fmt: skip


def newman(size: int, variance: float) -> Floats:
    """Exponents of products of matrices with independent normal entries (Newman 1986)."""
    return np.array([0.5 * (math.log(2 * variance) + _digamma((size - i) / 2))
                     for i in range(size)])  # fmt: skip


def _digamma(x: float) -> float:
    """Digamma function: recurrence up to 8, then the asymptotic series."""
    shift = 0.0
    while x < 8:
        shift, x = shift - 1 / x, x + 1
    f = 1 / (x * x)
    return shift + math.log(x) - 0.5 / x - f * (1 / 12 - f * (1 / 120 - f / 252))


def scalar_tanh(rng: Any) -> Outcomes:
    """H = tanh(1.7 h) at its fixed point: ln(w (1 - h*^2)) = -1.2799."""
    h = 0.5
    for _ in range(2000):
        h = math.tanh(1.7 * h)
    layer = network("rnn", 1, weight_hh=1.7)
    with minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(silence(100), np.full((1, 1, 1), h))
    truth = math.log(1.7 * (1 - h * h))
    found = lyapunov_spectrum(seen.step_jacobians()).value
    yield Outcome("tanh(1.7 h) at its fixed point", found, truth, 1e-10, ROUNDED)
    yield Outcome("tanh(1.7 h): the number", truth, -1.2799, 4e-5, "five digits")


def contracting_tanh(rng: Any) -> Outcomes:
    """Without input a tanh network rests at 0: ln |eig W|, the largest near ln g."""
    weight = 0.8 * rng.standard_normal((40, 40)) / math.sqrt(40)
    found = lyapunov_spectrum(network("rnn", 40, weight_hh=weight), silence(500), k=5).value
    truth = np.sort(np.log(np.abs(np.linalg.eigvals(weight))))[::-1][:5]
    yield Outcome("tanh network at rest: ln |eig W|", np.exp(found - truth), np.ones(5), 5e-3,
                  TURNING)  # fmt: skip
    yield Outcome("its largest: the circular law", np.exp(found[0]), 0.8, 0.3,
                  "the radius of 40 units spreads by a tenth")  # fmt: skip


def gated_fixed_points(rng: Any) -> Outcomes:
    """LSTM and GRU at 0: ln |eigenvalues| over the full state; of an LSTM H are -inf."""
    layer, weights, biases = gated("lstm", 4, 2, rng)
    i, f, o = (logistic(biases[k]) for k in (0, 1, 3))
    truth = _log_moduli(np.diag(f) + np.diag(i) @ weights[2] @ np.diag(o))
    found = lyapunov_spectrum(layer, silence(400)).value
    yield Outcome("LSTM at its zero fixed point: exponents", np.exp(found[:5] - truth), np.ones(5),
                  5e-3, TURNING)  # fmt: skip
    yield Outcome("LSTM: the other half", found[5:], np.full(5, -np.inf), 0.0, "exact")
    layer, weights, biases = gated("gru", 3, 2, rng)
    r, z = logistic(biases[0]), logistic(biases[1])
    truth = _log_moduli(np.diag(z) + np.diag((1 - z) * r) @ weights[2])
    found = lyapunov_spectrum(layer, silence(400)).value
    yield Outcome("GRU at its zero fixed point: exponents", np.exp(found - truth), np.ones(5), 5e-3,
                  TURNING)  # fmt: skip


def _log_moduli(matrix: Floats) -> Floats:
    return np.sort(np.log(np.abs(np.linalg.eigvals(matrix))))[::-1]


def cell_state_counts(rng: Any) -> Outcomes:
    """With f = 0.95 the full state of an LSTM remembers; h with c frozen must say otherwise."""
    weights, biases = 0.1 * rng.standard_normal((4, 5, 5)), np.zeros((4, 5))
    biases[1] = math.log(0.95 / 0.05)
    layer = network("lstm", 5, weight_hh=weights.reshape(20, 5), bias_ih=biases.ravel())
    truth = _log_moduli(np.diag(logistic(biases[1])) + 0.25 * weights[2])[0]
    whole = lyapunov_spectrum(layer, silence(400)).value[0]
    yield Outcome("LSTM, f = 0.95: first exponent", np.exp(whole - truth), 1.0, 2e-3, TURNING)
    jacobians = step_jacobians(layer, silence(400)).value[:, :, :5, :5]
    frozen = _log_moduli(0.25 * weights[2])[0]
    alone = lyapunov_spectrum(jacobians).value[0]
    # Far below the truth, as it must be: the published code left c out.
    yield Outcome("LSTM, c frozen: what it would say", np.exp(alone - frozen), 1.0, 2e-2, TURNING)
    yield Outcome("LSTM, c frozen: not the truth", float(alone < truth - 1.5), 1.0, 0.0, "exact")


def fewer_exponents(rng: Any) -> Outcomes:
    """Ask for the first k: they are those of a full run."""
    drawn = rng.standard_normal((400, 2, 6, 6)) / math.sqrt(6)
    whole, first = lyapunov_spectrum(drawn), lyapunov_spectrum(drawn, k=2, seed=1)
    apart = first.value - whole.value[:2]
    yield Outcome("the first two of six", apart, np.zeros(2), 1e-6, "another start, forgotten fast")


def rarer_decompositions(rng: Any) -> Outcomes:
    """Decomposing every q steps agrees."""
    drawn = rng.standard_normal((200, 2, 5, 5)) / math.sqrt(5)
    often = lyapunov_spectrum(drawn).value
    for every in (2, 7, 50):
        apart = lyapunov_spectrum(drawn, every=every).value - often
        yield Outcome(f"QR every {every} steps", apart, np.zeros(5), 1e-6,
                      "directions within a block differ by many decades")  # fmt: skip
