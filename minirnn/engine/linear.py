"""Products, and picking rows: matmul, einsum, indexing, embedding."""

import math
from string import ascii_letters
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.engine.dual import Operand, expand, like, same_dtype, sum_to, tensor
from minirnn.engine.movement import view
from minirnn.engine.tape import Grad, Value, emit

if TYPE_CHECKING:
    from minirnn.engine.tensor import Tensor


# What indexes without a copy; everything else is made an array.
BASIC = frozenset({int, slice, type(None), type(Ellipsis)})


def matmul(input: Operand, other: Operand) -> "Tensor":
    """Return the matrix product, with vectors and leading batch dimensions as in PyTorch."""
    a, b = tensor(input, "matmul", "input"), tensor(other, "matmul", "other")
    same_dtype("matmul", (a, b))
    x, y = a._data, b._data
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        raise ValueError(
            f"matmul: the last dimension of input must be the second to last of other, "
            f"got shapes {x.shape} and {y.shape}; transpose(-1, -2) turns one around"
        )
    if x.ndim == 1 or y.ndim == 1:
        return _matmul_vector(a, b)
    if y.ndim == 2 and x.ndim > 2:
        # One product of all rows: faster than one for each index of the batch.
        rows = a.reshape((math.prod(x.shape[:-1]), x.shape[-1]))
        return matmul(rows, b).reshape((*x.shape[:-1], y.shape[-1]))
    try:
        z = np.matmul(x, y)
    except ValueError:
        raise ValueError(
            f"matmul: batch dimensions must broadcast, got shapes {x.shape} and {y.shape}"
        ) from None

    def vjp(out: Value, d: Grad) -> tuple[Grad, Grad]:
        u, v = like(d, a), like(d, b)
        return (
            sum_to(d @ v.swapaxes(-1, -2), a) if a.requires_grad else None,
            sum_to(u.swapaxes(-1, -2) @ d, b) if b.requires_grad else None,
        )

    return emit(z, (a, b), vjp, "matmul")


def _matmul_vector(a: "Tensor", b: "Tensor") -> "Tensor":
    """`matmul` where an operand is a vector: as a matrix of one row or column."""
    x, y = a._data, b._data
    rows = a.reshape((1, -1)) if x.ndim == 1 else a
    columns = b.reshape((-1, 1)) if y.ndim == 1 else b
    product = matmul(rows, columns)
    shape = list(product._data.shape)
    if y.ndim == 1:
        del shape[-1]
    if x.ndim == 1:
        del shape[-1 if y.ndim == 1 else -2]
    return product.reshape(tuple(shape))


def einsum(equation: str, *operands: Operand) -> "Tensor":
    """Sum products over indices, as in PyTorch; ``...`` stands for dimensions that broadcast.

    A letter may not repeat within one operand (a diagonal).
    """
    tensors = [tensor(t, "einsum", f"operand {i}") for i, t in enumerate(operands)]
    same_dtype("einsum", tensors)
    inputs, output = _subscripts(equation, [t.shape for t in tensors])
    sizes: dict[str, int] = {}
    for letters, t in zip(inputs, tensors, strict=True):
        for k, n in zip(letters, t.shape, strict=True):
            if sizes.setdefault(k, n) != n and 1 not in (n, sizes[k]):
                raise ValueError(
                    f"einsum: an index of {equation!r} must have one size, or 1, got shapes "
                    f"{[t.shape for t in tensors]}"
                )
            sizes[k] = n if sizes[k] == 1 else sizes[k]
    for i, (letters, t) in enumerate(zip(inputs, tensors, strict=True)):
        # What broadcasts leaves the sum: dropped here, its gradient is summed like any other.
        inputs[i] = "".join(k for k, n in zip(letters, t.shape, strict=True) if n == sizes[k])
        if inputs[i] != letters:
            tensors[i] = t.reshape(tuple(sizes[k] for k in inputs[i]))
    return _einsum(inputs, output, tuple(tensors), sizes)


