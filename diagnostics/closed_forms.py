"""Networks and maps whose numbers are known on paper, and what the diagnostics say of them.

One function per row of the tables of closed forms; `outcomes` runs them all. What differs by more
than the row's own mathematics allows is a miss.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.clip_effect import clip_direction
from diagnostics.quantities.gradient_flow import gradient_flow
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.linearisation import linearisation
from diagnostics.quantities.loss_scaling import underflow_horizon
from diagnostics.quantities.lyapunov import lyapunov_spectrum
from diagnostics.quantities.numeric_health import numeric_health
from diagnostics.quantities.singular_values import product_bound
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.step_jacobians import step_jacobians
from diagnostics.quantities.timescales import memory_timescales
from diagnostics.quantities.truncation import tbptt_error


@dataclass(frozen=True)
class Outcome:
    """One closed form.

    name: what it is.  found, truth: arrays of one shape.  tolerance: relative to the truth, and
    absolute where the truth is 0; reason: why it is not 0.
    """

    name: str
    found: Any
    truth: Any
    tolerance: float
    reason: str

    @property
    def error(self) -> float:
        """Largest deviation, relative to the largest of 1e-300 and the truth's own entries."""
        found, truth = np.asarray(self.found, np.float64), np.asarray(self.truth, np.float64)
        same = (found == truth) | (np.isnan(found) & np.isnan(truth))
        with np.errstate(invalid="ignore"):
            rest = np.where(same, 0.0, np.abs(found - truth))
        return float(np.max(rest / np.where(truth == 0, 1.0, np.abs(truth)), initial=0.0))

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return bool(self.error <= self.tolerance)


def outcomes(seed: int = 0) -> Iterator[Outcome]:
    """Run every closed form."""
    for row in (_gradients, _gates, _truncation, _numerics, _exponents, _maps):
        yield from row(np.random.default_rng(seed))


@minirnn.cell(gates="h", state="h")
def linear(wx: Any, u: Any, prev: Any) -> Any:
    """Return the recurrence without a nonlinearity: every Jacobian is U."""
    return wx.h + u.h @ prev.h


def _network(made: Any, units: int, **values: Any) -> Any:
    """Make a layer in float64 whose parameters are 0 but for those given."""
    layer = minirnn.Recurrent(made, 1, units, dtype=np.float64)
    for name, parameter in layer.named_parameters():
        value = np.zeros(parameter.shape)
        value[...] = values.get(name.removesuffix("_l0"), 0.0)
        parameter.assign(value)
    return layer


def _orthogonal(size: int, rng: Any) -> Floats:
    return np.asarray(np.linalg.qr(rng.standard_normal((size, size)))[0])


def _deltas(layer: Any, steps: int, g: Floats) -> Floats:
    """||delta_t|| by row for a loss at the last step whose gradient is g."""
    d_output = np.zeros((steps, 1, layer.hidden_size))
    d_output[-1] = g
    flow = gradient_flow(layer, np.zeros((steps, 1, 1)), d_output)
    return np.asarray(np.linalg.norm(flow.total["h"][:, 0], axis=-1))


