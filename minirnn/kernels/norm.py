"""Sum of squares and largest entry of many arrays, and what clipping writes.

Arrays are measured block by block in float64, a block always in the same partial sums, so the bits
depend neither on the number of threads nor on the machine's vectors.
"""

from collections.abc import Sequence

import numpy as np
from numba import carray

from minirnn.kernels._jit import kernel
from minirnn.kernels.flat import by_dtype, part, share, table_of
from minirnn.kernels.memory import pointer
from minirnn.kernels.spread import spread
from minirnn.kernels.workspace import address, lend

BLOCK = 4096  # entries that are summed by themselves: float32 ones fit half a first-level cache
_PARTS = 32  # partial sums of a block: enough vectors of them to hide an addition's latency
_COST = 0.3  # nanoseconds an entry


@kernel
def _measure(x, squares, largest):  # type: ignore[no-untyped-def]
    """Add squares and largest absolute values of x to _PARTS partial results each."""
    whole = len(x) // _PARTS
    for i in range(whole):
        for k in range(_PARTS):
            v = np.float64(x[i * _PARTS + k])
            squares[k] += v * v
            v = abs(v)
            largest[k] = v if v > largest[k] else largest[k]  # the squares tell of NaN
    for k in range(len(x) - whole * _PARTS):
        v = np.float64(x[whole * _PARTS + k])
        squares[k] += v * v
        v = abs(v)
        largest[k] = v if v > largest[k] else largest[k]


@kernel
def _measure_blocks(table, like, out, first, last):  # type: ignore[no-untyped-def]
    """Measure blocks first to last.  table: `share` of blocks, size, address; out: zeros."""
    for i in range(table.shape[0]):
        begin, end = share(table, i, first, last)
        for block in range(begin, end):
            at = block * BLOCK
            size = min(BLOCK, table[i, 2] - at)
            x = carray(pointer(table[i, 3] + at * like.itemsize, like), size)
            row = table[i, 0] + block
            _measure(x, out[row, 0], out[row, 1])


@kernel
def _write(table, options, first, last):  # type: ignore[no-untyped-def]
    """Write source times a factor, cut at a bound.  table: `share`, then target and source."""
    factor, bound = options
    for i in range(table.shape[0]):
        begin, end = share(table, i, first, last)
        target = part(table, options, i, 2, begin, end)
        source = part(table, options, i, 3, begin, end)
        for j in range(end - begin):
            target[j] = min(max(source[j] * factor, -bound), bound)


def measure(arrays: Sequence[np.ndarray]) -> tuple[float, list[float]]:
    """Return the sum of all squares, and the largest absolute value of each array.

    The arrays are contiguous. NaN makes the sum NaN and counts for nothing in the largest values.
    """
    total, largest = 0.0, np.zeros(len(arrays))
    for dtype, places in by_dtype(arrays):
        rows, first, full = [], 0, [i for i in places if arrays[i].size]
        for i in full:
            blocks = -(-arrays[i].size // BLOCK)
            rows.append((first, blocks, arrays[i].size, address(arrays[i])))
            first += blocks
        if full:
            table, out = np.array(rows, np.int64), np.zeros((first, 2, _PARTS))
            like = np.empty(0, dtype)
            spread(_measure_blocks, (table, like, out), first, _COST * BLOCK, cut=1)
            total += float(out[:, 0].sum())
            largest[full] = np.maximum.reduceat(out[:, 1].max(-1), table[:, 0])
    return total, largest.tolist()


def written(arrays: Sequence[np.ndarray], factor: float, bound: float) -> list[np.ndarray]:
    """Return new arrays: contiguous ones times a factor, then cut to [-bound, bound]."""
    made = [lend(array.shape, array.dtype) for array in arrays]
    for dtype, places in by_dtype(arrays):
        table, total = table_of([(made[i], arrays[i]) for i in places])
        options = np.array([factor, bound], dtype)
        spread(_write, (table, options), total, _COST)
    return made
