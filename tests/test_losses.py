"""Losses: values, gradients and second derivatives, extreme scores, wrong arguments."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirnn.engine import Tensor, grad, gradcheck
from minirnn.engine.functional import hvp, jvp
from minirnn.engine.tape import constant
from minirnn.kernels import spread, threads
from minirnn.layers.losses import cross_entropy, mse_loss
from minirnn.layers.reference import use_reference

REDUCTIONS = ("mean", "sum", "none")


def naive_cross_entropy(logits, targets, ignore_index):
    """Sum, count and single losses by Python's own arithmetic."""
    each = np.zeros(targets.shape)
    for where in np.ndindex(*targets.shape):
        if targets[where] != ignore_index:
            row = [float(v) for v in logits[where]]
            largest = max(row)
            z = math.fsum(math.exp(v - largest) for v in row)
            each[where] = math.log(z) + largest - row[targets[where]]
    return each, int((targets != ignore_index).sum())


@given(
    shape=st.lists(st.integers(1, 4), max_size=2),
    classes=st.integers(1, 5),
    scale=st.sampled_from([1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**20),
)
def test_cross_entropy_is_minus_the_log_of_the_targets_share(shape, classes, scale, seed):
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((*shape, classes))
    targets = rng.integers(0, classes, shape)
    if targets.ndim and targets.size > 1:
        targets.flat[0] = -100
    each, count = naive_cross_entropy(logits, targets, -100)
    # A handful of roundings relative to the scores' size.
    close = {"rtol": 1e-12, "atol": 1e-12 * scale}
    np.testing.assert_allclose(
        cross_entropy(logits, targets, reduction="none").numpy(), each, **close
    )
    assert cross_entropy(logits, targets, reduction="sum").item() == pytest.approx(
        each.sum(), rel=1e-12, abs=1e-12 * scale
    )
    assert cross_entropy(logits, targets).item() == pytest.approx(
        each.sum() / count, rel=1e-12, abs=1e-12 * scale
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_ten_thousand_neither_overflow_nor_warn(dtype):
    logits = Tensor(np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]], dtype), requires_grad=True)
    loss = cross_entropy(logits, [0, 0], reduction="none")
    assert loss.dtype == dtype
    assert loss.numpy().tolist() == [0.0, 2e4]
    loss.sum().backward()
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]


def central_difference(function, x, eps=1e-6):
    out = np.zeros_like(x)
    for where in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[where] += eps
        down[where] -= eps
        out[where] = (function(up) - function(down)) / (2 * eps)
    return out


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "by columns": np.asfortranarray,
    "part of wider rows": lambda x: np.concatenate([x, np.full((len(x), 40), np.nan)], 1)[
        :, : x.shape[1]
    ].astype(x.dtype, copy=False),
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 7, 16, 65, 100])
def test_the_kernel_reads_rows_of_any_layout_and_computes_the_formula(classes, dtype, layout):
    rng = np.random.default_rng(classes)
    logits = LAYOUTS[layout]((5 * rng.standard_normal((9, classes))).astype(dtype))
    targets = rng.integers(0, classes, 9)
    targets[4] = -100
    results = []
    for context in (contextlib.nullcontext, use_reference):
        leaf = constant(logits)  # a Tensor around this very memory
        leaf.requires_grad = True
        with context():
            loss = cross_entropy(leaf, targets, reduction="none")
            mean = cross_entropy(leaf, targets)
            (mean + (loss * 0.25).sum()).backward()
        results.append((loss.numpy(), mean.numpy(), leaf.grad))
    # Exponentials of a few ulp, and a sum of a hundred of them; probabilities are below 1.
    for fused, plain in zip(*results, strict=True):
        assert fused.dtype == dtype and fused.shape == plain.shape
        np.testing.assert_allclose(fused, plain, rtol=0, atol=30 * np.finfo(dtype).eps)