def _logistic(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


ROUNDED = "rounding, grown over the steps"


def _gradients(rng: Any) -> Iterator[Outcome]:
    q, g = _orthogonal(8, rng), rng.standard_normal(8)
    for made, name in ((linear, "linear"), ("rnn", "tanh at 0")):
        norms = _deltas(_network(made, 8, weight_hh=q), 1000, g)
        truth = np.full(1001, np.linalg.norm(g))
        yield Outcome(f"orthogonal, {name}: delta keeps its norm", norms, truth, 1e-12, ROUNDED)
    values = np.array([1.2, 0.9, 0.5, -0.3, 0.1, 0.7, -0.95, 0.2])
    norms = _deltas(_network(linear, 8, weight_hh=q @ np.diag(values) @ q.T), 30, g)
    lags = np.arange(30, -1, -1)[:, None]
    truth = np.sqrt((values ** (2 * lags) * (q.T @ g) ** 2).sum(axis=1))
    yield Outcome("normal: eigenvalues to the power of the lag", norms, truth, 1e-12, ROUNDED)
    for rho in (0.8, 1.0, 1.05):
        gain = lag_gain(_network(linear, 8, weight_hh=rho * q), np.zeros((60, 2, 1))).value
        truth = rho ** np.arange(60.0)
        yield Outcome(f"{rho} times orthogonal: G(k) = rho^k", gain, truth, 1e-11, ROUNDED)
    skewed = np.array([[0.9, 5.0], [0.0, 0.8]])
    bound = product_bound(_network(linear, 2, weight_hh=skewed), np.zeros((60, 1, 1)))
    truth = np.array([np.linalg.norm(np.linalg.matrix_power(skewed, k), 2) for k in range(61)])
    yield Outcome("non-normal: norms of powers", np.exp(bound.value), truth, 1e-11, ROUNDED)
    flow = gradient_flow(_network(linear, 1, weight_hh=0.8), np.zeros((60, 1, 1)),
                         np.ones((60, 1, 1)))  # fmt: skip
    truth = (1 - 0.8 ** np.arange(60, 0, -1)) / 0.2
    yield Outcome("a loss at every step: a series", flow.value[1:], truth, 1e-13, ROUNDED)


def _gates(rng: Any) -> Iterator[Outcome]:
    x = rng.standard_normal((30, 2, 1))
    for made, gates, gate, inject in (("lstm", 4, 1, "c"), ("gru", 3, 1, "h")):
        biases = np.zeros((gates, 5))
        biases[gate] = 1.0
        layer = _network(made, 5, bias_ih=biases.ravel())
        keeps = float(_logistic(1.0))
        gain = lag_gain(layer, x, inject=inject).value
        truth = keeps ** np.arange(30.0)
        yield Outcome(f"{made} without recurrence: sigma(1)^k", gain, truth, 1e-11, ROUNDED)
        tau = memory_timescales(layer, x).value
        yield Outcome(f"{made}: timescale", tau, -1 / math.log(keeps), 1e-12, ROUNDED)
    weights, biases = rng.standard_normal((4, 5, 5)), rng.standard_normal((4, 5))
    biases[2] = 0
    layer = _network("lstm", 5, weight_hh=weights.reshape(20, 5), bias_ih=biases.ravel())
    i, f, o = (_logistic(biases[k]) for k in (0, 1, 3))
    truth = np.linalg.eigvals(np.diag(f) + np.diag(i) @ weights[2] @ np.diag(o))
    found = np.hypot(*linearisation(layer, np.zeros((3, 1, 1))).eigenvalues.T)[:5]
    truth = np.sort(np.abs(truth))[::-1]
    yield Outcome("LSTM at its zero fixed point: eigenvalues", found, truth, 1e-9, "eigenvalues")
    weights, biases = rng.standard_normal((3, 5, 5)), rng.standard_normal((3, 5))
    biases[2] = 0
    layer = _network("gru", 5, weight_hh=weights.reshape(15, 5), bias_ih=biases.ravel())
    r, z = _logistic(biases[0]), _logistic(biases[1])
    truth = np.diag(z) + np.diag((1 - z) * r) @ weights[2]
    found = step_jacobians(layer, np.zeros((2, 1, 1))).value[1, 0]
    yield Outcome("GRU at its zero fixed point: Jacobian", found, truth, 1e-12, "rounding")
    relu = _network("rnn_relu", 6, weight_hh=np.eye(6), weight_ih=0.5)
    gain = lag_gain(relu, np.abs(x) + 0.1).value
    yield Outcome("identity ReLU network: G(k) = 1", gain, np.ones(30), 1e-12, ROUNDED)


def _truncation(rng: Any) -> Iterator[Outcome]:
    layer = _network(linear, 1, weight_hh=0.9, weight_ih=1.0)
    x = rng.standard_normal((20, 1, 1))
    states = np.zeros(21)
    for t in range(20):
        states[t + 1] = 0.9 * states[t] + x[t, 0, 0]
    terms = 0.9 ** np.arange(20) * states[19::-1]
    chunks = [1, 4, 10, 20]  # whole chunks: the last one has as many steps
    found = tbptt_error(layer, x, x, chunks, loss=lambda out, _: out[-1].sum())
    truth = [abs(terms[k:].sum()) / abs(terms.sum()) for k in chunks]
    values = found.parameters["weight_hh_l0"]
    yield Outcome("truncation of a scalar network: the old terms", values, truth, 1e-11, ROUNDED)
    norm = found.norms["weight_hh_l0"]
    yield Outcome("its whole gradient", norm, abs(terms.sum()), 1e-12, ROUNDED)
    g = rng.standard_normal(9)
    pre = float(np.linalg.norm(g))
    clip = clip_direction({"w": g}, {"w": g * min(1, 0.5 / pre)})
    yield Outcome("clipping by norm: norm, cosine", [clip.post, clip.value], [0.5, 1.0], 1e-14,
                  "rounding")  # fmt: skip


def _numerics(rng: Any) -> Iterator[Outcome]:
    layer = minirnn.Recurrent(linear, 1, 1)
    for parameter in layer.parameters():
        parameter.assign(np.zeros(parameter.shape, np.float32))
    layer.weight_hh_l0.assign(np.full((1, 1), 0.5, np.float32))
    d_output = np.zeros((200, 1, 1), np.float32)
    d_output[-1] = 1
    health = numeric_health(layer, np.zeros((200, 1, 1), np.float32), d_output)
    counts = [np.nansum(health.zero), np.nansum(health.subnormal)]
    yield Outcome("0.5^k in float32: zeros, subnormals", counts, [51, 23], 0.0, "exact")
    horizons = [underflow_horizon(0.5, np.float32, scale=2.0**k) for k in (0, 10)]
    yield Outcome("its horizon, and by a scale of 2^10", horizons, [149, 159], 0.0, "exact")


def _exponents(rng: Any) -> Iterator[Outcome]:
    basis = rng.standard_normal((4, 4))
    matrix = basis @ np.diag([1.3, -0.9, 0.6, 0.2]) @ np.linalg.inv(basis)
    found = lyapunov_spectrum(np.broadcast_to(matrix, (200, 4, 4))).value
    truth = np.log([1.3, 0.9, 0.6, 0.2])
    yield Outcome("constant matrix: ln |eigenvalues|", found, truth, 1e-8, "transient")
    found = lyapunov_spectrum(np.broadcast_to(_orthogonal(6, rng), (100, 6, 6))).value
    yield Outcome("orthogonal matrix: 0", found, np.zeros(6), 1e-13, ROUNDED)
    drawn = rng.standard_normal((50, 2, 5, 5))
    spectrum = lyapunov_spectrum(drawn)
    mean = float(np.linalg.slogdet(drawn)[1].mean())
    yield Outcome("sum of the exponents: ln |det|", spectrum.value.sum(), mean, 1e-10, "QR")
    drawn = rng.standard_normal((4000, 6, 6)) / math.sqrt(6)
    spectrum = lyapunov_spectrum(drawn)
    truth = np.array([0.5 * (math.log(2 / 6) + _digamma((6 - i) / 2)) for i in range(6)])
    yield Outcome("products of random matrices (Newman)", spectrum.value, truth, 0.15,
                  "4000 samples")  # fmt: skip
    h = 0.5
    for _ in range(2000):
        h = math.tanh(1.7 * h)
    slopes = np.full((50, 1, 1), 1.7 * (1 - h * h))
    yield Outcome("tanh(1.7 h) at its fixed point", lyapunov_spectrum(slopes).value, -1.2799,
                  5e-5, "four digits")  # fmt: skip
    singular = np.diag([1.0, 0.5, 0.0])
    found = lyapunov_spectrum(np.broadcast_to(singular, (20, 3, 3))).value
    ends = [0.0, math.log(0.5), -np.inf]
    yield Outcome("a singular matrix: -inf", found, ends, 1e-12, "rounding")


def _maps(rng: Any) -> Iterator[Outcome]:
    cat = np.broadcast_to(np.array([[2.0, 1.0], [1.0, 1.0]]), (100, 2, 2))
    golden = math.log((3 + math.sqrt(5)) / 2)
    yield Outcome("cat map", lyapunov_spectrum(cat).value, [golden, -golden], 1e-12, ROUNDED)
    x, slopes = 0.3123, np.empty((20_000, 1, 1))
    for t in range(len(slopes)):
        slopes[t] = 4 - 8 * x
        x = 4 * x * (1 - x)
    found = lyapunov_spectrum(slopes, every=50).value
    yield Outcome("logistic map at 4: ln 2", found, math.log(2), 0.015, "20000 steps")
    x, y, jacobians = 0.1, 0.1, np.empty((4000, 2, 2))
    for t in range(len(jacobians)):
        jacobians[t] = [[-2.8 * x, 1.0], [0.3, 0.0]]
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    found = lyapunov_spectrum(jacobians).value
    yield Outcome("Henon map: ln 0.3", found.sum(), math.log(0.3), 1e-12, ROUNDED)
    yield Outcome("Henon map: first exponent", found[0], 0.419, 0.05, "4000 steps of chaos")


def _digamma(x: float) -> float:
    """Digamma function: recurrence up to 8, then the asymptotic series."""
    shift = 0.0
    while x < 8:
        shift, x = shift - 1 / x, x + 1
    f = 1 / (x * x)
    return shift + math.log(x) - 0.5 / x - f * (1 / 12 - f * (1 / 120 - f / 252))
