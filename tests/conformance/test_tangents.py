"""Fused derivatives beyond the gradient: JVP, Hessian-vector products, and what comes after."""

import contextlib

import numpy as np
import pytest

import minirnn
from minirnn import cells
from minirnn.layers.reference import use_reference
from tests.conformance import harness
from tests.conformance.harness import KERNELS_OFF, assert_close
from tests.strategies import Case

pytestmark = pytest.mark.skipif(KERNELS_OFF, reason="the JIT is switched off: no kernels")

# The bound of the project for second derivatives in float64; about 1e-14 is measured.
TOLERANCE = 1e-10
QUICK = ("rnn", "lstm", "lstm_peephole", "gru", "gru_before")
NAMES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.conformance)
    for name in cells.names()
]
CASES = {
    "stacked": Case(T=5, B=3, I=4, H=7, L=2, seed=3),
    "lengths": Case(T=5, B=3, I=4, H=7, L=2, bidirectional=True, lengths=(5, 0, 3), seed=4),
}


def scalar_of(layer, data, lengths=None):
    """Make a function of x, the initial states and the parameters, curved in all of them."""

    def function(x, *others):
        count = len(layer.cell.state)
        output, state = layer(x, harness.pack(others[:count]), lengths=lengths)
        total = (minirnn.tanh(output) * data.d_output).sum()
        for value, weight in zip(harness.unpack(state), data.d_state, strict=True):
            total = total + (value * value * weight).sum()
        return total

    return function


def point(layer, data):
    """Inputs at which to differentiate, and a direction."""
    x, state0 = harness.leaves(data)
    inputs = (x, *state0, *layer.parameters())
    rng = np.random.default_rng(5)
    return inputs, tuple(rng.normal(size=t.shape) for t in inputs)


def derivatives(name, case, reference):
    layer = harness.build(name, case)
    data = harness.draw(layer, case)
    inputs, direction = point(layer, data)
    function = scalar_of(layer, data, case.lengths)
    with use_reference() if reference else contextlib.nullcontext():
        _, tangent = minirnn.jvp(function, inputs, direction)
        products = minirnn.hvp(function, inputs, direction)
    return [np.asarray(tangent.numpy()), *products]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", NAMES)
def test_fused_tangents_and_hessian_products_equal_those_through_the_reference(name, case):
    fused = derivatives(name, case, reference=False)
    for i, (actual, expected) in enumerate(
        zip(fused, derivatives(name, case, reference=True), strict=True)
    ):
        assert_close(actual, expected, TOLERANCE, f"{i}", small=1e-3)


@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_a_fused_jvp_is_the_slope_of_the_function(name):
    layer = harness.build(name, CASES["stacked"])
    data = harness.draw(layer, CASES["stacked"])
    inputs, direction = point(layer, data)
    function = scalar_of(layer, data)
    _, tangent = minirnn.jvp(function, inputs, direction)

    def along(step):
        start = [np.array(t.numpy()) for t in inputs]
        for t, a, d in zip(inputs, start, direction, strict=True):
            t.assign(a + step * d)
        with minirnn.no_grad():
            value = function(*inputs).item()
        for t, a in zip(inputs, start, strict=True):
            t.assign(a)
        return value

    # Central difference. Truncation: h^2 times a third derivative of about 1e3 along this long
    # direction; rounding: 1e-15 of values of about 10, over h.
    h = 1e-6
    assert tangent.item() == pytest.approx((along(h) - along(-h)) / (2 * h), abs=1e-7)


def test_tangents_of_some_inputs_leave_the_others_still():
    """Only x moves: the kernels run without the tangents of the weights."""
    layer = harness.build("lstm", CASES["stacked"])
    data = harness.draw(layer, CASES["stacked"])
    direction = np.random.default_rng(1).normal(size=data.x.shape)

    def function(x):
        return layer(x)[0]

    x = minirnn.Tensor(data.x, requires_grad=True)
    _, tangent = minirnn.jvp(function, (x,), (direction,))
    with use_reference():
        _, expected = minirnn.jvp(function, (x,), (direction,))
    assert_close(tangent.numpy(), expected.numpy(), TOLERANCE)


def test_a_gradient_penalty_has_the_same_gradient_with_dropout_and_lengths():
    """The second derivative sees the dropout mask of the forward pass that it belongs to."""
    layer = minirnn.LSTM(3, 6, num_layers=2, dropout=0.5, dtype="float64", seed=0)
    rng = np.random.default_rng(2)
    start = rng.normal(size=(6, 4, 3))

    def penalty():
        minirnn.manual_seed(7)
        x = minirnn.Tensor(start, requires_grad=True)
        output, _ = layer(x, lengths=[6, 2, 0, 5])
        (dx,) = minirnn.grad((output * output).sum(), x, create_graph=True)
        layer.zero_grad()
        (dx * dx).sum().backward()
        return [np.array(p.grad) for p in layer.parameters()]

    fused = penalty()
    with use_reference():
        for actual, expected in zip(fused, penalty(), strict=True):
            assert_close(actual, expected, TOLERANCE)


def test_third_derivatives_go_on_through_the_reference():
    layer = minirnn.GRU(2, 3, dtype="float64", seed=0)
    x = minirnn.Tensor(np.random.default_rng(3).normal(size=(3, 2, 2)), requires_grad=True)

    def third():
        output, _ = layer(x)
        (first,) = minirnn.grad((output**3).sum(), x, create_graph=True)
        (second,) = minirnn.grad((first * first).sum(), x, create_graph=True)
        (result,) = minirnn.grad((second * second).sum(), x)
        return result.numpy()

    fused = third()
    with use_reference():
        assert_close(fused, third(), TOLERANCE)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_hessian_products_equal_double_backward_in_pytorch(torch, kind):
    theirs = getattr(torch.nn, kind)(3, 5, num_layers=2, dtype=torch.float64)
    ours = getattr(minirnn, kind)(3, 5, num_layers=2, dtype="float64")
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(4)
    start, weight = rng.normal(size=(6, 2, 3)), rng.normal(size=(6, 2, 5))
    x = minirnn.Tensor(start, requires_grad=True)
    inputs = (x, *ours.parameters())
    direction = [rng.normal(size=t.shape) for t in inputs]

    def function(x, *_):
        output, _ = ours(x)
        return (output * output * weight).sum()

    products = minirnn.hvp(function, inputs, direction)

    given = torch.tensor(start, requires_grad=True)
    output, _ = theirs(given)
    leaves = (given, *theirs.parameters())
    loss = (output * output * torch.tensor(weight)).sum()
    grads = torch.autograd.grad(loss, leaves, create_graph=True)
    slope = sum((g * torch.tensor(d)).sum() for g, d in zip(grads, direction, strict=True))
    expected = torch.autograd.grad(slope, leaves)
    for actual, wanted in zip(products, expected, strict=True):
        assert_close(actual, wanted.numpy(), TOLERANCE)
