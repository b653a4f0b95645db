"""What operations and their vjps are written in: operands, checks, and both-ways helpers.

A vjp runs on ndarrays, or on Tensors where ``create_graph`` asks for a graph. The functions below
that end in ``_like`` or say "either" do the same to both.
"""

import contextvars
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from minirnn.engine.tape import Grad, Value, constant

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor

# What an operand may be: a Tensor, an array or nested list of floats, a Python number.
Operand = Any
SCALARS = frozenset({int, float, bool})  # not np.float64, which is a float that has a dtype

# By dtype: NumPy takes an array of no dimensions in half the time that it takes a Python number.
ZERO = {np.dtype(t): np.zeros((), t) for t in (np.float32, np.float64)}
ONE = {np.dtype(t): np.ones((), t) for t in (np.float32, np.float64)}

_quiet = contextvars.Context()
_quiet.run(np.seterr, all="ignore")


def quietly(function: Callable[..., Any], *arrays: ndarray) -> Any:
    """Call a NumPy function with no floating-point warning; `numpy.errstate` costs four times that.

    NumPy keeps its settings in the context; it is copied, because none can be entered twice.
    """
    return _quiet.copy().run(function, *arrays)


def to_array(value: Any, place: str, argument: str = "array") -> ndarray:
    """Return a new C-contiguous float32 or float64 ndarray; lists and numbers become float64."""
    if isinstance(value, Value):
        return np.array(value._data, order="C")
    if isinstance(value, list | tuple) or value.__class__ in SCALARS:
        try:
            value = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{place}: {argument} must hold real numbers in rows of one length, got "
                f"{type(value).__name__}: {error}; join Tensors with stack or concat"
            ) from None
    array = np.asarray(value)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(
            f"{place}: {argument} must be float32 or float64, got {array.dtype}; "
            f"convert it with .astype(numpy.float32)"
        )
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def tensor(value: Any, place: str, argument: str = "input") -> "Tensor":
    """Return ``value`` if it is a tensor, else a constant with a copy of it."""
    if isinstance(value, Value):
        return value  # type: ignore[return-value]  # every Value is a Tensor
    return constant(to_array(value, place, argument))


def operands(place: str, a: Any, b: Any) -> "tuple[Tensor, Tensor]":
    """Return both as tensors of one dtype; a Python number takes the dtype of the other."""
    if a.__class__ is not b.__class__ or not isinstance(a, Value):
        if b.__class__ in SCALARS:
            a = tensor(a, place, "input")
            b = number(b, a._data.dtype)
        elif a.__class__ in SCALARS:
            b = tensor(b, place, "other")
            a = number(a, b._data.dtype)
        else:
            a, b = tensor(a, place, "input"), tensor(b, place, "other")
    if a._data.dtype is not b._data.dtype:
        same_dtype(place, (a, b))
    return a, b


def number(value: Any, dtype: np.dtype) -> "Tensor":
    """Return a Python number as a constant, the same one each time."""
    # Not so for 0, which would be the same for 0.0 and -0.0.
    return _kept_number(value, dtype) if value else constant(np.array(value, dtype))


@lru_cache(maxsize=256)
def _kept_number(value: float, dtype: np.dtype) -> "Tensor":
    return constant(np.array(value, dtype))


def binary(
    place: str, function: Callable[..., Any], a: Any, b: Any
) -> "tuple[Tensor, Tensor, Any]":
    """Return both operands as tensors, and the function of their arrays."""
    a, b = operands(place, a, b)
    try:
        return a, b, function(a._data, b._data)
    except ValueError:
        raise ValueError(
            f"{place}: operands must have shapes that broadcast, got {a.shape} and {b.shape}; "
            f"reshape one of them"
        ) from None


def same_dtype(place: str, tensors: "Sequence[Value]") -> None:
    """Raise unless all tensors have one dtype."""
    for other in tensors[1:]:
        if other._data.dtype != tensors[0]._data.dtype:
            raise TypeError(
                f"{place}: operands must have one dtype, got {tensors[0]._data.dtype} and "
                f"{other._data.dtype}; convert one, for example with "
                f"Tensor(t.numpy().astype(numpy.float32))"
            )


def like(d: Grad, a: Value) -> Any:
    """Return ``a`` as what ``d`` is: the tensor, or its array."""
    return a if isinstance(d, Value) else a._data


def sum_to(d: Grad, a: Value) -> Grad:
    """Sum ``d`` over what broadcasting repeated, so that it has the shape of ``a``; either."""
    shape = a._data.shape
    if d.shape == shape:
        return d
    extra = d.ndim - len(shape)
    repeated = tuple(i + extra for i, n in enumerate(shape) if n == 1 and d.shape[i + extra] != 1)
    d = d.sum(tuple(range(extra)) + repeated) if extra or repeated else d
    return d.reshape(shape)


def expand(d: Grad, shape: tuple[int, ...]) -> Grad:
    """Repeat ``d`` to ``shape`` by broadcasting; either."""
    if isinstance(d, Value):
        return d.expand(shape)  # type: ignore[attr-defined]  # every Value is a Tensor
    # A real array rather than numpy.broadcast_to's view, which costs ten times as much to make.
    out = np.empty(shape, d.dtype)
    out[...] = d
    return out


def axes(place: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """Return ``dim`` (None: all) as a tuple of non-negative axes."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int | np.integer) else tuple(dim)
    result = tuple(axis(place, d, ndim) for d in dims)
    if len(set(result)) != len(result):
        raise ValueError(
            f"{place}: dim must name each dimension once, got {dim}; drop the repeated"
        )
    return result


def axis(place: str, dim: Any, ndim: int, argument: str = "dim") -> int:
    """Return one ``dim`` as a non-negative axis; a 0-d tensor has dims 0 and -1, as in PyTorch."""
    if not isinstance(dim, int | np.integer):
        raise TypeError(f"{place}: {argument} must be an int, got {dim!r}")
    size = max(ndim, 1)
    if not -size <= dim < size:
        raise ValueError(
            f"{place}: {argument} must lie in [-{size}, {size - 1}] for a tensor of {ndim} "
            f"dimensions, got {dim}; count them in .shape"
        )
    return int(dim) % size
