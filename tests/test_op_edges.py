"""Where operations are delicate: ends of the range, kinks, ties, empty arrays, wrong arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from minirnn import engine
from minirnn.engine import Tensor, grad


def gradient(function, *arrays):
    """Gradients of the sum of what a function returns."""
    inputs = [Tensor(np.asarray(a, float), requires_grad=True) for a in arrays]
    return [g.numpy().tolist() for g in grad(function(*inputs).sum(), inputs)]


# The ends of the range.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_saturates_and_keeps_its_tail(dtype):
    """PyTorch's and the exact values; exp(-x) may overflow on the way but must not warn."""
    x = np.array([-np.inf, -1e4, -80.0, 0.0, 80.0, 1e4, np.inf], dtype)
    y = engine.sigmoid(x).numpy()
    expected = [0.0, 0.0, np.exp(-80.0), 0.5, 1.0, 1.0, 1.0]
    # Relative precision in the tail: a few roundings.
    np.testing.assert_allclose(y, np.array(expected, dtype), rtol=4 * np.finfo(dtype).eps)


def test_sigmoid_leaves_numpys_warnings_as_they_were():
    with np.errstate(over="raise"):
        assert engine.sigmoid(np.array([-1e4])).item() == 0.0
        with pytest.raises(FloatingPointError, match="overflow"):
            engine.exp(np.array([1e4]))


def test_nan_goes_through_sigmoid_relu_clip_and_maximum():
    nan = Tensor([np.nan])
    for y in (nan.sigmoid(), nan.relu(), nan.clip(-1, 1), nan.maximum(0.0), nan.minimum(0.0)):
        assert np.isnan(y.item())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_and_its_logarithm_stand_logits_of_1e4(dtype):
    x = np.array([1e4, 0.0, -1e4], dtype)
    assert engine.softmax(x).numpy().tolist() == [1.0, 0.0, 0.0]
    assert engine.log_softmax(x).numpy().tolist() == [0.0, -1e4, -2e4]
    assert engine.logsumexp(x).item() == 1e4


@given(npst.arrays(np.float64, (2, 3), elements=st.floats(-700, 700)))
def test_softmax_sums_to_one_and_ignores_a_shift(x):
    p = engine.softmax(x).numpy()
    # Three numbers that add up to 1: rounding of the sum.
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=1e-15)
    # Differences of entries up to 700 after the shift lose up to 1000 ulp of exp.
    np.testing.assert_allclose(engine.softmax(x + 256.0).numpy(), p, rtol=1e-12, atol=1e-300)


def test_a_masked_entry_has_probability_and_gradient_zero():
    assert gradient(lambda a: engine.softmax(a)[0], [1.0, 1.0, -np.inf]) == [[0.25, -0.25, 0.0]]
    assert gradient(engine.logsumexp, [0.0, 0.0, -np.inf]) == [[0.5, 0.5, 0.0]]


def test_logsumexp_of_nothing_but_minus_infinity_is_minus_infinity():
    assert engine.logsumexp(np.full(3, -np.inf)).item() == -np.inf


# Kinks and ties, as in PyTorch.


def test_subgradients_at_kinks_are_pytorchs():
    assert gradient(engine.relu, [-1.0, 0.0, 1.0]) == [[0.0, 0.0, 1.0]]
    assert gradient(engine.abs, [-1.0, 0.0, 1.0]) == [[-1.0, 0.0, 1.0]]
    boundary = [-1.5, -1.0, 0.0, 1.0, 1.5]
    assert gradient(lambda a: a.clip(-1, 1), boundary) == [[0.0, 1.0, 1.0, 1.0, 0.0]]


def test_ties_share_the_gradient():
    assert gradient(engine.maximum, [1.0, 2.0], [1.0, 3.0]) == [[0.5, 0.0], [0.5, 1.0]]
    assert gradient(engine.minimum, [1.0, 2.0], [1.0, 3.0]) == [[0.5, 1.0], [0.5, 0.0]]
    assert gradient(lambda a: a.max(-1), [[3.0, 3.0, 1.0, 3.0]]) == [[[1 / 3, 1 / 3, 0.0, 1 / 3]]]


def test_relu_lets_no_infinite_gradient_through_a_dead_unit():
    x = Tensor([-1.0, 1.0], requires_grad=True)
    x.relu().backward(np.array([np.inf, 1.0]))
    assert x.grad.tolist() == [0.0, 1.0]


