"""What is measured of a cell of a user's own, against autodiff on plain steps, one at a time.

The cell has two stages and two states. Here its step is written a second time, on Tensors; deltas
and shares of the gradient are put together from vector-Jacobian products of single steps.
"""

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from minirnn import cell, sigmoid, tanh
from minirnn.layers.reference import use_reference

STEPS, BATCH, INPUTS, UNITS = 7, 3, 2, 4
# Sums of a few products per step, over seven steps, in another order.
CLOSE = {"rtol": 1e-10, "atol": 1e-13}


@cell(gates="zn", state="hm", vectors=("v",))
def two_stages(wx, u, prev, p):
    z = sigmoid(wx.z + u.z @ prev.h)
    n = tanh(wx.n + u.n @ (z * prev.h) + p.v * prev.m)
    m = prev.m + z * (n - prev.m)
    return tanh(m) * (1 - 0.5 * z), m


def step(x, h, m, p):
    """The same, by hand.  x: (B, I), h and m: (B, H), p: parameters by name, Tensors."""
    wx = minirnn.matmul(x, p["weight_ih"].T) + p["bias_ih"]
    u_z, u_n = p["weight_hh"][:UNITS], p["weight_hh"][UNITS:]
    b_z, b_n = p["bias_hh"][:UNITS], p["bias_hh"][UNITS:]
    z = minirnn.sigmoid(wx[:, :UNITS] + h @ u_z.T + b_z)
    n = minirnn.tanh(wx[:, UNITS:] + (z * h) @ u_n.T + b_n + p["vector_v"] * m)
    m = m + z * (n - m)
    return minirnn.tanh(m) * (1 - 0.5 * z), m


class Run:
    """A layer, a run of it by hand, and single steps back."""

    def __init__(self, rng, scale=1.0):
        self.layer = minirnn.Recurrent(two_stages, INPUTS, UNITS, dtype="float64", seed=3)
        for name, parameter in self.layer.named_parameters():
            if name.startswith(("weight", "vector")):
                parameter.assign(scale * rng.normal(size=parameter.shape))
        self.p = {k.removesuffix("_l0"): v for k, v in self.layer.state_dict().items()}
        self.x = rng.normal(size=(STEPS, BATCH, INPUTS))
        self.d = rng.normal(size=(STEPS, BATCH, UNITS))
        self.states = self.forward()

    def forward(self):
        """The states before and after every step: T + 1 pairs (h, m)."""
        states = [(np.zeros((BATCH, UNITS)),) * 2]
        for t in range(STEPS):
            states.append(tuple(s.numpy() for s in self.taken(t, states[t])[1]))
        return states

    def taken(self, t, state):
        """Step t from a state, with leaves of its own: (leaves, (h, m))."""
        leaves = {k: minirnn.Tensor(v, requires_grad=True) for k, v in self.p.items()}
        leaves |= {
            k: minirnn.Tensor(v, requires_grad=True) for k, v in zip("hm", state, strict=True)
        }
        return leaves, step(minirnn.Tensor(self.x[t]), leaves["h"], leaves["m"], leaves)

    def back(self, t, delta):
        """Carry delta, of both states, one step back: (delta before, parameters' gradients)."""
        leaves, (h, m) = self.taken(t, self.states[t])
        value = (h * delta[0] + m * delta[1]).sum()
        found = minirnn.grad(value, list(leaves.values()))
        by_name = {k: g.numpy() for k, g in zip(leaves, found, strict=True)}
        return (by_name.pop("h"), by_name.pop("m")), by_name

    def sweep(self, d, clip=None):
        """All steps back.  d: (T, B, H).  Returns delta (T+1, 2, B, H) and gradients by step."""
        delta, grads = np.zeros((STEPS + 1, 2, BATCH, UNITS)), []
        for t in reversed(range(STEPS)):
            delta[t + 1, 0] += d[t]
            if clip is not None:
                norm = np.sqrt(np.square(delta[t + 1]).sum(axis=(0, 2)))
                delta[t + 1] *= np.minimum(1, clip / norm)[:, None]
            delta[t], by_name = self.back(t, delta[t + 1])
            grads.insert(0, by_name)
        return delta, grads


@pytest.fixture(scope="module")
def run():
    with use_reference():
        return Run(np.random.default_rng(20261120))


def norms(delta):
    """Norm of both states together: (T+1, 2, B, H) to (T+1, B)."""
    return np.sqrt(np.square(delta).sum(axis=(1, 3)))


def size(grads):
    """Norm of several gradients together."""
    return np.sqrt(sum(np.square(g).sum() for g in grads))


