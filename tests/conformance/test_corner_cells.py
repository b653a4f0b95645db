"""Cells at the edges of the language: each is one way in which a recurrence can be unusual."""

import numpy as np
import pytest

import minirnn
from minirnn import abs as absolute
from minirnn import (
    cell,
    clip,
    exp,
    layer_norm,
    maximum,
    mean,
    minimum,
    relu,
    sigmoid,
    stop,
    tanh,
    where,
)
from tests.conformance import harness
from tests.conformance.checks import CHECKS, one_and_two_threads_agree_bit_for_bit
from tests.conformance.watching import WATCH_CHECKS
from tests.matrix import FULL_MATRIX
from tests.strategies import Case


@cell(gates="h", state="hc")
def two_states_of_one_value(wx, u, prev):
    h = tanh(wx.h + u.h @ prev.h + 0.1 * prev.c)
    return h, h


@cell(gates="h", state="hab")
def delay_line(wx, u, prev):
    """States that hand on what another was, and the output two steps late."""
    return prev.a, prev.b, tanh(wx.h + u.h @ prev.h)


@cell(gates="h", state="hk")
def constant_state(wx, u, prev):
    return tanh(wx.h + u.h @ prev.h + prev.k), 0.25


@cell(gates="hz", products="h", state="h")
def gate_without_a_product(wx, u, prev):
    z = sigmoid(wx.z)
    return prev.h + z * (tanh(wx.h + u.h @ prev.h) - prev.h)


@cell(gates="nf", products="", state="h")
def no_product_at_all(wx, u, prev):
    """A recurrence unit by unit, as in SRU and QRNN."""
    f = sigmoid(wx.f)
    return f * prev.h + (1 - f) * wx.n


@cell(gates="hx", products="hxy", state="h", vectors=("v",))
def products_of_what_no_step_computed(wx, u, prev, p):
    return tanh(wx.h + u.h @ prev.h + u.x @ wx.x + u.y @ p.v)


@cell(gates="abc", state="hm")
def three_stages(wx, u, prev):
    a = tanh(wx.a + u.a @ (prev.h + prev.m))
    b = tanh(wx.b + u.b @ a)
    c = sigmoid(wx.c + u.c @ (a * b))
    return b + c * (prev.h - b), a


@cell(gates="h", state="h")
def linear(wx, u, prev):
    return wx.h + 0.5 * (u.h @ prev.h)


@cell(gates="hz", state="h")
def gate_in_a_condition_only(wx, u, prev):
    """No derivative passes through the condition: z has gradient 0."""
    return where(wx.z + u.z @ prev.h > 0, tanh(wx.h + u.h @ prev.h), 0.5 * prev.h)


@cell(gates="hr", state="h", unused="r")
def declared_unused(wx, u, prev):
    return tanh(wx.h + u.h @ prev.h)


@cell(gates="hg", state="h")
def stopped(wx, u, prev):
    g = sigmoid(wx.g + u.g @ stop(prev.h))
    return stop(g) * prev.h + (1 - g) * tanh(wx.h + u.h @ prev.h)


@cell(gates="ab", state="h")
def powers_and_kinks(wx, u, prev):
    a, b = wx.a + u.a @ prev.h, wx.b + u.b @ prev.h
    y = maximum(a, 0.3) ** 0.5 - minimum(b, a) ** 2 / 4 + 1 / (1 + absolute(b))
    return clip(relu(y) - (2 + exp(-a)) ** -1, -0.9, 0.9) + 0.1 * -prev.h


@cell(gates="ih", state="hc", vectors={"gain": 1.0, "shift": 0.0})
def normalised(wx, u, prev, p):
    """Means over the units in several stages, of gates and of a state."""
    i = sigmoid(p.gain * layer_norm(wx.i + u.i @ prev.h) + p.shift)
    c = prev.c + i * tanh(wx.h + u.h @ prev.h)
    return tanh(layer_norm(c)) - mean(i), c


@cell(gates="h", state="h", constants={"period": (1, 2, 3)}, upper="h")
def clockwork(wx, u, prev, p, t):
    return where(t % p.period < 1, tanh(wx.h + u.h @ prev.h), prev.h)


@cell(gates="fgd", products="fg", state="hc", vectors=("w",))
def fed_from_below(wx, u, prev, p, below):
    d = sigmoid(wx.d + p.w * below.c)
    f = sigmoid(wx.f + u.f @ prev.h)
    c = f * prev.c + (1 - f) * tanh(wx.g + u.g @ prev.h) + d * below.c
    return tanh(c + 0.1 * below.h), c


CORNERS = [
    two_states_of_one_value,
    delay_line,
    constant_state,
    no_product_at_all,
    products_of_what_no_step_computed,
    gate_in_a_condition_only,
    powers_and_kinks,
]
# A cell of the registry is unusual in the same way.
LIKE_REGISTERED = [
    gate_without_a_product,
    three_stages,
    linear,
    declared_unused,
    stopped,
    normalised,
    clockwork,
    fed_from_below,
]
# Two threads want a large layer, which is another compilation.
THREADS = (one_and_two_threads_agree_bit_for_bit,) if FULL_MATRIX else ()
CHECKS_HERE = CHECKS + WATCH_CHECKS + THREADS
CASES = [
    Case(T=5, B=4, I=3, H=9, L=2, bidirectional=True, seed=7),
    Case(T=6, B=5, I=2, H=17, L=1, lengths=(6, 0, 3, 5, 1), seed=8),
]


@pytest.mark.parametrize(
    "corner",
    [*CORNERS, *(pytest.param(c, marks=pytest.mark.conformance) for c in LIKE_REGISTERED)],
    ids=lambda c: c.name,
)
def test_an_unusual_cell_conforms(corner):
    for case in CASES:
        for check in CHECKS_HERE:
            check(corner, case, "float64")


def test_an_unused_gate_has_zero_gradients_and_no_record():
    layer = harness.build(declared_unused, CASES[0])
    data = harness.draw(layer, CASES[0])
    results = harness.run(layer, data)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        _, of_r = np.split(results[f"d {name}"], 2)
        assert not of_r.any()
    with minirnn.watch(layer) as seen:
        layer(data.x)
    assert set(seen[0, 0].gates) == {"h"}


def test_a_triangular_block_is_zero_outside_and_so_is_its_gradient():
    layer = harness.build(clockwork, CASES[1])
    module = np.arange(CASES[1].H) * 3 // CASES[1].H
    outside = module[:, None] > module[None, :]  # module a reads modules b >= a
    assert outside.any()
    assert not layer.weight_hh_l0.numpy()[outside].any()
    assert (layer.weight_hh_l0.numpy()[~outside] != 0).all()
    results = harness.run(layer, harness.draw(layer, CASES[1]))
    assert not results["d weight_hh_l0"][outside].any()
    assert results["d weight_hh_l0"][~outside].any()
    weights = layer.state_dict()
    weights["weight_hh_l0"][outside] = 1.0
    with pytest.raises(ValueError, match=r"weight_hh_l0"):
        layer.load_state_dict(weights)
