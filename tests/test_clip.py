"""Clipping of gradients: Algorithm 1, the record, gradients that are not finite."""

import contextlib
import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minirnn.engine import Tensor
from minirnn.kernels import spread, threads
from minirnn.layers.clip import ClipInfo, clip_grad_norm, clip_grad_value
from minirnn.layers.reference import use_reference


def parameters(*gradients, dtype=np.float64):
    params = []
    for gradient in gradients:
        array = None if gradient is None else np.array(gradient, dtype)
        parameter = Tensor(np.zeros((1,) if array is None else array.shape, dtype), True)
        parameter.grad = array
        params.append(parameter)
    return params


def norm(params, order=2.0):
    return np.linalg.norm(np.concatenate([p.grad.ravel() for p in params]), order)


finite = st.floats(-1e6, 1e6, allow_subnormal=False)
gradients = st.lists(
    arrays(np.float64, array_shapes(max_dims=2, max_side=4), elements=finite),
    min_size=1,
    max_size=3,
)


@given(gradients, st.floats(1e-3, 1e3), st.sampled_from([1.0, 2.0, 3.5, math.inf]))
def test_the_norm_afterwards_is_the_smaller_of_norm_and_threshold(gradients, threshold, order):
    params = parameters(*gradients)
    before = norm(params, order)
    info = clip_grad_norm(params, threshold, order)
    # One rounding per entry and a sum of at most 48 terms.
    assert info == pytest.approx(before, rel=1e-12)
    assert norm(params, order) == pytest.approx(min(before, threshold), rel=1e-12)
    assert info.post == pytest.approx(min(before, threshold), rel=1e-12)


@given(gradients)
def test_clipping_by_norm_keeps_the_direction(gradients):
    params = parameters(*gradients)
    info = clip_grad_norm(params, 0.5)
    for parameter, gradient in zip(params, gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient * info.scale)


def test_at_the_threshold_nothing_changes():
    params = parameters([3.0, 4.0])
    before = params[0].grad
    info = clip_grad_norm(params, 5.0)
    assert params[0].grad is before
    assert (info.norm, info.post, info.clipped, info.scale, info.nonfinite) == (5, 5, False, 1, 0)


def test_there_is_no_small_number_in_the_denominator():
    params = parameters([3e-9, 4e-9])
    assert clip_grad_norm(params, 1e-9).scale == pytest.approx(0.2, rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 31, 32, 4096, 4097, 9001])
def test_kernels_measure_and_clip_as_numpy_does(rng, dtype, size):
    gradients = [rng.standard_normal(size), rng.standard_normal((3, 5)).T, np.zeros((0, 2))]
    records = []
    for context in (contextlib.nullcontext, use_reference):
        by_norm, by_value = parameters(*gradients, dtype=dtype), parameters(*gradients, dtype=dtype)
        with context():
            # Both sum float64 squares, in other orders: rounding of 9016 terms at most.
            infos = clip_grad_norm(by_norm, 0.1), clip_grad_value(by_value, 0.3)
        records.append((infos, by_norm + by_value))
    (fused, params), (plain, expected) = records
    assert fused == pytest.approx(plain, rel=1e-13)
    assert [i.post for i in fused] == pytest.approx([i.post for i in plain], rel=1e-13)
    for p, q in zip(params, expected, strict=True):
        assert p.grad.shape == q.grad.shape and p.grad.dtype == dtype
        # The factor is rounded from two norms.
        np.testing.assert_allclose(p.grad, q.grad, rtol=4 * np.finfo(dtype).eps)


def test_the_number_of_threads_changes_no_bit_of_norm_or_gradient(rng, monkeypatch):
    gradients = [rng.standard_normal(9001), rng.standard_normal(3)]
    monkeypatch.setattr(spread, "REGION", 0)
    results = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "_threads", count)
        params = parameters(*gradients)
        results.append((clip_grad_norm(params, 0.1).norm, *(p.grad.tolist() for p in params)))
    assert results[0] == results[1]


def test_the_norm_of_huge_and_tiny_gradients_neither_overflows_nor_vanishes():
    assert clip_grad_norm(parameters([3e200, 4e200]), math.inf) == pytest.approx(5e200)
    assert clip_grad_norm(parameters([3e-200, 4e-200]), math.inf) == pytest.approx(5e-200)
    huge = parameters([3e30, 4e30], dtype=np.float32)
    assert clip_grad_norm(huge, 1.0) == pytest.approx(5e30)
    # float32 entries: one rounding of 6e-8 each.
    assert norm(huge) == pytest.approx(1.0, rel=1e-6)
    assert huge[0].grad.dtype == np.float32


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("order", [2.0, math.inf])
def test_gradients_that_are_not_finite_are_counted_and_left_alone(bad, order):
    params = parameters([3.0, bad], None, [[bad], [4.0]])
    before = [None if p.grad is None else p.grad.copy() for p in params]
    info = clip_grad_norm(params, 1.0, order)
    assert not math.isfinite(info)
    assert (info.clipped, info.nonfinite, info.scale) == (False, 2, 1.0)
    np.testing.assert_array_equal(params[0].grad, before[0])
    np.testing.assert_array_equal(params[2].grad, before[2])
    assert clip_grad_value(params, 1.0).nonfinite == 2
    np.testing.assert_array_equal(params[0].grad, before[0])


