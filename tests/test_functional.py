"""grad, jvp and hvp."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirnn.engine import Tensor, grad, gradcheck, hvp, jvp, record, tanh
from tests.operations import OPERATIONS


def leaf(*numbers):
    return Tensor(np.array(numbers), requires_grad=True)


# grad.


def test_grad_is_always_a_tuple_of_tensors_and_touches_no_grad():
    x, w = leaf(2.0), leaf(3.0)
    result = grad(x * w, x)
    assert type(result) is tuple and type(result[0]) is Tensor
    assert not result[0].requires_grad
    assert x.grad is None and w.grad is None


def test_grad_takes_several_outputs_with_their_gradients():
    x = leaf(1.0, 2.0)
    (g,) = grad([x * 2, (x * x).sum()], [x], [np.array([1.0, 10.0]), None])
    assert g.numpy().tolist() == [2 + 2.0, 20 + 4.0]


def test_inputs_may_come_from_a_generator():
    """As ``parameters()`` of a module gives them."""
    x, w = leaf(2.0), leaf(3.0)
    inputs = {"x": x, "w": w}
    assert [g.item() for g in grad(x * w, (t for t in (x, w)))] == [3.0, 2.0]
    moves = [np.ones(1), np.ones(1)]
    assert jvp(lambda: x * w, iter((x, w)), moves)[1].item() == 5.0
    assert [h.item() for h in hvp(lambda: (x * w).sum(), inputs.values(), moves)] == [1.0, 1.0]
    assert gradcheck(lambda: x * w, iter((x, w)))


def test_grad_with_respect_to_results():
    x = leaf(2.0)
    y = x * x
    z = y * y
    assert [g.item() for g in grad(z, [y, x, z])] == [8.0, 32.0, 1.0]


def test_grad_visits_only_what_leads_to_the_inputs():
    x, w = leaf(2.0), leaf(3.0)
    visited = []

    def vjp(d):
        visited.append("w")
        return (d,)

    v = record([w._data], [w], vjp, name="op")[0]
    grad(x * v, x)
    assert visited == []


def test_grad_of_an_unused_input_is_an_error_or_none():
    x, w = leaf(2.0), leaf(3.0)
    with pytest.raises(RuntimeError, match=r"grad: inputs\[1\] .* allow_unused=True"):
        grad(x * x, [x, w])
    g, none = grad(x * x, [x, w], allow_unused=True)
    assert g.item() == 4.0 and none is None


def test_grad_refuses_what_it_cannot_differentiate():
    x, constant = leaf(2.0), Tensor([1.0])
    with pytest.raises(RuntimeError, match=r"grad: inputs\[0\] does not require grad"):
        grad(x * constant, constant)
    with pytest.raises(RuntimeError, match=r"grad: outputs\[0\] does not require grad"):
        grad(constant * 2, x)
    with pytest.raises(TypeError, match=r"grad: inputs\[0\] must be a Tensor, got ndarray"):
        grad(x * 2, np.ones(1))
    with pytest.raises(ValueError, match="grad: grad_outputs must hold one entry per output, 1"):
        grad(x * 2, x, [None, None])
    with pytest.raises(ValueError, match=r"grad: grad_outputs\[0\] may be left out only"):
        grad(leaf(1.0, 2.0) * x, x)


def test_create_graph_keeps_the_tape_and_retain_graph_overrides():
    x = leaf(2.0)
    y = x * x * x
    grad(y, x, create_graph=True)
    grad(y, x, create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match="freed"):
        grad(y, x)


def test_third_derivatives():
    x = leaf(0.5)
    y = tanh(x)
    for _ in range(3):
        (y,) = grad(y, x, create_graph=True)
    t = np.tanh(0.5)
    # tanh''' = -2 (1 - t^2) (1 - 3 t^2), exact but for rounding
    np.testing.assert_allclose(y.item(), -2 * (1 - t**2) * (1 - 3 * t**2), rtol=1e-13)


def test_gradients_can_be_differentiated_by_grad_outputs():
    x, u = leaf(2.0), leaf(1.0)
    (g,) = grad(x * x, x, u, create_graph=True)
    assert grad(g, u)[0].item() == 4.0


# jvp.


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
@settings(max_examples=4)
@given(data=st.data())
def test_jvp_is_the_transpose_of_vjp(operation, data):
    """<u, J t> = <J^T u, t> for every operation."""
    arrays, options = data.draw(operation.draw)
    moves = [np.sin(1.0 + np.arange(a.size)).reshape(a.shape) for a in arrays]
    outputs, tangents = jvp(lambda *a: operation.ours(*a, **options), arrays, moves)
    inputs = [Tensor(a, requires_grad=True) for a in arrays]
    again = operation.ours(*inputs, **options)
    if isinstance(again, Tensor):
        outputs, tangents, again = (outputs,), (tangents,), (again,)
    seeds = [np.cos(2.0 + np.arange(o.size)).reshape(o.shape) for o in outputs]
    pulled = grad(again, inputs, seeds)
    forward = sum(np.vdot(s, t.numpy()) for s, t in zip(seeds, tangents, strict=True))
    backward = sum(np.vdot(g.numpy(), m) for g, m in zip(pulled, moves, strict=True))
    # Two orders of the same sum of products.
    np.testing.assert_allclose(forward, backward, rtol=1e-11, atol=1e-11)
    for output, expected in zip(outputs, again, strict=True):
        np.testing.assert_array_equal(output.numpy(), expected.numpy())


def test_jvp_uses_the_rule_of_a_node_that_has_one():
    x, w = leaf(2.0), leaf(3.0)
    seen = []

    def fused(x, w):
        def rule(dx, dw):
            seen.append((dx, dw))
            return (dx * w._data,)

        return record([x._data * w._data], [x, w], lambda d: (d, d), jvp=rule, name="op")[0]

    _, tangent = jvp(lambda x: fused(x * x, w), x, [np.ones(1)])
    assert tangent.item() == 2 * 2 * 3.0
    assert seen[0][1] is None  # w stands still


def test_jvp_answers_in_the_structure_of_the_outputs():
    x = leaf(1.0, 2.0)
    outputs, tangents = jvp(lambda x: (x * 2, (x.sum(), Tensor([7.0]))), x, [np.ones(2)])
    assert outputs[0].numpy().tolist() == [2.0, 4.0] and outputs[1][0].item() == 3.0
    assert tangents[0].numpy().tolist() == [2.0, 2.0] and tangents[1][0].item() == 2.0
    assert tangents[1][1].numpy().tolist() == [0.0]  # depends on nothing
    assert not outputs[0].requires_grad and not tangents[0].requires_grad


def test_jvp_moves_parameters_that_the_function_closes_over():
    w = Tensor([3.0])
    _, tangent = jvp(lambda x: x * w, (np.array([2.0]), w), ([1.0], [10.0]))
    assert tangent.item() == 3.0 + 20.0
    assert not w.requires_grad


def test_jvp_through_a_vjp_for_arrays_says_what_is_missing():
    x = leaf(2.0)

    def fused(x):
        return record([x._data], [x], lambda d: (np.multiply(d, 1.0),), name="fused")[0]

    with pytest.raises(RuntimeError, match=r"fused: its vjp works on arrays only.*jvp"):
        jvp(fused, x, [np.ones(1)])


def test_directions_are_checked():
    with pytest.raises(ValueError, match="jvp: tangents must hold one array per input, 1, got 2"):
        jvp(tanh, leaf(1.0), [np.ones(1), np.ones(1)])
    with pytest.raises(ValueError, match=r"hvp: vectors\[0\] must have the shape \(1,\)"):
        hvp(tanh, leaf(1.0), [np.ones(2)])


# hvp.


def test_hvp_of_a_quadratic_form_is_its_matrix():
    a = np.array([[2.0, 1.0], [1.0, -3.0]])
    v = np.array([1.0, 10.0])
    (product,) = hvp(lambda x: 0.5 * (x @ a @ x), leaf(5.0, 7.0), v)
    assert type(product) is np.ndarray
    np.testing.assert_allclose(product, a @ v, rtol=1e-14)  # two sums of two products


def test_hvp_by_parameters_that_the_function_closes_over():
    w, x = leaf(3.0), leaf(2.0)
    dw, dx = hvp(lambda: (w * w * x).sum(), (w, x), ([1.0], [10.0]))
    assert (dw.item(), dx.item()) == (2 * 2.0 + 2 * 3 * 10.0, 2 * 3.0)


def test_hvp_is_zero_where_the_function_is_linear():
    (product,) = hvp(lambda x: x.sum(), leaf(1.0, 2.0), [np.ones(2)])
    assert product.tolist() == [0.0, 0.0]


def test_hvp_agrees_with_differences_of_the_gradient(rng):
    w, x, v = rng.standard_normal((3, 4, 4))

    def loss(x):
        return (tanh(x @ w).softmax(-1) ** 2).sum()

    def gradient(x):
        t = Tensor(x, requires_grad=True)
        return grad(loss(t), t)[0].numpy()

    step = 6e-6
    numeric = (gradient(x + step * v) - gradient(x - step * v)) / (2 * step)
    # Central differences of step u^(1/3): about 1e-11 of values near 1, see gradcheck.
    np.testing.assert_allclose(hvp(loss, x, v)[0], numeric, rtol=1e-7, atol=1e-9)
