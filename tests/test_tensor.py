"""Tensor: what it is made from, what it answers, how it is written, and its operators."""

import copy
import pickle

import numpy as np
import pytest

from minirnn.engine import Tensor, no_grad

# What it is made from.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tensor_keeps_the_dtype_of_an_array_and_copies_it(dtype):
    array = np.ones((2, 3), dtype)
    t = Tensor(array)
    array[:] = 5
    assert (t.shape, t.ndim, t.dtype, t.size) == ((2, 3), 2, np.dtype(dtype), 6)
    assert t.numpy().tolist() == [[1.0] * 3] * 2


def test_lists_and_numbers_become_float64():
    for value in ([1, 2], [[1.0], [2.0]], 3, 2.5, True, []):
        assert Tensor(value).dtype == np.float64


def test_what_is_no_float32_or_float64_is_a_type_error():
    for value in (np.arange(3), np.ones(3, bool), np.ones(2, np.float16), np.ones(2, complex)):
        with pytest.raises(TypeError, match=r"Tensor: array must be float32 or float64, got"):
            Tensor(value)
    for value in (["a"], [1j], [[1.0], [2.0, 3.0]]):
        with pytest.raises((TypeError, ValueError), match="real numbers in rows of one length"):
            Tensor(value)


def test_any_memory_layout_is_taken_and_stored_in_order():
    array = np.arange(6.0).reshape(2, 3)
    for view in (array.T, array[:, ::2], np.asfortranarray(array), array.astype(">f8")):
        t = Tensor(view)
        np.testing.assert_array_equal(t.numpy(), view)
        assert t.numpy().flags.c_contiguous and t.dtype.isnative


# What it answers.


def test_numpy_is_a_read_only_view_that_sees_writes():
    t = Tensor([1.0, 2.0])
    view = t.numpy()
    assert np.shares_memory(view, t.numpy())
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5
    t.assign(np.array([3.0, 4.0]))
    assert view.tolist() == [3.0, 4.0]


def test_item_is_the_only_entry():
    assert Tensor([[2.5]]).item() == 2.5
    assert isinstance(Tensor(2).item(), float)
    with pytest.raises(ValueError, match=r"item: the tensor must have one entry, got shape \(2,\)"):
        Tensor([1, 2]).item()


def test_detach_shares_memory_and_passes_no_gradient():
    x = Tensor([2.0], requires_grad=True)
    y = x * x
    d = y.detach()
    assert np.shares_memory(d.numpy(), y.numpy()) and not d.requires_grad
    (y.stop() * x).backward()
    assert x.grad.tolist() == [4.0]


def test_python_protocols():
    t = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(t) == 2 and [row.numpy().tolist() for row in t] == [[1.0, 2.0], [3.0, 4.0]]
    assert float(Tensor(2.5)) == 2.5 and bool(Tensor(1.0)) and not bool(Tensor(0.0))
    assert repr(t) == "Tensor([[1., 2.],\n        [3., 4.]], dtype=float64)"
    assert repr(Tensor(1.0, requires_grad=True)) == "Tensor(1., dtype=float64, requires_grad=True)"
    for wrong in (lambda: len(Tensor(1.0)), lambda: hash(t) and t.__setitem__(0, 1.0)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="one entry"):
        bool(t)


def test_numpy_functions_read_a_constant_and_refuse_to_lose_a_gradient():
    assert np.asarray(Tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert not np.asarray(Tensor([1.0])).flags.writeable
    with pytest.raises(TypeError, match="lose this tensor's gradient"):
        np.asarray(Tensor([1.0], requires_grad=True))


def test_a_leaf_survives_copying_and_pickling():
    t = Tensor([1.0, 2.0], requires_grad=True)
    for twin in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        assert twin.requires_grad and twin.numpy().tolist() == [1.0, 2.0]
        assert not np.shares_memory(twin.numpy(), t.numpy())


# How it is written.


def test_assign_takes_the_same_shape_and_dtype_only():
    t = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=r"assign: array must have the tensor's shape \(2,\)"):
        t.assign(np.ones(3))
    with pytest.raises(ValueError, match="assign"):
        t.assign(1.0)
    with pytest.raises(TypeError, match="assign: array must have the tensor's dtype float64"):
        t.assign(np.ones(2, np.float32))
    assert t.version == 0
    t.assign(Tensor([5.0, 6.0]))
    assert t.numpy().tolist() == [5.0, 6.0] and t.version > 0