def test_a_nan_in_a_later_gradient_is_not_overlooked():
    assert math.isnan(clip_grad_norm(parameters([3.0], [math.nan]), 1.0, math.inf))
    assert math.isnan(clip_grad_norm(parameters([math.inf], [math.nan]), 1.0))


def test_error_if_nonfinite_names_the_gradients():
    with pytest.raises(RuntimeError, match=r"1 in gradient 1 of shape \(2, 1\).*untouched"):
        clip_grad_norm(parameters([3.0], [[4.0], [math.nan]]), 1.0, error_if_nonfinite=True)


def test_parameters_without_a_gradient_are_passed_over():
    assert clip_grad_norm(parameters(None, [2.0]), 1.0) == 2.0
    assert clip_grad_norm(parameters(None), 1.0) == 0.0
    assert clip_grad_norm([], 1.0) == 0.0
    assert clip_grad_value(parameters(None), 1.0) == 0.0


def test_a_parameter_in_two_places_counts_once():
    (p,) = parameters([2.0])
    assert clip_grad_norm([p, p], 1.0) == 2.0
    assert p.grad == 1.0


def test_one_tensor_or_a_generator_of_them_will_do():
    (p,) = parameters([2.0])
    assert clip_grad_norm(p, 1.0) == 2.0
    assert clip_grad_norm((q for q in [p]), 0.5) == 1.0


def test_clipping_by_value_cuts_every_entry():
    params = parameters([3.0, -4.0], [0.5])
    info = clip_grad_value(params, 1.0)
    assert params[0].grad.tolist() == [1.0, -1.0]
    assert params[1].grad.tolist() == [0.5]
    assert info.norm == pytest.approx(math.sqrt(25.25))
    assert info.post == pytest.approx(1.5)
    assert info.scale == pytest.approx(1.5 / math.sqrt(25.25))
    assert info.clipped
    assert not clip_grad_value(params, 1.0).clipped


def test_clip_info_is_a_float_that_knows_more():
    info = clip_grad_norm(parameters([3.0, 4.0]), 1.0)
    assert isinstance(info, float) and info + 1 == 6.0
    assert f"{info:.1f}" == "5.0"
    assert repr(info) == ("ClipInfo(norm=5.0, post=1.0, clipped=True, scale=0.2, nonfinite=0)")
    for twin in (copy.copy(info), pickle.loads(pickle.dumps(info))):
        assert isinstance(twin, ClipInfo) and repr(twin) == repr(info)


def test_clipping_values_turns_the_gradient_and_clipping_the_norm_does_not():
    """(3, 4) cut at 1 becomes (1, 1): the cosine is 7 / (5 sqrt 2)."""
    assert clip_grad_value(parameters([3.0], [4.0]), 1.0).cosine == pytest.approx(
        7 / (5 * math.sqrt(2)), rel=1e-14
    )
    assert clip_grad_norm(parameters([3.0], [4.0]), 1.0).cosine == 1.0
    assert clip_grad_value(parameters([3.0], [4.0]), 5.0).cosine == 1.0  # nothing was cut
    huge = parameters([3e200], [4e200])
    assert clip_grad_value(huge, 1e200).cosine == pytest.approx(7 / (5 * math.sqrt(2)), rel=1e-14)


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_nothing_left_has_no_direction(clip):
    assert math.isnan(clip(parameters([3.0, 4.0]), 0.0).cosine)


@pytest.mark.parametrize("limit", [0.1, 100.0, math.nan])
def test_clip_info_tells_whether_a_parameter_was_written_before(limit):
    params = parameters([3.0, 4.0])
    if math.isnan(limit):
        params[0].grad = np.array([math.nan, 1.0])
        limit = 1.0
    first, again = clip_grad_norm(params, limit), clip_grad_norm(params, limit)
    params[0].assign(np.zeros(2))
    later = clip_grad_value(params, limit)
    assert first.versions == again.versions and list(first.versions) == [id(params[0])]
    assert later.versions != first.versions


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: clip_grad_norm(p, -1.0), ValueError, "max_norm must be 0 or more, got -1.0"),
        (lambda p: clip_grad_norm(p, math.nan), ValueError, "max_norm"),
        (lambda p: clip_grad_norm(p, 1.0, 0.0), ValueError, "norm_type must be above 0"),
        (lambda p: clip_grad_value(p, -1.0), ValueError, "clip_value must be 0 or more"),
        (lambda p: clip_grad_norm([np.ones(3)], 1.0), TypeError, r"Tensors.*model\.parameters\(\)"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call(parameters([1.0]))


@pytest.mark.torch
@pytest.mark.parametrize("order", [1.0, 2.0, math.inf])
def test_pytorch_clips_the_same_up_to_its_small_number(torch, rng, order):
    gradients = [rng.standard_normal((4, 3)), rng.standard_normal(5)]
    ours = parameters(*gradients)
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for t, g in zip(theirs, gradients, strict=True):
        t.grad = torch.tensor(g)
    expected = float(torch.nn.utils.clip_grad_norm_(theirs, 0.7, order))
    assert clip_grad_norm(ours, 0.7, order) == pytest.approx(expected, rel=1e-14)
    for p, t in zip(ours, theirs, strict=True):
        # PyTorch divides by norm + 1e-6, and norm > 1 here.
        np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-6)
