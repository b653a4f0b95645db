"""What operations and their vjps are written in: operands, checks, and both-ways helpers.

A vjp runs on ndarrays, or on Tensors where ``create_graph`` asks for a graph. The functions below
that end in ``_like`` or say "either" do the same to both.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from minirnn.engine.tape import Grad, Value, constant

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor

SCALARS = frozenset({int, float, bool})  # not np.float64, which is a float that has a dtype


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
    """Return both as tensors; a Python number takes the dtype of the other."""
    if a.__class__ in SCALARS and isinstance(b, Value):
        return constant(np.array(a, b._data.dtype)), b  # type: ignore[return-value]
    if b.__class__ in SCALARS and isinstance(a, Value):
        return a, constant(np.array(b, a._data.dtype))  # type: ignore[return-value]
    first = tensor(a, place, "input")
    if b.__class__ in SCALARS:
        return first, constant(np.array(b, first._data.dtype))
    second = tensor(b, place, "other")
    if a.__class__ in SCALARS:
        return constant(np.array(a, second._data.dtype)), second
    return first, second


def binary(
    place: str, function: Callable[..., Any], a: Any, b: Any
) -> "tuple[Tensor, Tensor, Any]":
    """Return both operands as tensors, and the function of their arrays."""
    if a.__class__ is not b.__class__ or not isinstance(a, Value):
        a, b = operands(place, a, b)
    x, y = a._data, b._data
    if x.dtype is not y.dtype:
        same_dtype(place, (a, b))
    try:
        return a, b, function(x, y)
    except ValueError:
        raise ValueError(
            f"{place}: operands must have shapes that broadcast, got {x.shape} and {y.shape}; "
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


def like(d: Grad, a: "Tensor", b: "Tensor") -> tuple[Any, Any]:
    """Return both as what ``d`` is: the tensors, or their arrays."""
    if isinstance(d, Value):
        return a, b
    return a._data, b._data


def data_like(d: Grad, a: "Tensor") -> Any:
    """Return ``a`` as what ``d`` is."""
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