def test_the_step_by_hand_is_that_of_the_layer(run):
    with use_reference(), minirnn.no_grad():
        h, _ = run.layer(run.x)
    np.testing.assert_allclose(h.numpy(), [state[0] for state in run.states[1:]], **CLOSE)


def test_credit_is_the_norm_of_each_steps_own_gradient(run):
    with use_reference():
        found = dg.credit(run.layer, run.x, run.d)
    _, grads = run.sweep(run.d)
    np.testing.assert_allclose(found.value, [size(g.values()) for g in grads], **CLOSE)
    total = {k: sum(g[k] for g in grads) for k in grads[0]}
    assert found.coherence == pytest.approx(size(total.values()) / found.value.sum(), rel=1e-10)
    parts = {"z": slice(0, UNITS), "n": slice(UNITS, None)}
    for k, rows in parts.items():
        of_gate = [size(g[name][rows] for name in g if name != "vector_v") for g in grads]
        np.testing.assert_allclose(found.gates[k], of_gate, **CLOSE)
    np.testing.assert_allclose(found.gates["v"], [size([g["vector_v"]]) for g in grads], **CLOSE)


def test_the_influence_map_is_one_sweep_for_every_single_loss(run):
    with use_reference():
        found = dg.influence_map(run.layer, run.x, run.d)
    assert found.sources.tolist() == list(range(1, STEPS + 1))
    total = np.zeros((STEPS + 1, 2, BATCH, UNITS))
    for row, source in zip(found.value, found.sources, strict=True):
        alone = np.zeros_like(run.d)
        alone[source - 1] = run.d[source - 1]
        delta, _ = run.sweep(alone)
        np.testing.assert_allclose(row, np.median(norms(delta), axis=1), **CLOSE)
        assert (row[: source + 1] > 0).all() and not row[source + 1 :].any()
        total += delta
    for place, k in enumerate("hm"):
        np.testing.assert_allclose(found.summed[k], total[:, place], **CLOSE)


@pytest.mark.parametrize("clip", [0.5, 2.5])
def test_clipping_in_the_graph_scales_every_delta_before_it_steps_back(run, clip):
    with use_reference():
        found = dg.graph_clipping(run.layer, run.x, run.d, clip)
    (free, grads), (held, clipped) = run.sweep(run.d), run.sweep(run.d, clip)
    np.testing.assert_allclose(found.total_norm, np.median(norms(free), axis=1), **CLOSE)
    np.testing.assert_allclose(found.clipped_norm, np.median(norms(held), axis=1), **CLOSE)
    flat = [np.concatenate([sum(g[k] for g in some).ravel() for k in run.p])
            for some in (grads, clipped)]  # fmt: skip
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert found.value == pytest.approx(cosine, rel=1e-10) and cosine < 0.9999
    at_limit = norms(held)[1:] > clip * (1 - 1e-12)
    assert found.fraction == at_limit.mean() and 0 < at_limit.mean()
    assert (at_limit.mean() < 1) == (clip > 1)


def test_numeric_health_counts_what_left_the_range_of_every_delta():
    """A loss of 1e-306 at the end, halved at every step back by m, and far smaller on h.

    No product reads the last unit's h: what it gets back is exactly 0.
    """
    with use_reference():
        run = Run(np.random.default_rng(5), scale=0.1)
        run.p["weight_hh"][:, -1] = 0
        run.layer.weight_hh_l0.assign(run.p["weight_hh"])
        d = np.zeros((STEPS, BATCH, UNITS))
        d[-1] = 1e-306 * run.d[-1]
        d[:, 1] = 0
        d[2, 1] = run.d[2, 1]  # the second sequence has its only loss at step 2, of usual size
        found = dg.numeric_health(run.layer, run.x, d)
        run.states = run.forward()
        delta, _ = run.sweep(d)
    tiny, last = np.finfo(np.float64).tiny, np.array([STEPS, 3, STEPS])
    vanished = []
    for row in range(STEPS):
        judged = delta[row][:, row < last]
        small = np.abs(judged) < tiny
        assert found.zero[row] == (judged == 0).mean() > 0
        assert found.subnormal[row] == (small & (judged != 0)).mean()
        assert found.nonfinite[row] == 0
        vanished.append(small.mean() > 0.5)
    assert np.isnan(found.zero[STEPS]) and found.value == np.mean(vanished)
    assert found.first_vanished == np.flatnonzero(vanished)[-1] < STEPS - 1
    assert len(set(found.subnormal[:STEPS])) > 3  # they leave one by one
