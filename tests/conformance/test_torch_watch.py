"""Every record of ``watch`` against ``retain_grad`` in a loop of PyTorch operations."""

import numpy as np
import pytest

import minirnn
from minirnn import cell, sigmoid, tanh
from tests.conformance import harness
from tests.strategies import Case

pytestmark = pytest.mark.torch
BOUND = 1e-10  # of the project, relative to each array's largest entry
CASE = Case(T=7, B=5, I=3, H=6, seed=11)


@cell(gates="ab", state="hcm", vectors=("v",))
def three_states(wx, u, prev, p):
    """Two stages, a vector, and states that use each other inside the step."""
    a = sigmoid(wx.a + u.a @ prev.h + p.v * prev.m)
    b = tanh(wx.b + u.b @ (a * prev.c))
    c = a * prev.c + (1 - a) * b
    m = tanh(0.5 * prev.m + c * b)
    return m * tanh(c), c, m


class Loop:
    """A loop over single steps that keeps the gradient of everything ``watch`` records."""

    def __init__(self, torch, weights):
        self.torch = torch
        self.w = {k: torch.tensor(v, requires_grad=True) for k, v in weights.items()}
        self.kept = {}

    def keep(self, record, name, value):
        """Append a value to a record and ask for its gradient."""
        value = value * 1.0  # a node of its own
        value.retain_grad()
        self.kept.setdefault((record, name), []).append(value)
        return value

    def project(self, x, gates):
        """The input's share of every gate."""
        a = x @ self.w["weight_ih"].T + self.w["bias_ih"]
        parts = zip(gates, a.chunk(len(gates), -1), strict=True)
        return {k: self.keep("wx", k, part) for k, part in parts}

    def product(self, block, blocks, v):
        """``u.k @ v``."""
        j, units = blocks.index(block), v.shape[-1]
        rows = slice(j * units, (j + 1) * units)
        return self.keep("u", block, v @ self.w["weight_hh"][rows].T + self.w["bias_hh"][rows])

    def gate(self, name, value):
        """Note an activation."""
        return self.keep("gates", name, value)

    def run(self, step, names, x, state0, d_output, d_state):
        """Run one sequence.  x: (T, I).  state0, d_state: dicts of (H,).  d_output: (T, H)."""
        torch = self.torch
        self.kept = {}
        value = {k: torch.tensor(v, requires_grad=True) for k, v in state0.items()}
        carried = {}
        for k in names:
            value[k] = self.keep("states", k, value[k])
            carried[k] = self.keep("carried", k, value[k])
        loss = 0.0
        for x_t, d_t in zip(torch.tensor(x), torch.tensor(d_output), strict=True):
            # A state's value feeds the other states of its step; its copy feeds all that is later.
            value = step(self, x_t, carried)
            carried = {k: self.keep("carried", k, value[k]) for k in names}
            loss = loss + (carried[names[0]] * d_t).sum()
        for k in names:
            loss = loss + (carried[k] * torch.tensor(d_state[k])).sum()
        loss.backward()

    def values(self, record, name):
        return np.stack([v.detach().numpy() for v in self.kept[record, name]])

    def grads(self, record, name):
        kept = self.kept[record, name]
        return np.stack([(v.grad if v.grad is not None else v.detach() * 0).numpy() for v in kept])


def lstm_step(loop, x, prev):
    wx = loop.project(x, "ifgo")
    a = {k: wx[k] + loop.product(k, "ifgo", prev["h"]) for k in "ifgo"}
    i, f, o = (loop.gate(k, loop.torch.sigmoid(a[k])) for k in "ifo")
    g = loop.gate("g", loop.torch.tanh(a["g"]))
    c = loop.keep("states", "c", f * prev["c"] + i * g)
    return {"h": loop.keep("states", "h", o * loop.torch.tanh(c)), "c": c}


def three_states_step(loop, x, prev):
    torch = loop.torch
    wx = loop.project(x, "ab")
    peephole = loop.w["vector_v"] * prev["m"]
    a = loop.gate("a", torch.sigmoid(wx["a"] + loop.product("a", "ab", prev["h"]) + peephole))
    b = loop.gate("b", torch.tanh(wx["b"] + loop.product("b", "ab", a * prev["c"])))
    c = loop.keep("states", "c", a * prev["c"] + (1 - a) * b)
    m = loop.keep("states", "m", torch.tanh(0.5 * prev["m"] + c * b))
    return {"h": loop.keep("states", "h", m * torch.tanh(c)), "c": c, "m": m}


def expected_records(torch, layer, step, data, lengths):
    """Every record from loops over the rows of the batch, one by one and cut to their lengths."""
    equations = layer.cell
    names, gates, blocks = equations.state, equations.gates, equations.products
    weights = harness.parameters(layer)
    wanted = {}

    def put(record, name, rows, b, tail=0.0):
        shape = (CASE.T + (record in ("states", "state_grads", "carried_grads")), CASE.B, CASE.H)
        array = wanted.setdefault((record, name), np.zeros(shape))
        array[: len(rows), b] = rows
        array[len(rows) :, b] = tail

    for b, n in enumerate(lengths):
        loop = Loop(torch, weights)
        state0 = {k: s[0, b] for k, s in zip(names, data.state0, strict=True)}
        d_state = {k: d[0, b] for k, d in zip(names, data.d_state, strict=True)}
        loop.run(step, names, data.x[:n, b], state0, data.d_output[:n, b], d_state)
        for k in names:
            put("states", k, loop.values("states", k), b, loop.values("states", k)[-1])
            put("state_grads", k, loop.grads("states", k), b)
            put("carried_grads", k, loop.grads("carried", k), b)
        for k in gates:
            put("gates", k, loop.values("gates", k), b)
            put("gate_grads", k, loop.grads("wx", k), b)
        for k in blocks:
            put("recurrent_gate_grads", k, loop.grads("u", k), b)
    return wanted


@pytest.mark.parametrize("lengths", [(7,) * 5, (7, 1, 4, 6, 3)], ids=["full", "lengths"])
@pytest.mark.parametrize(
    ("of", "step"), [("lstm", lstm_step), (three_states, three_states_step)], ids=["lstm", "three"]
)
def test_every_record_equals_retain_grad_in_a_loop(torch, of, step, lengths):
    layer = harness.build(of, CASE)
    data = harness.draw(layer, CASE)
    with minirnn.watch(layer) as seen:
        harness.run(layer, data, None if min(lengths) == CASE.T else lengths)
    wanted = expected_records(torch, layer, step, data, lengths)
    for (record, name), value in wanted.items():
        harness.assert_close(getattr(seen, record)[name], value, BOUND, f"{record}[{name}]")


def test_pullback_equals_a_loop_with_other_cotangents(torch):
    layer = harness.build(three_states, CASE)
    data = harness.draw(layer, CASE)
    with minirnn.watch(layer) as seen:
        harness.run(layer, data)
    other = harness.draw(layer, Case(T=CASE.T, B=CASE.B, I=CASE.I, H=CASE.H, seed=12))
    swapped = harness.Data(data.x, data.state0, other.d_output, other.d_state)
    wanted = expected_records(torch, layer, three_states_step, swapped, (CASE.T,) * CASE.B)
    record = seen.pullback(d_output=other.d_output, d_state=tuple(d[0] for d in other.d_state))
    for (kind, name), value in wanted.items():
        if kind.endswith("grads"):
            harness.assert_close(getattr(record, kind)[name], value, BOUND, f"{kind}[{name}]")
