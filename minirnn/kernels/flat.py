"""Arrays by address as rows of numbers."""

from collections.abc import Sequence

import numpy as np
from numba import carray

from minirnn.kernels._jit import kernel
from minirnn.kernels.memory import pointer
from minirnn.kernels.pack import lanes_of
from minirnn.kernels.workspace import Lease, address


@kernel
def share(table, i, first, last):  # type: ignore[no-untyped-def]
    """Return the part of array i in entries first to last of all arrays one after the other.

    table: a row per array; column 0 holds its first entry in that order, column 1 its size.
    """
    start, size = table[i, 0], table[i, 1]
    return min(max(first - start, 0), size), min(max(last - start, 0), size)


@kernel
def part(table, like, i, column, begin, end):  # type: ignore[no-untyped-def]
    """Return entries begin to end of the array in row i whose address a column of a table holds."""
    return carray(pointer(table[i, column] + begin * like.itemsize, like), end - begin)


def by_dtype(arrays: Sequence[np.ndarray]) -> list[tuple[np.dtype, list[int]]]:
    """Return the dtypes of arrays and for each the places of the arrays that have it."""
    places: dict[np.dtype, list[int]] = {}
    for i, array in enumerate(arrays):
        places.setdefault(array.dtype, []).append(i)
    return list(places.items())


def table_of(arrays: Sequence[Sequence[np.ndarray | None]]) -> tuple[np.ndarray, int]:
    """Return rows of integers for `share`, and the number of entries in all.

    arrays: for each row arrays of one size that belong together, the first of them not None.
    Columns 2 and further hold their addresses, 0 for None.
    """
    rows, total = [], 0
    for together in arrays:
        first = together[0]
        assert first is not None
        rows.append([total, first.size, *(0 if a is None else address(a) for a in together)])
        total += first.size
    return np.array(rows, np.int64), total


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows (N, C) of which each lies in one piece; a copy if they do not."""
    return rows if rows.strides[1] == rows.itemsize else np.ascontiguousarray(rows)


def readable(rows: np.ndarray, lease: Lease) -> np.ndarray:
    """Return rows (N, C) with C rounded up to whole vectors; the further columns hold anything.

    A copy is made where a row is not in one piece, or the memory ends with the last row.
    """
    lanes = lanes_of(rows.dtype)
    wide = -(-rows.shape[1] // lanes) * lanes
    if rows.strides[1] == rows.itemsize and rows.strides[0] >= 0:
        if wide == rows.shape[1] or not rows.size:
            return rows
        owner = rows
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if owner.flags.c_contiguous:
            end = address(rows) + (len(rows) - 1) * rows.strides[0] + wide * rows.itemsize
            if end <= address(owner) + owner.nbytes:
                return np.lib.stride_tricks.as_strided(rows, (len(rows), wide))
    copy = lease.take((len(rows), wide), rows.dtype)
    copy[:, : rows.shape[1]] = rows
    return copy