def test_the_number_of_threads_changes_no_bit_of_the_loss(rng, monkeypatch):
    logits, targets = rng.standard_normal((50, 7)), rng.integers(0, 7, 50)
    monkeypatch.setattr(spread, "REGION", 0)
    results = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "_threads", count)
        leaf = Tensor(logits, requires_grad=True)
        loss = cross_entropy(leaf, targets)
        loss.backward()
        results.append((loss.item(), leaf.grad.tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignored", [(), (1,)])
def test_the_gradient_is_that_of_central_differences(rng, reduction, ignored):
    logits = rng.standard_normal((2, 3, 4))
    targets = rng.integers(0, 4, (2, 3))
    targets.flat[list(ignored)] = 7
    weights = rng.standard_normal((2, 3)) if reduction == "none" else np.array(1.5)

    def loss(x):
        return (cross_entropy(x, targets, 7, reduction) * weights).sum()

    leaf = Tensor(logits, requires_grad=True)
    loss(leaf).backward()
    expected = central_difference(lambda x: loss(x).item(), logits)
    # eps^2 and rounding / eps are both about 1e-10 here.
    np.testing.assert_allclose(leaf.grad, expected, atol=1e-8)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_second_derivative_is_that_of_softmax(rng, reduction):
    x = Tensor(rng.standard_normal((1, 4)), requires_grad=True)
    v = rng.standard_normal((1, 4))
    (first,) = grad(cross_entropy(x, [2], reduction=reduction).sum(), (x,), create_graph=True)
    (second,) = grad((first * v).sum(), (x,))
    p = np.exp(x.numpy()) / np.exp(x.numpy()).sum()
    # H v = (diag(p) - p p^T) v
    np.testing.assert_allclose(second.numpy(), p * v - p * (p @ v.T), rtol=1e-12)


def test_the_first_derivative_is_the_same_with_and_without_a_graph(rng):
    x = Tensor(rng.standard_normal((5, 4)), requires_grad=True)
    targets = [0, 1, -100, 3, 0]
    (plain,) = grad(cross_entropy(x, targets), (x,))
    (graph,) = grad(cross_entropy(x, targets), (x,), create_graph=True)
    # Two ways to compute one formula.
    np.testing.assert_allclose(plain.numpy(), graph.numpy(), rtol=1e-13, atol=1e-16)


def test_a_second_backward_over_a_kept_tape_gives_the_same_again(rng):
    x = Tensor(rng.standard_normal((5, 4)), requires_grad=True)
    loss = cross_entropy(x, [0, 1, 2, 3, 0])
    loss.backward(retain_graph=True)
    once = x.grad.copy()
    loss.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)


def test_if_all_targets_are_ignored_the_mean_is_nan_and_the_gradient_zero():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    loss = cross_entropy(x, [-100, -100])
    loss.backward()
    assert math.isnan(loss.item())
    assert not x.grad.any()
    assert cross_entropy(x, [-100, -100], reduction="sum").item() == 0.0


def test_no_targets_give_an_empty_loss():
    empty = np.zeros((0, 3))
    assert cross_entropy(empty, np.zeros(0, int), reduction="none").shape == (0,)
    assert cross_entropy(empty, np.zeros(0, int), reduction="sum").item() == 0.0


def test_nan_in_nan_out_and_ignored_rows_may_hold_anything():
    logits = np.array([[math.nan, 1.0], [0.0, 0.0]])
    assert math.isnan(cross_entropy(logits, [0, 0]).item())
    leaf = Tensor(logits, requires_grad=True)
    loss = cross_entropy(leaf, [-100, 0])
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert leaf.grad[0].tolist() == [0.0, 0.0]


def test_a_masked_class_has_no_share():
    x = Tensor([[0.0, -math.inf, 0.0]], requires_grad=True)
    loss = cross_entropy(x, [0])
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert x.grad.tolist() == [[-0.5, 0.0, 0.5]]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mean_squared_error_and_its_gradients(rng, reduction):
    a, b = (Tensor(rng.standard_normal((2, 3)), requires_grad=True) for _ in range(2))
    loss = mse_loss(a, b, reduction)
    d = a.numpy() - b.numpy()
    expected = {"mean": (d**2).mean(), "sum": (d**2).sum(), "none": d**2}[reduction]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-14)
    loss.sum().backward()
    np.testing.assert_allclose(a.grad, 2 * d / (6 if reduction == "mean" else 1), rtol=1e-14)
    np.testing.assert_allclose(b.grad, -a.grad, rtol=1e-14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mean_squared_error_has_tangents_and_second_derivatives(rng, reduction):
    a, b, v = (rng.standard_normal((2, 3)) for _ in range(3))
    leaf = Tensor(a, requires_grad=True)
    share = 6 if reduction == "mean" else 1

    def loss(x):
        return mse_loss(x, b, reduction).sum()

    tangent = jvp(loss, leaf, v)[1]
    np.testing.assert_allclose(tangent, (2 * (a - b) * v).sum() / share, rtol=1e-14)
    # The Hessian is 2 over the share, times the identity.
    np.testing.assert_allclose(hvp(loss, leaf, v)[0], 2 * v / share, rtol=1e-14)


def test_the_mean_squared_error_of_nothing_is_nan_as_in_pytorch():
    assert math.isnan(mse_loss(np.zeros((0, 3)), np.zeros((0, 3))).item())


@pytest.mark.torch
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_pytorch_gives_the_same_values_and_gradients(torch, rng, reduction, ignore_index):
    logits, targets = 3 * rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    ours = Tensor(logits, requires_grad=True)
    theirs = torch.tensor(logits, requires_grad=True)
    loss = cross_entropy(ours, targets, ignore_index, reduction)
    expected = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(targets), ignore_index=ignore_index, reduction=reduction
    )
    np.testing.assert_allclose(loss.numpy(), expected.detach().numpy(), rtol=1e-13)
    loss.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: cross_entropy(x, [0, 3]), ValueError, r"\[0, V=3\).*got 3 at \(1,\)"),
        (lambda x: cross_entropy(x, [0, -1]), ValueError, r"ignore_index=-100, got -1 at \(1,\)"),
        (lambda x: cross_entropy(x, [0]), ValueError, r"logits \(2, 3\) and targets \(1,\)"),
        (lambda x: cross_entropy(x, [0.0, 1.0]), TypeError, "targets must be integers"),
        (lambda x: cross_entropy(x, [0, 1], reduction="max"), ValueError, "reduction.*'max'"),
        (lambda x: cross_entropy(x[:, :0], [0, 1]), ValueError, "at least one class"),
        (lambda x: cross_entropy(x.astype(int), [0, 1]), TypeError, "logits must be float"),
        (lambda x: mse_loss(x, x[0]), ValueError, r"one shape, got \(2, 3\) and \(3,\)"),
        (lambda x: mse_loss(x, x, "all"), ValueError, "reduction.*'all'"),
        (lambda x: mse_loss(x, x.astype(np.float32)), TypeError, "dtype"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call(np.zeros((2, 3)))


def test_ignored_rows_may_hold_anything_in_higher_derivatives_too():
    x = Tensor([[math.nan, 1.0], [0.0, 1.0]], requires_grad=True)
    (first,) = grad(cross_entropy(x, [-100, 0]), (x,), create_graph=True)
    (second,) = grad(first[1, 0], (x,))
    assert first.numpy()[0].tolist() == [0.0, 0.0]
    assert second.numpy()[0].tolist() == [0.0, 0.0]
    assert np.isfinite(second.numpy()).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck_confirms_first_and_second_derivatives(rng, reduction):
    logits, targets = rng.standard_normal((2, 3)), [2, -100]
    assert gradcheck(lambda x: cross_entropy(x, targets, reduction=reduction), logits, order=2)
    pair = [rng.standard_normal((2, 2)), rng.standard_normal((2, 2))]
    assert gradcheck(lambda a, b: mse_loss(a, b, reduction), pair, order=2)


def test_a_tangent_moves_the_loss_by_gradient_times_tangent(rng):
    x, v = Tensor(rng.standard_normal((4, 3)), requires_grad=True), rng.standard_normal((4, 3))
    targets = [0, 1, 2, 0]
    _, moved = jvp(lambda x: cross_entropy(x, targets), x, v)
    (slope,) = grad(cross_entropy(x, targets), (x,))
    # One inner product, in another order.
    assert moved.item() == pytest.approx((slope.numpy() * v).sum(), rel=1e-12)
