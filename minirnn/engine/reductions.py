"""Reductions over dimensions, and the stable functions made of them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.engine.dual import Operand, axes, axis, expand, like, tensor
from minirnn.engine.pointwise import exp
from minirnn.engine.tape import Grad, Value, emit

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor

# Untyped, because NumPy's stubs have no overload for a keepdims that is a variable.
_add_reduce: Any = np.add.reduce

Dims = int | tuple[int, ...] | None


def _kept(shape: tuple[int, ...], over: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``shape`` with the reduced dimensions kept as 1."""
    return tuple(1 if i in over else n for i, n in enumerate(shape))


def sum(input: Operand, dim: Dims = None, keepdim: bool = False) -> "Tensor":
    """Sum over ``dim`` (None: all)."""
    a = tensor(input, "sum")
    shape = a._data.shape
    over = axes("sum", dim, len(shape)) if shape else ()
    y = _add_reduce(a._data, axis=over, keepdims=keepdim)

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        return (expand(d.reshape(_kept(shape, over)), shape),)

    return emit(y, (a,), vjp, "sum")


def mean(input: Operand, dim: Dims = None, keepdim: bool = False) -> "Tensor":
    """Return the mean over ``dim`` (None: all); NaN of nothing, as in PyTorch."""
    a = tensor(input, "mean")
    shape = a._data.shape
    over = axes("mean", dim, len(shape)) if shape else ()
    count = int(np.prod([shape[i] for i in over]))
    scale = 1.0 / count if count else float("nan")
    y = _add_reduce(a._data, axis=over, keepdims=keepdim) * a._data.dtype.type(scale)

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        return (expand((d * scale).reshape(_kept(shape, over)), shape),)

    return emit(y, (a,), vjp, "mean")


def unit_mean(input: Operand) -> "Tensor":
    """Return the mean over the last dimension, kept: the ``mean`` of the cell language."""
    return mean(input, -1, keepdim=True)


def max(input: Operand, dim: Dims = None, keepdim: bool = False) -> "Tensor":
    """Return the largest values over ``dim`` (None: all); ties share the gradient evenly."""
    return _extreme("max", np.maximum, input, dim, keepdim)


def min(input: Operand, dim: Dims = None, keepdim: bool = False) -> "Tensor":
    """Return the smallest values over ``dim`` (None: all); ties share the gradient evenly."""
    return _extreme("min", np.minimum, input, dim, keepdim)


def _extreme(name: str, ufunc: np.ufunc, input: Operand, dim: Dims, keepdim: bool) -> "Tensor":
    a = tensor(input, name)
    x = a._data
    over = axes(name, dim, x.ndim) if x.ndim else ()
    if 0 in [x.shape[i] for i in over]:
        raise ValueError(
            f"{name}: dim must not be empty, got shape {x.shape} and dim {dim}; "
            f"there is no {name} of nothing"
        )
    kept = ufunc.reduce(x, axis=over, keepdims=True)

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        ties = x == kept
        share = ties / _add_reduce(ties, axis=over, keepdims=True, dtype=x.dtype)
        return (expand(d.reshape(kept.shape), x.shape) * share.astype(x.dtype, copy=False),)

    y = kept if keepdim else kept.reshape([n for i, n in enumerate(x.shape) if i not in over])
    return emit(y, (a,), vjp, name)


def _shifted_exp(x: np.ndarray, over: int) -> tuple[np.ndarray, np.ndarray]:
    """Return exp(x - m) and m, the largest finite value along ``over`` (kept)."""
    m = np.maximum.reduce(x, axis=over, keepdims=True, initial=-np.inf)
    m[~np.isfinite(m)] = 0.0  # all -inf, or inf or NaN among them: let exp say so itself
    with np.errstate(over="ignore"):
        return np.exp(x - m), m


def softmax(input: Operand, dim: int = -1) -> "Tensor":
    """Return ``exp(input) / sum(exp(input))`` along ``dim``, safe from overflow."""
    a = tensor(input, "softmax")
    over = axis("softmax", dim, a._data.ndim)
    x = np.atleast_1d(a._data)
    e, _ = _shifted_exp(x, over)
    with np.errstate(invalid="ignore"):
        y = e / _add_reduce(e, axis=over, keepdims=True)
    y = y.reshape(a._data.shape)

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        p = like(d, out)
        dp = d * p
        return (dp - p * _sum_like(dp, over),)

    return emit(y, (a,), vjp, "softmax")


def log_softmax(input: Operand, dim: int = -1) -> "Tensor":
    """Return ``log(softmax(input))`` along ``dim``, exact where softmax underflows."""
    a = tensor(input, "log_softmax")
    over = axis("log_softmax", dim, a._data.ndim)
    x = np.atleast_1d(a._data)
    e, m = _shifted_exp(x, over)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = (x - m) - np.log(_add_reduce(e, axis=over, keepdims=True))
    y = y.reshape(a._data.shape)

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        p = exp(out) if isinstance(d, Value) else np.exp(out._data)
        return (d - p * _sum_like(d, over),)

    return emit(y, (a,), vjp, "log_softmax")


def logsumexp(input: Operand, dim: Dims = None, keepdim: bool = False) -> "Tensor":
    """Return ``log(sum(exp(input)))`` over ``dim`` (None: all), finite wherever the answer is."""
    a = tensor(input, "logsumexp")
    x = a._data
    over = axes("logsumexp", dim, x.ndim) if x.ndim else ()
    m = np.asarray(np.maximum.reduce(x, axis=over, keepdims=True, initial=-np.inf))
    m[~np.isfinite(m)] = 0.0
    with np.errstate(divide="ignore", over="ignore"):
        kept = np.log(_add_reduce(np.exp(x - m), axis=over, keepdims=True)) + m

    def vjp(out: Any, d: Grad) -> tuple[Grad]:
        d = d.reshape(_kept(x.shape, over))
        if isinstance(d, Value):
            return (d * exp(a - out.reshape(kept.shape)),)
        with np.errstate(invalid="ignore"):
            return (d * np.exp(x - kept),)

    y = kept if keepdim else kept.reshape([n for i, n in enumerate(x.shape) if i not in over])
    return emit(y, (a,), vjp, "logsumexp")


def _sum_like(d: Any, over: int) -> Any:
    """Sum along one dimension, kept; either. A 0-d value is its own sum."""
    if d.ndim == 0:
        return d
    if isinstance(d, Value):
        return sum(d, over, keepdim=True)
    return _add_reduce(d, axis=over, keepdims=True)
