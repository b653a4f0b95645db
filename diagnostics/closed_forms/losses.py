"""Rows of 6.1 on a loss's gradient: a loss at every step, truncation, clipping."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import minirnn
from diagnostics.closed_forms.networks import linear, network, orthogonal, silence
from diagnostics.closed_forms.outcome import ROUNDED, Outcome
from diagnostics.quantities.clip_effect import clip_direction, graph_clipping
from diagnostics.quantities.gradient_flow import gradient_flow
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.truncation import tbptt_error

Outcomes = Iterator[Outcome]


def loss_at_every_step(rng: Any) -> Outcomes:
    """delta_t = (1 - rho^m) / (1 - rho): the ratio 5 hides a gain of 1.5e-6."""
    layer = network(linear, 1, weight_hh=0.8)
    flow = gradient_flow(layer, silence(60), np.ones((60, 1, 1))).value[1:]
    truth = (1 - 0.8 ** np.arange(60, 0, -1)) / 0.2
    yield Outcome("a loss at every step: a series", flow, truth, 1e-13, ROUNDED)
    yield Outcome("its first over its last", flow[0] / flow[-1], 5.0, 2e-6, "rho^60")
    gain = lag_gain(layer, silence(61)).value[60]
    yield Outcome("what it hides", gain, 0.8**60, 1e-13, ROUNDED)


def truncation_of_a_scalar(rng: Any) -> Outcomes:
    """L = h_T: g = sum_j rho^j h_{T-j-1}, of which the last chunk keeps its own steps."""
    layer, x = network(linear, 1, weight_hh=0.9, weight_ih=1.0), rng.standard_normal((20, 1, 1))
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


def truncation_of_any_cell(rng: Any) -> Outcomes:
    """Compare with the gradient of single steps whose state is detached at every border."""
    x, y = rng.standard_normal((8, 2, 3)), rng.standard_normal((8, 2, 4))
    for name in ("rnn", "lstm", "gru"):
        layer = minirnn.Recurrent(name, 3, 4, dtype=np.float64, seed=1)
        whole, cut = _detached(layer, x, y, 8), _detached(layer, x, y, 3)
        truth = np.linalg.norm(cut - whole) / np.linalg.norm(whole)
        found = tbptt_error(layer, x, y, [3, 8]).value
        yield Outcome(f"truncation of {name}: states detached by hand", found, [truth, 0.0], 1e-9,
                      "a difference of gradients, rounded")  # fmt: skip


def _detached(layer: Any, x: Any, y: Any, length: int) -> Any:
    """Return the gradient by all parameters, states detached every `length` steps."""
    state: Any = None
    outputs = []
    for t in range(len(x)):
        if state is not None and t % length == 0:
            parts = state if isinstance(state, tuple) else (state,)
            state = tuple(part.detach() for part in parts)
            state = state if len(state) > 1 else state[0]
        output, state = layer(x[t : t + 1], state)
        outputs.append(output)
    loss = minirnn.mse_loss(minirnn.concat(outputs, dim=0), y)
    grads = minirnn.grad(loss, list(layer.parameters()))
    return np.concatenate([g.numpy().ravel() for g in grads])


def clipping_by_norm(rng: Any) -> Outcomes:
    """Norms: post = pre min(1, c / pre), cosine 1, idempotent, scale-equivariant."""
    for scale in (1.0, 1e9):
        weights = minirnn.Tensor(np.zeros(9), requires_grad=True)
        g, limit = scale * rng.standard_normal(9), 0.5 * scale
        pre = float(np.linalg.norm(g))
        weights.grad = g.copy()
        info = minirnn.clip_grad_norm([weights], limit)
        once = np.array(weights.grad)
        found = clip_direction({"w": g}, {"w": once})
        numbers = [info.norm, found.pre, found.post, found.value]
        truth = [pre, pre, pre * min(1.0, limit / pre), 1.0]
        yield Outcome(f"clipping by norm at {limit:g}: norms, cosine", numbers, truth, 1e-14,
                      "rounding")  # fmt: skip
        minirnn.clip_grad_norm([weights], limit)
        yield Outcome(f"clipping at {limit:g} twice", weights.grad, once, 1e-15, "rounding")


def clipping_inside_the_graph(rng: Any) -> Outcomes:
    """With rho = 1.2 and a loss at the end every delta is scaled to norm 1 before its step back."""
    layer, g = network(linear, 4, weight_hh=1.2 * orthogonal(4, rng)), rng.standard_normal((1, 4))
    d_output = np.zeros((15, 1, 4))
    d_output[-1] = 5 * g / np.linalg.norm(g)
    found = graph_clipping(layer, silence(15), d_output, clip=1.0)
    free = 5 * 1.2 ** np.arange(15, -1, -1)
    yield Outcome("clipping in the graph: without it", found.total_norm, free, 1e-12, ROUNDED)
    held = [1.2] + 15 * [1.0]
    yield Outcome("clipping in the graph: held at c", found.clipped_norm, held, 1e-12, ROUNDED)
