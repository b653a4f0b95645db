"""Sums of rows that have one number."""

import numpy as np
from numba import carray

from minirnn.kernels._jit import kernel
from minirnn.kernels.flat import unit_rows
from minirnn.kernels.memory import pointer
from minirnn.kernels.spread import spread
from minirnn.kernels.workspace import address, lend

_COST = 0.2  # nanoseconds an entry


@kernel
def _sum_rows(source, source_row, ids, out, first, last):  # type: ignore[no-untyped-def]
    """Add columns first to last of the source's rows to rows ``ids`` of out, row after row."""
    at, size = first * out.itemsize, last - first
    for row in range(len(ids)):
        part = carray(pointer(source + row * source_row + at, out), size)
        total = carray(pointer(out.ctypes.data + ids[row] * out.strides[0] + at, out), size)
        for j in range(size):
            total[j] += part[j]


def sum_rows(rows: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """Return the sums (count, C) of those rows (N, C) that have one id; ids: (N,) int64.

    Threads share the columns, so that the order of every sum is that of the rows.
    """
    rows = unit_rows(rows)
    out = lend((count, rows.shape[1]), rows.dtype, fill=0.0)
    arguments = (address(rows), rows.strides[0], ids, out)
    spread(_sum_rows, arguments, rows.shape[1], _COST * len(ids), cut=16)
    return out
