"""Pointwise operations with broadcasting: each value stands beside its vjp.

``d`` is the gradient of the output, an ndarray, or a Tensor where ``create_graph`` wants a graph.
A rule that needs its output uses the array it has, or computes the output again as a Tensor.
NumPy's floating-point warnings stand (``numpy.errstate`` sets them), but where an operation
overflows on its way to a correct result.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from minirnn.engine.dual import (
    SCALARS,
    binary,
    data_like,
    like,
    operands,
    same_dtype,
    sum_to,
    tensor,
)
from minirnn.engine.tape import Grad, Value, emit

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor

# What an operand may be: a Tensor, an array or nested list of floats, a Python number.
Operand = Any


def add(input: Operand, other: Operand) -> "Tensor":
    """Return ``input + other``."""
    a, b, y = binary("+", np.add, input, other)

    def vjp(d: Grad) -> tuple[Grad, Grad]:
        return (
            sum_to(d, a) if a.requires_grad else None,
            sum_to(d, b) if b.requires_grad else None,
        )

    return emit(y, (a, b), vjp, "+")


def sub(input: Operand, other: Operand) -> "Tensor":
    """Return ``input - other``."""
    a, b, y = binary("-", np.subtract, input, other)

    def vjp(d: Grad) -> tuple[Grad, Grad]:
        return (
            sum_to(d, a) if a.requires_grad else None,
            sum_to(-d, b) if b.requires_grad else None,
        )

    return emit(y, (a, b), vjp, "-")


def mul(input: Operand, other: Operand) -> "Tensor":
    """Return ``input * other``."""
    a, b, y = binary("*", np.multiply, input, other)

    def vjp(d: Grad) -> tuple[Grad, Grad]:
        u, v = like(d, a, b)
        return (
            sum_to(d * v, a) if a.requires_grad else None,
            sum_to(d * u, b) if b.requires_grad else None,
        )

    return emit(y, (a, b), vjp, "*")


def div(input: Operand, other: Operand) -> "Tensor":
    """Return ``input / other``."""
    a, b, y = binary("/", np.divide, input, other)

    def vjp(d: Grad) -> tuple[Grad, Grad]:
        u, v = like(d, a, b)
        da = d / v
        return (
            sum_to(da, a) if a.requires_grad else None,
            # d(a/b)/db = -(a/b)/b
            sum_to(-(u / v) * da, b) if b.requires_grad else None,
        )

    return emit(y, (a, b), vjp, "/")


def neg(input: Operand) -> "Tensor":
    """Return ``-input``."""
    a = tensor(input, "-")
    return emit(-a._data, (a,), lambda d: (-d,), "-")


def power(input: Operand, other: Operand) -> "Tensor":
    """Return ``input ** other``; the exponent is a number or a tensor."""
    if isinstance(other, int | float) and other.__class__ in SCALARS:
        return _power_constant(tensor(input, "**"), float(other))
    a, b, y = binary("**", np.power, input, other)

    def vjp(d: Grad) -> tuple[Grad, Grad]:
        u, v = like(d, a, b)
        da = db = None
        if a.requires_grad:
            # b a^(b-1), which is 0 where b is 0 even if a is 0
            da = sum_to(d * v * u ** where_like(b._data == 0, 0.0, v - 1.0), a)
        if b.requires_grad:
            # a^b log a, and its limit 0 where a is 0 and b is not negative
            flat = (a._data == 0) & (b._data >= 0)
            db = sum_to(d * u**v * _log_like(where_like(flat, 1.0, u)), b)
        return da, db

    return emit(y, (a, b), vjp, "**")


def _power_constant(a: "Tensor", n: float) -> "Tensor":
    """Return ``a ** n`` for a number n."""

    def vjp(d: Grad) -> tuple[Grad]:
        u = data_like(d, a)
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
    a = tensor(input, "exp")
    y = np.exp(a._data)

    def vjp(d: Grad) -> tuple[Grad]:
        return (d * (exp(a) if isinstance(d, Value) else y),)

    return emit(y, (a,), vjp, "exp")


def log(input: Operand) -> "Tensor":
    """Return the natural logarithm; ``log(0)`` is -inf and a negative ``input`` gives NaN."""
    a = tensor(input, "log")
    return emit(np.log(a._data), (a,), lambda d: (d / data_like(d, a),), "log")


def sqrt(input: Operand) -> "Tensor":
    """Return the square root; a negative ``input`` gives NaN."""
    a = tensor(input, "sqrt")
    y = np.sqrt(a._data)

    def vjp(d: Grad) -> tuple[Grad]:
        root = sqrt(a) if isinstance(d, Value) else y
        return (d / (root * 2.0),)

    return emit(y, (a,), vjp, "sqrt")


def rsqrt(input: Operand) -> "Tensor":
    """Return ``1 / sqrt(input)``."""
    a = tensor(input, "rsqrt")
    y = 1.0 / np.sqrt(a._data)

    def vjp(d: Grad) -> tuple[Grad]:
        r = rsqrt(a) if isinstance(d, Value) else y
        return (d * (r * r * r) * -0.5,)

    return emit(y, (a,), vjp, "rsqrt")


def tanh(input: Operand) -> "Tensor":
    """Return ``tanh(input)``."""
    a = tensor(input, "tanh")
    y = np.tanh(a._data)

    def vjp(d: Grad) -> tuple[Grad]:
        t = tanh(a) if isinstance(d, Value) else y
        return (d - d * t * t,)

    return emit(y, (a,), vjp, "tanh")


def sigmoid(input: Operand) -> "Tensor":
    """Return ``1 / (1 + exp(-input))``; both tails keep their relative precision."""
    a = tensor(input, "sigmoid")
    # Where exp(-a) overflows to inf the quotient is the correct 0.
    with np.errstate(over="ignore"):
        e = np.exp(-a._data)
    e += 1.0
    y = np.reciprocal(e)

    def vjp(d: Grad) -> tuple[Grad]:
        s = sigmoid(a) if isinstance(d, Value) else y
        return (d * (s - s * s),)

    return emit(y, (a,), vjp, "sigmoid")


def relu(input: Operand) -> "Tensor":
    """Return ``max(input, 0)``; its derivative at 0 is 0."""
    a = tensor(input, "relu")
    x = a._data
    return emit(np.maximum(x, 0.0), (a,), lambda d: (where_like(x <= 0, 0.0, d),), "relu")


def abs(input: Operand) -> "Tensor":
    """Return ``|input|``; its derivative at 0 is 0."""
    a = tensor(input, "abs")
    return emit(np.abs(a._data), (a,), lambda d: (d * np.sign(a._data),), "abs")


def maximum(input: Operand, other: Operand) -> "Tensor":
    """Return the greater of two, NaN if one is; equal ones get half of the gradient each."""
    a, b, y = binary("maximum", np.maximum, input, other)
    return emit(y, (a, b), _extreme_vjp(a, b, np.less), "maximum")


def minimum(input: Operand, other: Operand) -> "Tensor":
    """Return the smaller of two, NaN if one is; equal ones get half of the gradient each."""
    a, b, y = binary("minimum", np.minimum, input, other)
    return emit(y, (a, b), _extreme_vjp(a, b, np.greater), "minimum")


def _extreme_vjp(a: "Tensor", b: "Tensor", loses: np.ufunc) -> Any:
    """Return the vjp of maximum or minimum: 0 to the one that loses, halves to equal ones."""

    def vjp(d: Grad) -> tuple[Grad, Grad]:
        x, y = a._data, b._data
        shared = where_like(x == y, d * 0.5, d)
        return (
            sum_to(where_like(loses(x, y), 0.0, shared), a) if a.requires_grad else None,
            sum_to(where_like(loses(y, x), 0.0, shared), b) if b.requires_grad else None,
        )

    return vjp


def clip(input: Operand, min: float | None = None, max: float | None = None) -> "Tensor":
    """Limit ``input`` to [min, max], numbers or None; the derivative on the boundary is 1."""
    a = tensor(input, "clip")
    for name, bound in (("min", min), ("max", max)):
        if bound is not None and not isinstance(bound, int | float):
            raise TypeError(
                f"clip: {name} must be a number or None, got {type(bound).__name__}; "
                f"use maximum and minimum for bounds that are tensors"
            )
    x = y = a._data
    # In this order max wins where min > max, as in PyTorch.
    if min is not None:
        y = np.maximum(y, min)
    if max is not None:
        y = np.minimum(y, max)

    def vjp(d: Grad) -> tuple[Grad]:
        inside = np.ones(x.shape, bool)
        if min is not None:
            inside &= x >= min
        if max is not None:
            inside &= x <= max
        return (where_like(inside, d, 0.0),)

    return emit(y if y is not x else x.copy(), (a,), vjp, "clip")


def where(condition: Any, input: Operand, other: Operand) -> "Tensor":
    """Return ``input`` where the bool array ``condition`` holds, else ``other``."""
    condition = np.array(condition)
    if condition.dtype != bool:
        raise TypeError(
            f"where: condition must be a bool array, got {condition.dtype}; compare it, as in x > 0"
        )
    a, b = operands("where", input, other)
    same_dtype("where", (a, b))
    try:
        y = np.where(condition, a._data, b._data)
    except ValueError:
        raise ValueError(
            f"where: condition, input and other must have shapes that broadcast, got "
            f"{condition.shape}, {a.shape} and {b.shape}; reshape one of them"
        ) from None

    def vjp(d: Grad) -> tuple[Grad, Grad]:
        return (
            sum_to(where_like(condition, d, 0.0), a) if a.requires_grad else None,
            sum_to(where_like(condition, 0.0, d), b) if b.requires_grad else None,
        )

    return emit(y, (a, b), vjp, "where")


def where_like(condition: ndarray, a: Any, b: Any) -> Any:
    """`where` on what is there, arrays or Tensors; either may be a number."""
    if isinstance(a, Value) or isinstance(b, Value):
        return where(condition, a, b)
    return np.where(condition, a, b)


def _log_like(a: Any) -> Any:
    """`log` of an array or a Tensor."""
    return log(a) if isinstance(a, Value) else np.log(a)
