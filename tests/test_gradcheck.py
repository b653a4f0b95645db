"""gradcheck finds wrong derivatives, says where, and leaves its inputs alone."""

import numpy as np
import pytest

from minirnn.engine import GradcheckError, Tensor, enable_grad, gradcheck, record, where


def scaled(factor, only=None):
    """``x * x`` whose derivative is wrong by a factor, everywhere or at one index."""

    def square(x):
        scale = np.full(x.shape, factor) if only is None else np.ones(x.shape)
        if only is not None:
            scale[only] = factor
        data = x._data
        return record([data * data], [x], lambda d: (d * scale * 2 * data,), name="square")[0]

    return square


def test_a_right_derivative_is_true():
    x, w = np.linspace(-1, 1, 6).reshape(2, 3), np.linspace(0.1, 2, 12).reshape(3, 4)
    assert gradcheck(lambda x, w: (x @ w).tanh(), (x, w)) is True
    assert gradcheck(lambda x, w: ((x @ w).tanh(), (x.sum(),)), [Tensor(x), Tensor(w)], order=2)


def test_a_wrong_derivative_is_found_where_it_is():
    x = np.arange(1.0, 7.0).reshape(2, 3)
    with pytest.raises(GradcheckError, match=r"output 0\[1, 2\] by input 1\[1, 2\] is 18 ") as info:
        gradcheck(lambda a, b: a + scaled(1.5, only=(1, 2))(b), (x, x))
    error = info.value
    assert (error.input, error.index) == (1, (1, 2))
    assert (error.output, error.output_index) == (0, (1, 2))
    assert error.analytic == 18.0
    assert error.numeric == pytest.approx(12.0, rel=1e-9)


def test_the_worst_entry_is_the_one_reported():
    with pytest.raises(GradcheckError) as info:
        gradcheck(scaled(1.001), np.array([0.5, 3.0, -1.0]))
    assert info.value.index == (1,)


@pytest.mark.parametrize("factor", [1 + 1e-5, 0.0, -1.0, np.nan])
def test_wrong_factors_are_found(factor):
    with pytest.raises(GradcheckError):
        gradcheck(scaled(factor), np.array([1.0, 2.0]))


def test_a_dependence_that_the_tape_does_not_know_is_found():
    with pytest.raises(GradcheckError) as info:
        gradcheck(lambda x: x * x.detach(), np.array([2.0]))
    assert (info.value.analytic, info.value.index) == (2.0, (0,))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x.detach() * 2, np.array([2.0]))


def test_a_wrong_second_derivative_is_found_by_order_2_only():
    def square(x):
        data = x._data

        def vjp(d):
            return (d * 2 * data,)  # right as a number; as a graph it forgets to depend on x

        return record([data * data], [x], vjp, name="square")[0]

    assert gradcheck(square, np.array([3.0]))
    with pytest.raises(GradcheckError, match="second derivative"):
        gradcheck(square, np.array([3.0]), order=2)


def test_a_wrong_jvp_rule_is_found_by_forward_only():
    def double(factor):
        def op(x):
            rule = lambda d: (factor * d,)  # noqa: E731
            return record([2 * x._data], [x], lambda d: (2 * d,), jvp=rule, name="double")[0]

        return op

    x = np.array([1.0, 2.0])
    assert gradcheck(lambda x: double(2.0)(x).tanh() * x, x, forward=True)
    assert gradcheck(double(3.0), x)
    with pytest.raises(GradcheckError) as info:
        gradcheck(double(3.0), x, forward=True)
    assert info.value.analytic == 3.0


def test_float64_only():
    with pytest.raises(TypeError, match=r"gradcheck: inputs\[1\] must be float64, got float32"):
        gradcheck(lambda x, y: x, (np.ones(2), np.ones(2, np.float32)))
    with pytest.raises(ValueError, match="inputs must hold a float64 array or Tensor, got none"):
        gradcheck(lambda n: n, (np.arange(3),))
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        gradcheck(lambda x: x, np.ones(2), order=3)


def test_the_result_of_an_operation_is_refused():
    x = Tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"inputs\[0\] must be a leaf.*detach"):
        gradcheck(lambda x: x, x * 2)


def test_a_function_that_returns_no_tensors_is_told_so():
    with pytest.raises(TypeError, match=r"fn must return Tensors.*got ndarray"):
        gradcheck(lambda x: x.numpy(), np.ones(2))


def test_integers_and_tensors_without_grad_beside_others_are_constants():
    ids, mask = np.array([0, 1, 1]), Tensor([1.0, 0.0, 1.0])
    x = Tensor([[1.0], [2.0]], requires_grad=True)
    # The derivative by mask is wrong (detached), but mask is a constant here.
    assert gradcheck(lambda ids, m, x: x[ids][:, 0] * m.detach(), (ids, mask, x))


def test_parameters_that_the_function_closes_over_are_checked_by_identity():
    w = Tensor([1.0, 2.0], requires_grad=True)
    assert gradcheck(lambda: (w * w).sum(), w)
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: scaled(2.0)(w) * x, (np.ones(2), w))


def test_inputs_come_back_as_they_were():
    x = Tensor([1.0, 2.0])
    gradcheck(lambda x: x * x, x)
    assert x.numpy().tolist() == [1.0, 2.0] and not x.requires_grad and x.grad is None

    def fails(x):
        if x.numpy()[0] != 1.0:
            raise KeyError
        return x * x

    with pytest.raises(KeyError):
        gradcheck(fails, x)
    assert x.numpy().tolist() == [1.0, 2.0] and not x.requires_grad


def test_tolerances_and_step_are_taken():
    wrong = scaled(1.001)
    assert gradcheck(wrong, np.array([1.0]), rtol=1e-2)
    assert gradcheck(wrong, np.array([1.0]), atol=1e-2)
    kink = np.array([1e-4])
    assert gradcheck(lambda x: where(x > 0, x, 3 * x), kink)
    with pytest.raises(GradcheckError):  # the step reaches across the kink
        gradcheck(lambda x: where(x > 0, x, 3 * x), kink, eps=1e-3)


def test_large_numbers_get_a_larger_step_and_tolerance():
    """At 1e6 a step of 6e-6 would leave 4 digits of a square; in proportion it leaves 10."""
    assert gradcheck(lambda x: x * x, np.array([1e6, 1e-6]))


def test_it_works_inside_enable_grad_and_with_empty_inputs():
    with enable_grad():
        assert gradcheck(lambda x: x * 2, np.zeros((0, 3)))