def test_clip_lets_nothing_through_where_its_bounds_cross():
    assert gradient(lambda a: a.clip(1, -1), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [[0.0] * 5]


def test_infinite_gradients_reach_what_was_chosen_only():
    for choose in (engine.maximum, lambda a, b: engine.where(a > b, a, b)):
        a = Tensor([1.0, 2.0], requires_grad=True)
        b = Tensor([2.0, 1.0], requires_grad=True)
        choose(a, b).backward(np.array([np.inf, np.inf]))
        assert a.grad.tolist() == [0.0, np.inf] and b.grad.tolist() == [np.inf, 0.0]


def test_the_condition_of_where_broadcasts():
    condition = np.array([True, False])
    assert gradient(lambda a, b: engine.where(condition, a, b), [[1.0, 2.0]] * 3, [5.0, 6.0]) == [
        [[1.0, 0.0]] * 3,
        [0.0, 3.0],
    ]


def test_where_takes_no_gradient_from_the_branch_not_taken():
    x = Tensor([0.0, 4.0], requires_grad=True)
    with np.errstate(divide="ignore"):
        engine.where(x > 0, x, 1.0).log().sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_powers_at_zero():
    assert gradient(lambda a: a**2, [0.0]) == [[0.0]]
    assert gradient(lambda a: a**1, [0.0]) == [[1.0]]
    assert gradient(lambda a: a**0, [0.0]) == [[0.0]]
    assert gradient(lambda a, n: a**n, [0.0, 0.0], [0.0, 2.0]) == [[0.0, 0.0], [0.0, 0.0]]


def test_an_index_that_repeats_collects_the_gradients():
    assert gradient(lambda a: a[np.array([0, 2, 0])], [1.0, 2.0, 3.0]) == [[2.0, 0.0, 1.0]]
    ids = np.array([[1, 1], [0, 1]])
    assert gradient(lambda w: engine.embedding(ids, w), [[1.0], [2.0], [3.0]]) == [
        [[1.0], [3.0], [0.0]]
    ]


def test_an_index_array_written_after_forward_changes_nothing():
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    index, ids, mask = np.array([0, 0]), np.array([0, 0]), np.array([True, True, False])
    y = x[index].sum() + engine.embedding(ids, x.reshape(3, 1)).sum() + x[mask].sum()
    index[:], ids[:], mask[:] = 2, 2, False
    y.backward()
    assert x.grad.tolist() == [5.0, 1.0, 0.0]


# Empty arrays.


def test_empty_arrays_have_empty_results_and_gradients():
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    y = (x @ np.ones((3, 2))).tanh().sum() + engine.softmax(x).sum() + x.logsumexp(-1).sum()
    y.backward()
    assert x.grad.shape == (0, 3)
    weight = Tensor(np.ones((2, 3)), requires_grad=True)
    engine.embedding(np.zeros((0,), int), weight).sum().backward()
    assert weight.grad.tolist() == [[0.0] * 3] * 2


# Wrong arguments: the error names place, argument, rule, fact and way out.

ones = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Tensor(ones) + np.ones(2), r"\+: operands .* broadcast, got \(2, 3\) and \(2,\)"),
        (lambda: Tensor(ones) @ ones, r"matmul: .* got shapes \(2, 3\) and \(2, 3\); transpose"),
        (lambda: engine.sum(ones, dim=2), r"sum: dim must lie in \[-2, 1\] .* got 2"),
        (lambda: engine.sum(ones, dim=(0, -2)), "sum: dim must name each dimension once"),
        (lambda: engine.max(np.ones((2, 0)), dim=1), r"max: dim must not be empty, got .*\(2, 0\)"),
        (lambda: Tensor(ones).reshape(4), r"reshape: shape must hold 6 numbers, got \(4,\)"),
        (lambda: Tensor(ones).permute((0, 0)), "permute: dims must list each of the 2"),
        (lambda: Tensor(ones).expand((3, 3)), r"expand: .* must broadcast to shape, got \(3, 3\)"),
        (lambda: engine.concat([]), "concat: tensors must hold at least one"),
        (lambda: engine.concat([ones, ones[:, :2]]), "concat: .* agree .* but dim=0"),
        (lambda: engine.stack([ones, ones[:1]]), "stack: tensors must have one shape"),
        (lambda: engine.split(ones, 0), "split: size must be at least 1, got 0"),
        (lambda: engine.where(ones[0] > 0, 1.0, np.ones(2)), r"where: .* \(3,\), \(\) and \(2,\)"),
        (lambda: engine.split(ones, [1, 1], 1), r"split: sizes must add up to 3, .* \[1, 1\]"),
        (lambda: engine.pad(ones, (1,)), r"pad: pad must hold \(before, after\)"),
        (lambda: engine.pad(ones, (1, 1), mode="reflect"), "pad: mode must be 'constant'"),
        (
            lambda: engine.einsum("ij,jk->ik", ones, ones),
            "einsum: .* must have one size",
        ),
        (lambda: engine.einsum("ij->ii", ones), "einsum: .* must not repeat a letter"),
        (lambda: engine.einsum("i->i", ones), "einsum: .* one letter per dimension"),
        (lambda: engine.embedding([0, 2], ones), r"embedding: ids must lie in \[0, 1\].* 0 to 2"),
        (lambda: engine.embedding([-1], ones), "embedding: ids must lie .* does not count"),
        (lambda: engine.embedding([0], np.ones(3)), "embedding: weight must have shape"),
    ],
)
def test_wrong_shapes_and_values_are_value_errors_that_say_so(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Tensor(ones) + ones.astype(np.float32), "one dtype, got float64 and float32"),
        (lambda: Tensor(ones) * np.float32(2), "one dtype, got float64 and float32"),
        (lambda: Tensor(ones) @ ones.astype(np.float32), "matmul: operands must have one dtype"),
        (lambda: engine.concat([ones, ones.astype(np.float32)]), "concat: .* one dtype"),
        (lambda: Tensor(ones) + np.arange(3), "other must be float32 or float64, got int64"),
        (lambda: engine.exp(np.arange(3)), "exp: input must be float32 or float64, got int64"),
        (lambda: engine.embedding([0.0], ones), "embedding: ids must be integers, got float64"),
        (lambda: engine.where(ones, ones, ones), "where: condition must be a bool array"),
        (lambda: Tensor(ones).clip(ones, 1), "clip: min must be a number or None, got ndarray"),
        (lambda: Tensor(ones).sum(dim="a"), "sum: dim must be an int, got 'a'"),
        (lambda: Tensor(ones)[Tensor(ones)], r"\[\]: an index must be"),
    ],
)
def test_wrong_types_and_dtypes_are_type_errors_that_say_so(call, words):
    with pytest.raises(TypeError, match=words):
        call()
