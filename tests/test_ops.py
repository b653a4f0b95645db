"""Every operation of the engine against PyTorch, against central differences, and in float32."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirnn.engine import Tensor, grad, gradcheck
from tests.operations import OPERATIONS

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
data = st.data()
# What does not hang on the numbers needs few of them.
few = settings(max_examples=4)
some = settings(max_examples=10)


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple | list) else (outputs,)


@every_operation
@some
@given(data=data)
def test_derivatives_agree_with_central_differences(operation, data):
    """First and second derivatives; inputs stay away from kinks (operations.entries)."""
    arrays, options = data.draw(operation.draw)
    assert gradcheck(lambda *a: operation.ours(*a, **options), arrays, order=2)


@every_operation
@pytest.mark.torch
@some
@given(data=data)
def test_values_gradients_and_second_derivatives_are_pytorchs(torch, operation, data):
    arrays, options = data.draw(operation.draw)
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    outputs = as_tuple(operation.ours(*ours, **options))
    expected = as_tuple(operation.theirs(torch, *theirs, **options))
    assert [o.shape for o in outputs] == [tuple(e.shape) for e in expected]
    for output, e in zip(outputs, expected, strict=True):
        # The same operations in another order: rounding of a few sums.
        np.testing.assert_allclose(output.numpy(), e.detach().numpy(), rtol=1e-12, atol=1e-13)

    seeds = [np.cos(1.0 + np.arange(o.size)).reshape(o.shape) for o in outputs]
    first = grad(outputs, ours, seeds, create_graph=True)
    their_first = torch.autograd.grad(
        expected, theirs, [torch.tensor(s) for s in seeds], create_graph=True
    )
    by_arrays = grad(operation.ours(*ours, **options), ours, seeds)
    for g, array_g, e in zip(first, by_arrays, their_first, strict=True):
        np.testing.assert_allclose(g.numpy(), e.detach().numpy(), rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(array_g.numpy(), e.detach().numpy(), rtol=1e-11, atol=1e-12)

    if all(g.requires_grad for g in first) and all(e.requires_grad for e in their_first):
        second = grad(sum((g * g).sum() for g in first), ours, allow_unused=True)
        their_second = torch.autograd.grad(
            sum((g * g).sum() for g in their_first), theirs, allow_unused=True
        )
        for g, e in zip(second, their_second, strict=True):
            g = 0.0 if g is None else g.numpy()
            e = 0.0 if e is None else e.numpy()
            np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-11)


@every_operation
@few
@given(data=data)
def test_float32_stays_float32_forward_and_backward(operation, data):
    arrays, options = data.draw(operation.draw)
    inputs = [Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    outputs = as_tuple(operation.ours(*inputs, **options))
    seeds = [np.ones(o.shape, np.float32) for o in outputs]
    grads = grad(outputs, inputs, seeds, create_graph=True)
    by_arrays = grad(as_tuple(operation.ours(*inputs, **options)), inputs, seeds)
    assert {t.dtype for t in (*outputs, *grads, *by_arrays)} == {np.dtype(np.float32)}


@every_operation
@few
@given(data=data)
def test_inputs_that_need_no_gradient_change_nothing_for_the_others(operation, data):
    """What an operation skips for a constant is only the constant's own gradient."""
    arrays, options = data.draw(operation.draw)
    inputs = [Tensor(a, requires_grad=True) for a in arrays]
    outputs = as_tuple(operation.ours(*inputs, **options))
    seeds = [np.ones(o.shape) for o in outputs]
    together = grad(outputs, inputs, seeds)
    for i, expected in enumerate(together):
        alone = [Tensor(a, requires_grad=i == j) for j, a in enumerate(arrays)]
        (g,) = grad(as_tuple(operation.ours(*alone, **options)), [alone[i]], seeds)
        np.testing.assert_array_equal(g.numpy(), expected.numpy())


@every_operation
@few
@given(data=data)
def test_operations_leave_their_inputs_as_they_were(operation, data):
    arrays, options = data.draw(operation.draw)
    inputs = [Tensor(a, requires_grad=True) for a in arrays]
    outputs = as_tuple(operation.ours(*inputs, **options))
    grad(outputs, inputs, [np.ones(o.shape) for o in outputs])
    for t, a in zip(inputs, arrays, strict=True):
        np.testing.assert_array_equal(t.numpy(), a)