def test_a_view_is_written_through_its_owner_only():
    t = Tensor([1.0, 2.0])
    for view in (t.detach(), t.reshape(2, 1), t[:1]):
        with pytest.raises(RuntimeError, match="assign: this tensor shows the memory of another"):
            view.assign(np.zeros(view.shape))


def test_item_assignment_points_to_assign():
    with pytest.raises(TypeError, match=r"by assign\(array\)"):
        Tensor([1.0])[0] = 2.0


# Gradients.


def test_backward_leaves_arrays_in_leaves_only():
    x = Tensor([2.0], requires_grad=True)
    y = x * x
    (y * 3).backward()
    assert type(x.grad) is np.ndarray and x.grad.dtype == x.dtype
    assert y.grad is None
    x.grad = None
    (x * 1).backward()
    assert x.grad.tolist() == [1.0]


def test_backward_of_a_leaf_is_one():
    x = Tensor(2.0, requires_grad=True)
    x.backward()
    assert x.grad == 1.0 and type(x.grad) is np.ndarray


def test_backward_takes_a_gradient_of_the_tensors_shape_and_dtype():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for gradient in (np.array([1.0, 10.0]), Tensor([1.0, 10.0]), [1, 10]):
        x.grad = None
        (x * 2).backward(gradient)
        assert x.grad.tolist() == [2.0, 20.0]
    with pytest.raises(ValueError, match=r"backward: gradient must have the shape \(2,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(TypeError, match="backward: gradient must have the dtype float64"):
        (x * 2).backward(np.ones(2, np.float32))
    with pytest.raises(ValueError, match="gradient may be left out only for a tensor of one"):
        (x * 2).backward()


def test_backward_without_anything_to_differentiate_is_an_error():
    with pytest.raises(RuntimeError, match="does not depend on anything with requires_grad=True"):
        Tensor(1.0).backward()
    with no_grad():
        y = Tensor(1.0, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()


# Operators.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_never_promote(dtype):
    t = Tensor(np.ones((), dtype))
    for y in (t + 1, 1 - t, t * 2.5, 2 / t, t**2, 2.0**t, t**0.5, True + t, t.maximum(0.5)):
        assert y.dtype == dtype and type(y) is Tensor


def test_zero_keeps_its_sign():
    """Equal numbers may share one constant; 0.0 and -0.0 are equal, and not the same."""
    x = Tensor([1.0])
    assert [np.signbit((x * zero).item()) for zero in (0.0, -0.0, 0.0)] == [False, True, False]


def test_an_array_on_the_left_defers_to_the_tensor():
    t = Tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0])
    results = {
        "+": (array + t, [4.0, 6.0]),
        "-": (array - t, [2.0, 2.0]),
        "*": (array * t, [3.0, 8.0]),
        "/": (array / t, [3.0, 2.0]),
        "**": (array**t, [3.0, 16.0]),
        "@": (array @ t, 11.0),
        "scalar": (np.float64(2) * t, [2.0, 4.0]),
        "list": ([1, 1] + t, [2.0, 3.0]),  # noqa: RUF005 - the operator is the point
    }
    for name, (y, expected) in results.items():
        assert type(y) is Tensor and y.requires_grad, name
        assert y.numpy().tolist() == expected, name


def test_an_array_written_after_forward_changes_no_gradient():
    x = Tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0])
    y = (x * array).sum()
    array[:] = 0
    y.backward()
    assert x.grad.tolist() == [3.0, 4.0]


def test_comparisons_are_bool_arrays():
    a, b = Tensor([1.0, 2.0, 3.0]), Tensor([2.0, 2.0, 2.0])
    for result, expected in [
        (a < b, [True, False, False]),
        (a <= b, [True, True, False]),
        (a > 2, [False, False, True]),
        (a >= np.array([2.0, 2.0, 2.0]), [False, True, True]),
        (np.array([2.0, 2.0, 2.0]) < a, [False, False, True]),
    ]:
        assert type(result) is np.ndarray and result.tolist() == expected


def test_where_is_reached_from_the_class():
    condition = np.array([True, False])
    assert Tensor.where_(condition, Tensor([1.0, 2.0]), 0.0).numpy().tolist() == [1.0, 0.0]
    assert Tensor.where_(True, Tensor([1.0]), Tensor([2.0])).item() == 1.0
