"""Pointwise operations that choose: relu, abs, maximum, minimum, clip, where.

As in pointwise.py each value stands beside its vjp. What is not chosen gets a gradient of 0 by
being left out, not by a product with 0, which would make NaN of an infinite gradient.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from minirnn.engine.dual import SCALARS, ZERO, Operand, binary, number, operands, sum_to, tensor
from minirnn.engine.tape import Grad, Value, emit

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor


def relu(input: Operand) -> "Tensor":
    """Return ``max(input, 0)``; its derivative at 0 is 0."""
    a = input if isinstance(input, Value) else tensor(input, "relu")
    return emit(np.maximum(a._data, ZERO[a._data.dtype]), (a,), _relu_vjp, "relu")


def _relu_vjp(out: Value, d: Grad) -> tuple[Grad]:
    y = out._data
    return (_none_where(y <= ZERO[y.dtype], d),)


def abs(input: Operand) -> "Tensor":
    """Return ``|input|``; its derivative at 0 is 0."""
    a = input if isinstance(input, Value) else tensor(input, "abs")
    return emit(np.abs(a._data), (a,), _abs_vjp, "abs")


def _abs_vjp(out: Value, d: Grad) -> tuple[Grad]:
    return (d * np.sign(out._parents[0]._data),)


def maximum(input: Operand, other: Operand) -> "Tensor":
    """Return the greater of two, NaN if one is; equal ones get half of the gradient each."""
    a, b, y = binary("maximum", np.maximum, input, other)
    return emit(y, (a, b), lambda out, d: _extreme_vjp(out, d, np.less), "maximum")


def minimum(input: Operand, other: Operand) -> "Tensor":
    """Return the smaller of two, NaN if one is; equal ones get half of the gradient each."""
    a, b, y = binary("minimum", np.minimum, input, other)
    return emit(y, (a, b), lambda out, d: _extreme_vjp(out, d, np.greater), "minimum")


def _extreme_vjp(out: Value, d: Grad, loses: np.ufunc) -> tuple[Grad, Grad]:
    """Give 0 to the one that loses, halves to equal ones."""
    a, b = out._parents
    x, y = a._data, b._data
    equal = x == y
    if np.count_nonzero(equal):
        d = where_like(equal, d * 0.5, d)
    return (
        sum_to(_none_where(loses(x, y), d), a) if a.requires_grad else None,
        sum_to(_none_where(loses(y, x), d), b) if b.requires_grad else None,
    )


def clip(input: Operand, min: float | None = None, max: float | None = None) -> "Tensor":
    """Limit ``input`` to [min, max], numbers or None; the derivative on the boundary is 1."""
    a = input if isinstance(input, Value) else tensor(input, "clip")
    x = y = a._data
    # In this order max wins where min > max, as in PyTorch.
    if min is not None:
        y = np.maximum(y, _bound("min", min, x.dtype))
    if max is not None:
        y = np.minimum(y, _bound("max", max, x.dtype))
    if y is x:
        return emit(x.copy(), (a,), lambda out, d: (d,), "clip")
    if min is not None and max is not None and min > max:
        nowhere = np.ones(y.shape, bool)
        return emit(y, (a,), lambda out, d: (_none_where(nowhere, d),), "clip")
    return emit(y, (a,), _clip_vjp, "clip")


def _clip_vjp(out: Value, d: Grad) -> tuple[Grad]:
    return (_none_where(out._data != out._parents[0]._data, d),)


def _bound(name: str, bound: float, dtype: np.dtype) -> ndarray:
    """Return a bound of `clip` as an array."""
    if bound.__class__ not in SCALARS and not isinstance(bound, int | float):
        raise TypeError(
            f"clip: {name} must be a number or None, got {type(bound).__name__}; "
            f"use maximum and minimum for bounds that are tensors"
        )
    return number(bound, dtype)._data


def where(condition: Any, input: Operand, other: Operand) -> "Tensor":
    """Return ``input`` where the bool array ``condition`` holds, else ``other``."""
    condition = np.array(condition)
    if condition.dtype != bool:
        raise TypeError(
            f"where: condition must be a bool array, got {condition.dtype}; compare it, as in x > 0"
        )
    a, b = operands("where", input, other)
    try:
        y = np.where(condition, a._data, b._data)
    except ValueError:
        raise ValueError(
            f"where: condition, input and other must have shapes that broadcast, got "
            f"{condition.shape}, {a.shape} and {b.shape}; reshape one of them"
        ) from None

    if condition.shape != y.shape:
        condition = np.broadcast_to(condition, y.shape)

    def vjp(out: Value, d: Grad) -> tuple[Grad, Grad]:
        return (
            sum_to(_none_where(~condition, d), a) if a.requires_grad else None,
            sum_to(_none_where(condition, d), b) if b.requires_grad else None,
        )

    return emit(y, (a, b), vjp, "where")


def where_like(condition: ndarray, a: Any, b: Any) -> Any:
    """`where` on what is there, arrays or Tensors; either may be a number."""
    if isinstance(a, Value) or isinstance(b, Value):
        return where(condition, a, b)
    return np.where(condition, a, b)


def but_where(condition: ndarray, number: Any, a: Any) -> Any:
    """Return ``a``, but ``number`` where ``condition`` holds, which it seldom does; either."""
    return where_like(condition, number, a) if np.count_nonzero(condition) else a


def _none_where(condition: ndarray, d: Grad) -> Grad:
    """Return the gradient ``d``, but 0 where ``condition`` holds, even if d is inf; either."""
    if isinstance(d, Value):
        return where(condition, 0.0, d)
    out = np.array(d)
    out[condition] = 0.0
    return out