def _subscripts(equation: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str]:
    """Return the letters of every operand and of the output, one for each dimension."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    spare = [k for k in ascii_letters if k not in equation]
    widths = [
        len(shape) - len(letters) + 3 if "..." in letters else 0
        for letters, shape in zip(inputs, shapes, strict=False)
    ]
    batch = "".join(spare[: max([0, *widths])])
    if not arrow:
        named = left.replace("...", "").replace(",", "")
        output = "..." + "".join(sorted(k for k in set(named) if named.count(k) == 1))
    inputs = [
        letters.replace("...", batch[len(batch) - max(width, 0) :])
        for letters, width in zip(inputs, widths, strict=False)
    ]
    output = output.replace("...", batch)
    if len(left.split(",")) != len(shapes) or list(map(len, inputs)) != list(map(len, shapes)):
        raise ValueError(
            f"einsum: {equation!r} must give each operand one letter per dimension, got shapes "
            f"{shapes}; ... stands for dimensions without a letter"
        )
    known = set("".join(inputs))
    if any(len(set(s)) != len(s) for s in (*inputs, output)) or not set(output) <= known:
        raise ValueError(
            f"einsum: {equation!r} must not repeat a letter within one operand or the output, and "
            f"every letter of the output must occur in an operand; take a diagonal by indexing"
        )
    return inputs, output


def _einsum(
    inputs: list[str], output: str, tensors: "tuple[Tensor, ...]", sizes: dict[str, int]
) -> "Tensor":
    """Return the sum for operands whose every letter has its full size."""
    equation = ",".join(inputs) + "->" + output
    y = np.einsum(equation, *[t._data for t in tensors], optimize=True)
    if len(tensors) == 1:
        y = np.array(y)  # NumPy may have answered with a view

    def vjp(out: Value, d: Grad) -> list[Grad]:
        return [
            _einsum_vjp(d, i, inputs, output, tensors, sizes) if t.requires_grad else None
            for i, t in enumerate(tensors)
        ]

    return emit(y, tensors, vjp, "einsum")


def _einsum_vjp(
    d: Grad,
    i: int,
    inputs: list[str],
    output: str,
    tensors: "tuple[Tensor, ...]",
    sizes: dict[str, int],
) -> Grad:
    """Return the gradient of operand i: the same sum with the output in its place."""
    others = [s for j, s in enumerate(inputs) if j != i]
    values = [t for j, t in enumerate(tensors) if j != i]
    present = set(output).union(*others)
    target = "".join(k for k in inputs[i] if k in present)
    if isinstance(d, Value):
        result: Any = _einsum([output, *others], target, (d, *values), sizes)  # type: ignore[arg-type]
    else:
        equation = ",".join([output, *others]) + "->" + target
        result = np.einsum(equation, d, *[v._data for v in values], optimize=True)
    # An index that no one else has was summed over: every entry gets the same.
    result = result.reshape(tuple(sizes[k] if k in present else 1 for k in inputs[i]))
    return expand(result, tuple(sizes[k] for k in inputs[i]))


def getitem(a: "Tensor", key: Any) -> "Tensor":
    """Return ``a[key]``: integers, slices, None, ..., integer and bool arrays."""
    parts = tuple([_position(part) for part in (key if isinstance(key, tuple) else (key,))])
    basic = not any([isinstance(part, np.ndarray) for part in parts])
    y = a._data[parts]
    shape = a._data.shape
    out = emit(y, (a,), lambda out, d: (_scatter(d, parts, shape, basic),), "[]")
    return view(out, a) if basic else out


def _position(part: Any) -> Any:
    """Return one part of an index: arrays copied, as they may be written before backward."""
    if part.__class__ in BASIC:
        return part
    if isinstance(part, Value):
        raise TypeError("[]: an index must be integers, slices or arrays, got a Tensor of floats")
    if isinstance(part, np.integer):
        return int(part)
    array = np.array(part)
    # NumPy takes an integer array of no dimensions for an integer, and answers with a view.
    return int(array) if array.ndim == 0 and array.dtype.kind in "iu" else array


def _scatter(d: Grad, key: Any, shape: tuple[int, ...], basic: bool) -> Grad:
    """Put ``d`` at ``key`` of zeros, adding where ``key`` repeats; either."""
    if isinstance(d, Value):
        y = _scatter(d._data, key, shape, basic)
        return emit(y, (d,), lambda out, g: (g[key],), "scatter")
    out = np.zeros(shape, d.dtype)
    if basic:
        out[key] = d
    else:
        np.add.at(out, key, d)
    return out


def embedding(ids: Any, weight: Operand) -> "Tensor":
    """Return the rows of ``weight`` (V, E) that ``ids``, integers of any shape, name."""
    ids, weight = checked_ids(ids, weight)
    y, rows = weight._data[ids], len(weight._data)
    return emit(y, (weight,), lambda out, d: (_sum_rows(d, ids, rows),), "embedding")


def checked_ids(ids: Any, weight: Operand) -> "tuple[np.ndarray, Tensor]":
    """Return the arguments of `embedding`, a copy of the ids among them, or say what is wrong."""
    weight = tensor(weight, "embedding", "weight")
    ids = np.array(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids must be integers, got {ids.dtype}; use ids.astype(int)")
    if weight._data.ndim != 2:
        raise ValueError(
            f"embedding: weight must have shape (num_embeddings, embedding_dim), got "
            f"{weight._data.shape}; the ids come first"
        )
    rows = len(weight._data)
    if ids.size and not (0 <= ids.min() and ids.max() < rows):
        raise ValueError(
            f"embedding: ids must lie in [0, {rows - 1}], the rows of weight, got "
            f"{ids.min()} to {ids.max()}; a negative id does not count from the end"
        )
    return ids, weight


def _sum_rows(d: Grad, ids: np.ndarray, rows: int) -> Grad:
    """Sum the rows of ``d`` (..., E) that have one id, in order, into (rows, E); either."""
    if isinstance(d, Value):
        y = _sum_rows(d._data, ids, rows)
        return emit(y, (d,), lambda out, g: (g[ids],), "sum_rows")
    out = np.zeros((rows, d.shape[-1]), d.dtype)
    if ids.size:
        # Sorted by id and summed in runs: a third of the time of numpy.add.at.
        order = np.argsort(ids, axis=None, kind="stable")
        flat = ids.reshape(-1)[order]
        starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
        out[flat[starts]] = np.add.reduceat(d.reshape(-1, d.shape[-1])[order], starts, axis=0)
    return out
