"""Operations that move numbers without changing them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.engine.dual import Operand, axis, same_dtype, sum_to, tensor
from minirnn.engine.tape import Grad, Value, emit, record

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor


def view(out: "Tensor", a: Value) -> "Tensor":
    """Say that ``out`` shows memory of ``a``, so that a write to ``a`` dates both."""
    out._base = a if a._base is None else a._base
    return out


def reshape(input: Operand, *shape: Any) -> "Tensor":
    """Return the same numbers in another shape, numbers or one tuple; -1 means the rest."""
    a = tensor(input, "reshape")
    if len(shape) == 1 and not isinstance(shape[0], int | np.integer):
        shape = tuple(shape[0])
    before = a._data.shape
    try:
        y = a._data.reshape(shape)
    except ValueError:
        raise ValueError(
            f"reshape: shape must hold {a._data.size} numbers, got {shape} for a tensor of shape "
            f"{before}; one entry may be -1"
        ) from None
    return view(emit(y, (a,), lambda out, d: (d.reshape(before),), "reshape"), a)


def transpose(input: Operand, dim0: int, dim1: int) -> "Tensor":
    """Exchange two dimensions."""
    a = tensor(input, "transpose")
    i, j = axis("transpose", dim0, a._data.ndim), axis("transpose", dim1, a._data.ndim)
    if i == j:
        return view(emit(a._data.view(), (a,), lambda out, d: (d,), "transpose"), a)
    y = a._data.swapaxes(i, j)
    return view(emit(y, (a,), lambda out, d: (d.swapaxes(i, j),), "transpose"), a)


def permute(input: Operand, dims: Sequence[int]) -> "Tensor":
    """Order the dimensions as ``dims`` lists them."""
    a = tensor(input, "permute")
    order = tuple(axis("permute", d, a._data.ndim, "dims") for d in dims)
    if sorted(order) != list(range(a._data.ndim)):
        raise ValueError(
            f"permute: dims must list each of the {a._data.ndim} dimensions once, got {dims}"
        )
    back = tuple(int(i) for i in np.argsort(order))
    y = a._data.transpose(order)

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        return (permute(d, back) if isinstance(d, Value) else d.transpose(back),)

    return view(emit(y, (a,), vjp, "permute"), a)


def expand(input: Operand, shape: tuple[int, ...]) -> "Tensor":
    """Repeat ``input`` by broadcasting until it has ``shape``."""
    a = tensor(input, "expand")
    try:
        y = np.broadcast_to(a._data, shape)
    except ValueError:
        raise ValueError(
            f"expand: a tensor of shape {a._data.shape} must broadcast to shape, got {shape}; "
            f"only dimensions of 1 repeat"
        ) from None
    return emit(y.copy(), (a,), lambda out, d: (sum_to(d, a),), "expand")


def unsqueeze(input: Operand, dim: int) -> "Tensor":
    """Insert a dimension of 1 before ``dim``."""
    a = tensor(input, "unsqueeze")
    at = axis("unsqueeze", dim, a._data.ndim + 1)
    return reshape(a, (*a._data.shape[:at], 1, *a._data.shape[at:]))


def squeeze(input: Operand, dim: int | None = None) -> "Tensor":
    """Drop dimension ``dim`` if it is 1 (None: all that are 1)."""
    a = tensor(input, "squeeze")
    shape = a._data.shape
    drop = range(len(shape)) if dim is None else (axis("squeeze", dim, len(shape)),)
    return reshape(a, tuple(n for i, n in enumerate(shape) if not (i in drop and n == 1)))


def flip(input: Operand, dims: int | Sequence[int]) -> "Tensor":
    """Reverse the order along ``dims``."""
    a = tensor(input, "flip")
    over = (dims,) if isinstance(dims, int | np.integer) else tuple(dims)
    axes = tuple(axis("flip", d, a._data.ndim, "dims") for d in over)

    def vjp(out: Value, d: Grad) -> tuple[Grad]:
        return (flip(d, axes) if isinstance(d, Value) else np.flip(d, axes),)

    return view(emit(np.flip(a._data, axes), (a,), vjp, "flip"), a)


def concat(tensors: Sequence[Operand], dim: int = 0) -> "Tensor":
    """Join tensors along dimension ``dim``; the others agree."""
    parts = _sequence("concat", tensors)
    at = axis("concat", dim, parts[0]._data.ndim)
    arrays = [part._data for part in parts]
    try:
        y = np.concatenate(arrays, at)
    except ValueError:
        raise ValueError(
            f"concat: tensors must agree in every dimension but dim={dim}, got shapes "
            f"{[array.shape for array in arrays]}"
        ) from None
    sizes = [array.shape[at] for array in arrays]

    def vjp(out: Value, d: Grad) -> Sequence[Grad]:
        if isinstance(d, Value):
            return split(d, sizes, at)
        return np.split(d, np.cumsum(sizes[:-1]), at)

    return emit(y, tuple(parts), vjp, "concat")


def stack(tensors: Sequence[Operand], dim: int = 0) -> "Tensor":
    """Join tensors of one shape along a new dimension ``dim``."""
    parts = _sequence("stack", tensors)
    at = axis("stack", dim, parts[0]._data.ndim + 1)
    arrays = [part._data for part in parts]
    if any([array.shape != arrays[0].shape for array in arrays]):
        raise ValueError(
            f"stack: tensors must have one shape, got {[array.shape for array in arrays]}; "
            f"concat joins along a dimension that is there"
        )

    def vjp(out: Value, d: Grad) -> Sequence[Grad]:
        return unbind(d, at) if isinstance(d, Value) else tuple(np.moveaxis(d, at, 0))

    y = np.array(arrays) if at == 0 else np.stack(arrays, at)  # the same, in half the time
    return emit(y, tuple(parts), vjp, "stack")


def _sequence(place: str, tensors: Sequence[Operand]) -> "list[Tensor]":
    """Return a non-empty sequence as tensors of one dtype."""
    parts: list[Any] = [
        t if isinstance(t, Value) else tensor(t, place, f"tensors[{i}]")
        for i, t in enumerate(tensors)
    ]
    if not parts:
        raise ValueError(f"{place}: tensors must hold at least one tensor, got none")
    same_dtype(place, parts)
    return parts


def split(x: Operand, size: int | Sequence[int], dim: int = 0) -> "tuple[Tensor, ...]":
    """Cut along ``dim`` into pieces of ``size`` (the last may be shorter), or of listed sizes."""
    a = tensor(x, "split")
    shape = a._data.shape
    at = axis("split", dim, len(shape))
    length = shape[at]
    if isinstance(size, int | np.integer):
        if size < 1:
            raise ValueError(f"split: size must be at least 1, got {size}")
        whole, rest = divmod(length, int(size))
        sizes = [int(size)] * whole + ([rest] if rest or not whole else [])
    else:
        sizes = [int(n) for n in size]
        if sum(sizes) != length or min(sizes, default=0) < 0:
            raise ValueError(
                f"split: sizes must add up to {length}, the length of dim {dim}, got {sizes}"
            )
    ends = np.cumsum(sizes)[:-1]

    def vjp(*ds: Grad) -> tuple[Grad]:
        lengths = [(*shape[:at], n, *shape[at + 1 :]) for n in sizes]
        some = next(d for d in ds if d is not None)
        parts = [
            np.zeros(s, some.dtype) if d is None else d for d, s in zip(ds, lengths, strict=True)
        ]
        return (concat(parts, at) if isinstance(some, Value) else np.concatenate(parts, at),)

    pieces = record(np.split(a._data, ends, at), (a,), vjp, name="split")
    return tuple(view(piece, a) for piece in pieces)


def unbind(input: Operand, dim: int = 0) -> "tuple[Tensor, ...]":
    """Return the slices along ``dim`` as one operation, so that a loop over T steps costs O(T)."""
    a = tensor(input, "unbind")
    at = axis("unbind", dim, a._data.ndim)
    slices = np.moveaxis(a._data, at, 0)

    def vjp(*ds: Grad) -> tuple[Grad]:
        some = next(d for d in ds if d is not None)
        parts = [np.zeros(slices.shape[1:], some.dtype) if d is None else d for d in ds]
        return (stack(parts, at) if isinstance(some, Value) else np.stack(parts, at),)

    return tuple(view(row, a) for row in record(list(slices), (a,), vjp, name="unbind"))


def pad(input: Operand, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> "Tensor":
    """Add ``value`` around: ``pad`` lists (before, after) from the last dimension backwards."""
    a = tensor(input, "pad")
    shape = a._data.shape
    if mode != "constant":
        raise ValueError(f"pad: mode must be 'constant', got {mode!r}; concat can repeat an edge")
    if len(pad) % 2 or len(pad) > 2 * len(shape) or any(n < 0 for n in pad):
        raise ValueError(
            f"pad: pad must hold (before, after), not negative, for up to {len(shape)} dimensions "
            f"from the last backwards, got {tuple(pad)}; indexing takes entries away"
        )
    pairs = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]
    widths = [(0, 0)] * (len(shape) - len(pairs)) + pairs[::-1]
    inner = tuple(slice(before, before + n) for (before, _), n in zip(widths, shape, strict=True))
    y = np.pad(a._data, widths, constant_values=value)
    return emit(y, (a,), lambda out, d: (d[inner],), "pad")
