"""Pointwise operations with broadcasting: each value stands beside its vjp.

A vjp gets the output and ``d``, its gradient: an ndarray, or a Tensor where ``create_graph`` wants
a graph. It reads the operands off the output; nothing else is kept.
NumPy's floating-point warnings stand (``numpy.errstate`` sets them), but where an operation
overflows on its way to a correct result.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.engine.dual import (
    ONE,
    SCALARS,
    ZERO,
    Operand,
    binary,
    like,
    operands,
    quietly,
    sum_to,
    tensor,
)
from minirnn.engine.piecewise import but_where
from minirnn.engine.tape import Grad, Value, emit

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor


def add(input: Operand, other: Operand) -> "Tensor":
    """Return ``input + other``."""
    a, b, y = binary("+", np.add, input, other)
    return emit(y, (a, b), _add_vjp, "+")


def _add_vjp(out: Value, d: Grad) -> tuple[Grad, Grad]:
    a, b = out._parents
    return sum_to(d, a) if a.requires_grad else None, sum_to(d, b) if b.requires_grad else None


def sub(input: Operand, other: Operand) -> "Tensor":
    """Return ``input - other``."""
    a, b, y = binary("-", np.subtract, input, other)
    return emit(y, (a, b), _sub_vjp, "-")


def _sub_vjp(out: Value, d: Grad) -> tuple[Grad, Grad]:
    a, b = out._parents
    return sum_to(d, a) if a.requires_grad else None, sum_to(-d, b) if b.requires_grad else None


def mul(input: Operand, other: Operand) -> "Tensor":
    """Return ``input * other``."""
    a, b, y = binary("*", np.multiply, input, other)
    return emit(y, (a, b), _mul_vjp, "*")


def _mul_vjp(out: Value, d: Grad) -> tuple[Grad, Grad]:
    a, b = out._parents
    return (
        sum_to(d * like(d, b), a) if a.requires_grad else None,
        sum_to(d * like(d, a), b) if b.requires_grad else None,
    )


def div(input: Operand, other: Operand) -> "Tensor":
    """Return ``input / other``."""
    a, b, y = binary("/", np.divide, input, other)
    return emit(y, (a, b), _div_vjp, "/")


def _div_vjp(out: Value, d: Grad) -> tuple[Grad, Grad]:
    a, b = out._parents
    da = d / like(d, b)
    return (
        sum_to(da, a) if a.requires_grad else None,
        # d(a/b)/db = -(a/b)/b
        sum_to(-like(d, out) * da, b) if b.requires_grad else None,
    )


def neg(input: Operand) -> "Tensor":
    """Return ``-input``."""
    a = input if isinstance(input, Value) else tensor(input, "-")
    return emit(-a._data, (a,), _neg_vjp, "-")


def _neg_vjp(out: Value, d: Grad) -> tuple[Grad]:
    return (-d,)


def power(input: Operand, other: Operand) -> "Tensor":
    """Return ``input ** other``; the exponent is a number or a tensor."""
    if isinstance(other, int | float) and other.__class__ in SCALARS:
        return _power_constant(tensor(input, "**"), float(other))
    a, b, y = binary("**", np.power, input, other)
    return emit(y, (a, b), _power_vjp, "**")


def _power_vjp(out: Value, d: Grad) -> tuple[Grad, Grad]:
    a, b = out._parents
    u, v = like(d, a), like(d, b)
    zero, one = ZERO[out._data.dtype], ONE[out._data.dtype]
    da = db = None
    if a.requires_grad:
        # b a^(b-1), which is 0 where b is 0 even if a is 0
        less = but_where(b._data == zero, zero, v - one)
        da = sum_to(d * v * u**less, a)
    if b.requires_grad:
        # a^b log a, and its limit 0 where a is 0 and b is not negative
        base = but_where((a._data == zero) & (b._data >= zero), one, u)
        db = sum_to(d * like(d, out) * _log_like(base), b)
    return da, db


def _power_constant(a: "Tensor", n: float) -> "Tensor":
    """Return ``a ** n`` for a number n."""

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        u = like(d, a)
        if n == 2:
            return (d * u * 2.0,)
        return (d * (u ** (n - 1.0) * n) if n else d * 0.0,)

    return emit(a._data**n, (a,), vjp, "**")


def rpower(input: Operand, other: Operand) -> "Tensor":
    """Return ``other ** input``: the operator with the tensor on its right."""
    base, exponent = operands("**", other, input)
    return power(base, exponent)


def exp(input: Operand) -> "Tensor":
    """Return ``exp(input)``."""
    a = input if isinstance(input, Value) else tensor(input, "exp")
    return emit(np.exp(a._data), (a,), _exp_vjp, "exp")


def _exp_vjp(out: Value, d: Grad) -> tuple[Grad]:
    return (d * like(d, out),)


def log(input: Operand) -> "Tensor":
    """Return the natural logarithm; ``log(0)`` is -inf and a negative ``input`` gives NaN."""
    a = input if isinstance(input, Value) else tensor(input, "log")
    return emit(np.log(a._data), (a,), _log_vjp, "log")


def _log_vjp(out: Value, d: Grad) -> tuple[Grad]:
    return (d / like(d, out._parents[0]),)


def sqrt(input: Operand) -> "Tensor":
    """Return the square root; a negative ``input`` gives NaN."""
    a = input if isinstance(input, Value) else tensor(input, "sqrt")
    return emit(np.sqrt(a._data), (a,), _sqrt_vjp, "sqrt")


def _sqrt_vjp(out: Value, d: Grad) -> tuple[Grad]:
    root = like(d, out)
    return (d / (root + root),)


def rsqrt(input: Operand) -> "Tensor":
    """Return ``1 / sqrt(input)``."""
    a = input if isinstance(input, Value) else tensor(input, "rsqrt")
    return emit(np.reciprocal(np.sqrt(a._data)), (a,), _rsqrt_vjp, "rsqrt")


def _rsqrt_vjp(out: Value, d: Grad) -> tuple[Grad]:
    r = like(d, out)
    return (d * (r * r * r) * -0.5,)


def tanh(input: Operand) -> "Tensor":
    """Return ``tanh(input)``."""
    a = input if isinstance(input, Value) else tensor(input, "tanh")
    return emit(np.tanh(a._data), (a,), _tanh_vjp, "tanh")


def _tanh_vjp(out: Value, d: Grad) -> tuple[Grad]:
    t = like(d, out)
    return (d - d * t * t,)


def sigmoid(input: Operand) -> "Tensor":
    """Return ``1 / (1 + exp(-input))``; both tails keep their relative precision."""
    a = input if isinstance(input, Value) else tensor(input, "sigmoid")
    e = quietly(np.exp, -a._data)  # where this overflows to inf the quotient is the correct 0
    e += ONE[e.dtype]
    return emit(np.reciprocal(e), (a,), _sigmoid_vjp, "sigmoid")


def _sigmoid_vjp(out: Value, d: Grad) -> tuple[Grad]:
    s = like(d, out)
    return (d * (s - s * s),)


def _log_like(a: Any) -> Any:
    """`log` of an array or a Tensor."""
    return log(a) if isinstance(a, Value) else np.log(a)
