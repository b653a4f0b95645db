"""Networks in float64 with weights chosen by hand, and what the closed forms ask of them."""

from typing import Any

import numpy as np

import minirnn
from diagnostics.quantities.gradient_flow import gradient_flow
from diagnostics.quantities.statistics import Floats

SKEWED = np.array([[0.9, 5.0], [0.0, 0.8]])  # not normal: its powers grow before they shrink


@minirnn.cell(gates="h", state="h")
def linear(wx: Any, u: Any, prev: Any) -> Any:
    """Return the recurrence without a nonlinearity: every Jacobian is U."""
    return wx.h + u.h @ prev.h


def network(made: Any, units: int, **values: Any) -> Any:
    """Make a layer of one input in float64 whose parameters are 0 but for those given."""
    layer = minirnn.Recurrent(made, 1, units, dtype=np.float64, seed=0)
    for name, parameter in layer.named_parameters():
        value = np.zeros(parameter.shape)
        value[...] = values.get(name.removesuffix("_l0"), 0.0)
        parameter.assign(value)
    return layer


def orthogonal(size: int, rng: Any) -> Floats:
    """Draw an orthogonal matrix."""
    return np.asarray(np.linalg.qr(rng.standard_normal((size, size)))[0])


def delta_norms(layer: Any, x: Floats, g: Floats) -> Floats:
    """||delta_t|| by row for a loss at the last step whose gradient there is g.

    x: (T, 1, I).  Returns (T+1,).
    """
    d_output = np.zeros((len(x), 1, layer.hidden_size))
    d_output[-1] = g
    flow = gradient_flow(layer, x, d_output)
    return np.asarray(np.linalg.norm(flow.total["h"][:, 0], axis=-1))


def silence(steps: int, batch: int = 1) -> Floats:
    """Return an input of zeros, (T, B, 1)."""
    return np.zeros((steps, batch, 1))


def logistic(a: Any) -> Any:
    """Sigmoid function, as NumPy computes it."""
    return 1 / (1 + np.exp(-a))


def gated(made: str, gates: int, candidate: int, rng: Any) -> tuple[Any, Floats, Floats]:
    """Make an LSTM or GRU of five units that has a fixed point at 0: its candidate has no bias.

    Returns the layer, weight_hh by gate (G, H, H) and the biases by gate (G, H).
    """
    weights, biases = rng.standard_normal((gates, 5, 5)), rng.standard_normal((gates, 5))
    biases[candidate] = 0
    flat = weights.reshape(gates * 5, 5)
    return network(made, 5, weight_hh=flat, bias_ih=biases.ravel()), weights, biases
