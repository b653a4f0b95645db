"""Cells and steps explained: the text is executed, and must give what the library computes."""

import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given

import minirnn
from minirnn import cell, exp, mean, sigmoid, stop, tanh
from minirnn.equations.explain import kept
from minirnn.equations.naming import lines
from minirnn.equations.plan import plan
from minirnn.layers.reference import use_reference
from tests.conformance.test_corner_cells import CORNERS
from tests.strategies import programs

INPUTS, UNITS = 3, 4

RNN = """\
rnn
  states  h
  gates   h

Equations (every product has its bias)
  h = tanh(wx.h + u.h @ prev.h)

Derivatives (of the loss; dh arrives from the output and from the step after)
  dwx.h = du.h = dh * (1 - h**2)
  dprev.h = u.h.T @ du.h

Gradients of parameters (sums over steps and sequences; a bias has no factor)
  dW.k = sum of dwx.k x_t^T    k = h
  dU.k = sum of du.k prev.h^T  k = h

Kept for the backward pass (one vector a step each, beside the input)
  h, a state  for dwx.h, dU.h

Stages (products or means of what is known, then equations)
  1         u.h @ prev.h; then h
  backward  1 stage, with the blocks transposed

Cost of a step (B sequences, I inputs, H units, b bytes a number)
  forward   2 B H (I + H) flops in products, 2 operations a unit
  backward  4 B H (I + H) flops in products, 3 operations a unit
  training  6 B H (I + H) flops in products
  weights   H^2 b bytes forward and again backward, read once for all sequences
  kept      B H b + B I b bytes, as listed
  working   2 B H b bytes: input products, and the derivatives of both products
"""

LSTM = """\
lstm
  states  h c
  gates   i f g o

Equations (every product has its bias)
  i = sigmoid(wx.i + u.i @ prev.h)
  f = sigmoid(wx.f + u.f @ prev.h)
  g = tanh(wx.g + u.g @ prev.h)
  o = sigmoid(wx.o + u.o @ prev.h)
  c = f * prev.c + i * g
  h = o * tanh(c)

Derivatives (of the loss; dh dc arrive from the output and from the step after)
  dc += dh * o * (1 - tanh(c)**2)
  do = dh * tanh(c)
  dwx.o = du.o = do * o * (1 - o)
  dg = dc * i
  dwx.g = du.g = dg * (1 - g**2)
  df = dc * prev.c
  dwx.f = du.f = df * f * (1 - f)
  di = dc * g
  dwx.i = du.i = di * i * (1 - i)
  dprev.h = u.i.T @ du.i + u.f.T @ du.f + u.g.T @ du.g + u.o.T @ du.o
  dprev.c = dc * f

Gradients of parameters (sums over steps and sequences; a bias has no factor)
  dW.k = sum of dwx.k x_t^T    k = i f g o
  dU.k = sum of du.k prev.h^T  k = i f g o

Kept for the backward pass (one vector a step each, beside the input)
  o           for dc, dwx.o
  tanh(c)     for dc, do
  g           for dwx.g, di
  i           for dg, dwx.i
  f           for dwx.f, dprev.c
  h, a state  for dU.i, dU.f, dU.g, dU.o
  c, a state  for df

Stages (products or means of what is known, then equations)
  1         u.i u.f u.g u.o @ prev.h; then i f g o c h
  backward  1 stage, with the blocks transposed

Cost of a step (B sequences, I inputs, H units, b bytes a number)
  forward   2 B H (4 I + 4 H) flops in products, 13 operations a unit
  backward  4 B H (4 I + 4 H) flops in products, 25 operations a unit
  training  6 B H (4 I + 4 H) flops in products
  weights   4 H^2 b bytes forward and again backward, read once for all sequences
  kept      7 B H b + B I b bytes, as listed
  working   8 B H b bytes: input products, and the derivatives of both products
"""


@pytest.mark.parametrize(("name", "golden"), [("rnn", RNN), ("lstm", LSTM)])
def test_the_account_of_a_cell_is_the_one_above(name, golden):
    assert minirnn.cells.get(name).explain() == golden


@cell(gates="abc", state="hm", vectors=("v",))
def user_made(wx, u, prev, p):
    """Three stages, means of what is used twice, a stop, a gate named as a state."""
    a = tanh(wx.a + u.a @ (prev.h + p.v * prev.m))
    b = exp(-(wx.b + u.b @ (a - mean(p.v * a)))) / (1 + a * a)
    c = sigmoid(wx.c + u.c @ (stop(a) * b))
    return c * (prev.h - b) - (1 - c) * mean(b), -a * p.v


@cell(gates="hz", state="h")
def candidate(wx, u, prev):
    z = sigmoid(wx.z + u.z @ prev.h)
    return prev.h + z * (tanh(wx.h + u.h @ prev.h) - prev.h)


CELLS = [*map(minirnn.cells.get, minirnn.cells.names()), *CORNERS, user_made, candidate]


def by_name(made):
    return made.name


