"""Weights in the order in which the tile reads them, and back."""

import numpy as np

from minirnn.kernels._jit import kernel
from minirnn.kernels.machine import MACHINE


def lanes_of(dtype: np.dtype) -> int:
    """Return the lanes of a vector."""
    return MACHINE.lanes(dtype.itemsize)


def aligned(shape: tuple[int, ...], dtype: np.dtype, fill: float | None = None) -> np.ndarray:
    """Return an array that begins on a cache line."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    raw = np.empty(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape)
    if fill is not None:
        out.fill(fill)
    return out


@kernel
def _pack_rows(source, columns, bias, width, target):  # type: ignore[no-untyped-def]
    """Write panels of source^T: column j of B is row ``columns[j]`` of source (-1: zeros)."""
    depth = source.shape[1]
    count = columns.shape[0]
    start = 0
    for first in range(0, count, width):
        wide = min(width, count - first)
        for j in range(wide):
            row = columns[first + j]
            target[start + j] = bias[row] if row >= 0 and bias.shape[0] > 0 else 0.0
        for k0 in range(0, depth, 16):
            k1 = min(k0 + 16, depth)
            for j in range(wide):
                row = columns[first + j]
                at = start + (k0 + 1) * wide + j
                if row >= 0:
                    for k in range(k0, k1):
                        target[at] = source[row, k]
                        at += wide
                else:
                    for _ in range(k0, k1):
                        target[at] = 0.0
                        at += wide
        start += (depth + 1) * wide


@kernel
def _pack_columns(source, rows, width, padded, target):  # type: ignore[no-untyped-def]
    """Write panels of source itself: row k of B is row ``rows[k]`` of source (-1: zeros)."""
    depth = rows.shape[0]
    count = source.shape[1]
    start = 0
    for first in range(0, padded, width):
        wide = min(width, padded - first)
        valid = max(0, min(wide, count - first))
        for j in range(wide):
            target[start + j] = 0.0
        for k in range(depth):
            at = start + (k + 1) * wide
            row = rows[k]
            if row >= 0:
                for j in range(valid):
                    target[at + j] = source[row, first + j]
                for j in range(valid, wide):
                    target[at + j] = 0.0
            else:
                for j in range(wide):
                    target[at + j] = 0.0
        start += (depth + 1) * wide


def pack_transposed(
    source: np.ndarray, columns: np.ndarray, bias: np.ndarray | None, width: int
) -> np.ndarray:
    """Pack ``source^T`` into panels of ``width`` columns; the first row of a panel is the bias.

    source: (N, K), columns: (whole vectors,) rows of source or -1, bias: (N,) or None.
    """
    out = aligned((columns.shape[0] * (source.shape[1] + 1),), source.dtype)
    none = np.empty(0, source.dtype)
    _pack_rows(source, columns, none if bias is None else bias, width, out)
    return out


def pack_plain(source: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    """Pack ``source`` into panels of ``width`` columns, zeros in the first row of each.

    source: (N, C), rows: (K,) rows of source or -1. C is rounded up to whole vectors.
    """
    lanes = lanes_of(source.dtype)
    padded = -(-source.shape[1] // lanes) * lanes
    out = aligned((padded * (rows.shape[0] + 1),), source.dtype)
    _pack_columns(source, rows, width, padded, out)
    return out


def interleaved(places: list[int], hidden_size: int, lanes: int) -> np.ndarray:
    """Return for each column [unit block][member][lane] its row ``place * H + unit``, or -1."""
    blocks = -(-hidden_size // lanes)
    unit = np.arange(blocks * lanes).reshape(blocks, 1, lanes)
    row = np.array(places, np.int64).reshape(1, -1, 1) * hidden_size + unit
    return np.where(unit < hidden_size, row, -1).reshape(-1)