def test_a_gate_named_as_a_state_is_told_from_it():
    assert "  h_gate = tanh(wx.h + u.h @ prev.h)\n" in candidate.explain()
    assert r"\tilde{h}_{t}" in candidate.explain("latex")


def section(text, title):
    """Lines of one section."""
    body = text.split(f"\n{title} ")[1].split("\n\n")[0]
    return [line.strip() for line in body.splitlines()[1:]]


class Matrix:
    """A block in the text: ``u.k @ v`` with its bias, ``u.k.T @ v`` without."""

    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias

    def __matmul__(self, v):
        return self.weight @ (np.zeros(UNITS) + v) + self.bias

    @property
    def T(self):
        return Matrix(self.weight.T, 0.0)


def namespace(layer, x, states, rng):
    """Everything that the equations of one step may name, for one sequence."""
    made = layer.cell
    size = layer.hidden_size
    weights = {k: p.numpy() for k, p in layer.named_parameters()}

    def part(name, i):
        return weights[name][i * size : (i + 1) * size]

    u = {}
    for i, k in enumerate(made.products):
        bias = part("bias_hh_l0", made.biased.index(k)) if k in made.biased else 0.0
        u[k] = Matrix(part("weight_hh_l0", i), bias)
    wx = {k: part("weight_ih_l0", i) @ x + part("bias_ih_l0", i) for i, k in enumerate(made.gates)}
    module = np.arange(size)
    constants = {k: np.array(v)[module * len(v) // size] for k, v in made.constants.items()}
    names = {
        "wx": wx,
        "u": u,
        "prev": {k: s[0, 0] for k, s in zip(made.state, states, strict=True)},
        "p": {k: weights[f"vector_{k}_l0"] for k in made.vectors} | constants,
        "below": dict.fromkeys(made.state, np.zeros(size)),
        **{f"d{kind}": {} for kind in ("wx", "u", "prev", "p", "below")},
    }
    functions = (
        "sigmoid tanh relu exp log sqrt rsqrt abs maximum minimum clip stop where mean".split()
    )
    return (
        {k: SimpleNamespace(**v) for k, v in names.items()}
        | {f: getattr(minirnn.equations, f) for f in functions}
        | {"t": 3}
    )


@given(programs())
def test_the_text_of_a_random_cell_runs_too(program):
    run_the_text(program.cell(), np.random.default_rng(6))


@pytest.mark.parametrize("made", CELLS, ids=by_name)
def test_the_text_of_a_cell_runs_and_computes_the_step_and_its_gradients(made, rng):
    run_the_text(made, rng)


def run_the_text(made, rng):
    layer = minirnn.Recurrent(made, INPUTS, UNITS, dtype="float64", seed=1)
    x = rng.normal(size=(1, 1, INPUTS))
    states = [0.5 * rng.normal(size=(1, 1, UNITS)) for _ in made.state]
    d_state = [rng.normal(size=(1, UNITS)) for _ in made.state]
    with use_reference(), minirnn.watch(layer) as seen, minirnn.no_grad():
        layer(x, states[0] if len(states) == 1 else tuple(states), start=3)
    back = seen.pullback(d_state=tuple(d_state))
    text = made.explain()
    names = namespace(layer, x[0, 0], states, rng)
    exec("\n".join(section(text, "Equations")), names)
    # The same operations in another order.
    close = {"rtol": 1e-12, "atol": 1e-13}
    for k in made.state:
        np.testing.assert_allclose(names[k] + np.zeros(UNITS), seen.states[k][1, 0], **close)
    for k, d in zip(made.state, d_state, strict=True):
        names[f"d{k}"] = d[0].copy()
    exec("\n".join(section(text, "Derivatives")), names)
    found = {kind: vars(names[f"d{kind}"]) for kind in ("wx", "u", "prev", "p")}
    expected = {
        "wx": back.gate_grads,
        "u": back.recurrent_gate_grads,
        "prev": back.carried_grads,
        "p": back.vector_grads,
    }
    for kind, records in expected.items():
        for k, value in records.items():
            got = found[kind].get(k, 0.0) + np.zeros(UNITS)
            np.testing.assert_allclose(got, value[0, 0], **close, err_msg=f"d{kind}.{k}")
        assert set(found[kind]) <= set(records)


COMMANDS = set(
    r"""\section \paragraph \begin \end \item \left \right \mathrm \mathrel \operatorname \text
    \odot \sum \top \frac \sqrt \sigma \tanh \exp \log \max \min \tilde \downarrow \bmod \le \cdot
    \\ \, \{ \_""".split()
)


@pytest.mark.parametrize("made", CELLS, ids=by_name)
def test_latex_is_balanced_and_uses_standard_commands(made):
    text = made.explain("latex")
    assert text.isascii()
    depth = 0
    for mark in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if mark == "{" else -1
        assert depth >= 0
    assert depth == 0
    commands = Counter(re.findall(r"\\(?:[a-zA-Z]+|.)", text))
    assert set(commands) <= COMMANDS, set(commands) - COMMANDS
    assert commands[r"\left"] == commands[r"\right"]
    begun, ended = (re.findall(rf"\\{w}{{([a-z*]+)}}", text) for w in ("begin", "end"))
    assert Counter(begun) == Counter(ended)
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    # An index of an index is an error of TeX, and so is a bare underscore outside of a formula.
    assert not re.search(r"_\{[^{}]*\}_|\^\{[^{}]*\}\^", text)
    outside = re.sub(
        r"\$[^$]*\$", "", re.sub(r"(?s)\\begin\{align\*\}.*?\\end\{align\*\}", "", text)
    )
    assert not re.search(r"(?<!\\)[_^&%#]", outside)
    for body in re.findall(r"(?s)\\begin\{align\*\}\n(.*?)\n\\end\{align\*\}", text):
        inner = r"\\begin\{array\}(?:(?!\\begin).)*?\\end\{array\}"
        while re.search(inner, body):
            body = re.sub(inner, "", body)
        rows = body.split("\\\\\n")
        assert all(row.count("&") == 1 for row in rows)


@pytest.mark.parametrize("made", CELLS, ids=by_name)
def test_what_is_kept_is_what_the_kernels_save_and_every_part_has_a_reader(made):
    read, saves = lines(made), plan(made)
    found = kept(made, read, saves)
    assert {read.shown(n) for n in (*saves.saved, *saves.operands)} <= set(found)
    assert all(row.partition(" for ")[2] for row in section(made.explain(), "Kept"))


@pytest.mark.parametrize("name", ["gru_before", "greff_fgr", "mut1", "clockwork", "jordan"])
def test_flops_are_those_of_the_formula(name):
    """6 B H (G I + P H), P products; a triangular block counts where it is not 0."""
    made = minirnn.cells.get(name)
    row = next(r for r in section(made.explain(), "Cost") if r.startswith("training"))
    formula = row.split("training")[1].split(" flops")[0]
    python = re.sub(r"(\d) ([A-Z(])", r"\1 * \2", re.sub(r"([A-Z]) (?=[A-Z(])", r"\1 * ", formula))
    sizes = {"B": 2, "I": 3, "H": 8}
    products = made.num_params(0, 8, bias=0) - len(made.vectors) * 8
    assert eval(python, sizes) == 6 * 2 * (len(made.gates) * 3 * 8 + products)


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="text, latex, got 'html'"):
        minirnn.cells.get("rnn").explain("html")


# A layer's step with numbers.


def numbers(text):
    """Rows of the text: (level, what) -> numbers."""
    found, level = {}, None
    for row in text.splitlines():
        if row.startswith("level"):
            level = int(row.split()[1])
        elif level is not None and "[" in row:
            what, _, values = row.rpartition("[")
            found[level, what.strip()] = np.array([float(v) for v in values.strip("] ").split()])
    return found


@pytest.mark.parametrize("name", minirnn.cells.names())
def test_the_numbers_of_an_explained_step_are_those_of_the_step(name, rng):
    layer = minirnn.Recurrent(name, INPUTS, UNITS, num_layers=2, dtype="float64", seed=4)
    x = rng.normal(size=(2, INPUTS))
    states = tuple(0.5 * rng.normal(size=(2, 2, UNITS)) for _ in layer.cell.state)
    given = states[0] if len(states) == 1 else states
    with use_reference():
        after = layer.step(x, given, start=5)
        shown = numbers(layer.explain(x, given, start=5))
    after = after if isinstance(after, tuple) else (after,)
    for level in (0, 1):
        for k, state in zip(layer.cell.state, after, strict=True):
            (row,) = (v for (at, what), v in shown.items() if at == level and f"{k} =" in what
                      and what.startswith(f"{k} "))  # fmt: skip
            # Four digits are shown.
            np.testing.assert_allclose(row, state.numpy()[level, 0], rtol=1e-3, atol=1e-10)
    np.testing.assert_allclose(shown[0, "x_t"], x[0], rtol=1e-3)


def test_an_explained_step_takes_what_a_step_takes(rng):
    layer = minirnn.Recurrent("lstm", INPUTS, 12, dropout=0.5, num_layers=2, seed=0)
    x = rng.normal(size=(2, INPUTS)).astype(np.float32)
    text = layer.explain(x)
    assert text.startswith("lstm, one step at t = 0, sequence 0 of 2\n")
    assert text.count("  i = sigmoid(wx.i + u.i @ prev.h)") == 2 and "... " in text
    assert layer.training and layer.explain(x) == text  # without dropout: the same again
    alone = layer.explain(x[0])
    assert alone.splitlines()[1:] == text.splitlines()[1:]
    swapped = minirnn.Recurrent("lstm", INPUTS, 12, batch_first=True, num_layers=2, seed=0)
    assert swapped.explain(x) == text


def test_what_cannot_be_explained_says_why():
    layer = minirnn.Recurrent("rnn", INPUTS, UNITS, bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional layer has no single step"):
        layer.explain(np.ones((1, INPUTS), np.float32))
    with pytest.raises(ValueError, match="at least one sequence"):
        minirnn.Recurrent("rnn", INPUTS, UNITS).explain(np.ones((0, INPUTS), np.float32))
