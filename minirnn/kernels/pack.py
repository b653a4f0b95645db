"""Weights in the order in which the tile reads them, and back."""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from minirnn.kernels._jit import kernel
from minirnn.kernels.machine import MACHINE
from minirnn.kernels.memory import clear, copy, pointer
from minirnn.kernels.spread import spread
from minirnn.kernels.vector import I32, I64, Vector

_VECTOR_BYTES = MACHINE.bits // 8
_COST = 0.4  # nanoseconds a number


def lanes_of(dtype: np.dtype) -> int:
    """Return the lanes of a vector."""
    return MACHINE.lanes(dtype.itemsize)


def aligned(shape: tuple[int, ...], dtype: np.dtype, fill: float | None = None) -> np.ndarray:
    """Return an array that begins on a cache line."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    out = raw[start : start + size].view(dtype).reshape(shape)
    if fill is not None:
        out.fill(fill)
    return out


@intrinsic
def _transpose(typingctx, like, rows, at, target, target_row):  # type: ignore[no-untyped-def]
    """Write a square of numbers, as many as a vector has lanes, with rows and columns exchanged.

    rows: address of the source rows' addresses; at: bytes from where they begin.
    """
    dtype = str(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, rows, at, target, target_row = args
        b, v = builder, Vector(builder, dtype)
        square = []
        for i in range(v.lanes):
            start = b.load(v.pointer(b.add(rows, I64(8 * i)), I64))
            square.append(v.load(b.add(start, at)))
        step = v.lanes // 2
        while step:  # exchange the two quarters off the diagonal, in ever smaller squares
            for i in range(v.lanes):
                if not i & step:
                    upper, lower = square[i], square[i + step]
                    square[i] = _mixed(v, upper, lower, step, 0)
                    square[i + step] = _mixed(v, upper, lower, step, step)
            step //= 2
        for i, row in enumerate(square):
            v.store(row, b.add(target, b.mul(target_row, I64(i))))
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 4), codegen


def _mixed(v: Vector, upper: Any, lower: Any, step: int, shift: int) -> Any:
    """Return the half of two rows that belongs to the first, or with a shift to the second."""
    lanes = [
        i + v.lanes - step + shift if i & step else i + shift for i in range(v.lanes)
    ]  # those from v.lanes on are the lower row's
    return v.b.shuffle_vector(upper, lower, ir.Constant(ir.VectorType(I32, v.lanes), lanes))


@kernel
def _pack_rows(source, stride, depth, columns, bias, zeros, width, target, first, last):  # type: ignore[no-untyped-def]
    """Write panels first to last of source^T: column j of B is row ``columns[j]`` (-1: zeros).

    source, target: addresses; bias: (N,) or (0,); zeros: address of ``depth`` of them.
    """
    size = bias.itemsize
    lanes = _VECTOR_BYTES // size
    rows = np.empty(lanes, np.int64)
    whole = depth // lanes * lanes
    for panel in range(first, last):
        begin = panel * width
        wide = min(width, columns.shape[0] - begin)
        line = wide * size
        start = target + begin * (depth + 1) * size
        for j in range(0, wide, lanes):
            top = carray(pointer(start + j * size, bias), lanes)
            for i in range(lanes):
                row = columns[begin + j + i]
                top[i] = bias[row] if row >= 0 and bias.shape[0] > 0 else 0.0
                rows[i] = source + row * stride if row >= 0 else zeros
            at = start + line + j * size
            for k in range(0, whole, lanes):
                _transpose(bias, rows.ctypes.data, k * size, at + k * line, line)
            for i in range(lanes):
                given = carray(pointer(rows[i], bias), depth)
                for k in range(whole, depth):
                    carray(pointer(at + k * line, bias), lanes)[i] = given[k]


@kernel
def _pack_columns(source, stride, size, count, rows, width, padded, target, first, last):  # type: ignore[no-untyped-def]
    """Write rows first to last of all panels of source itself; see `pack_plain`.

    source, target: addresses; size: of a number; count, padded: columns of source and of B.
    """
    depth = rows.shape[0]
    for k in range(first, last):
        for begin in range(0, padded, width):
            wide = min(width, padded - begin)
            valid = max(0, min(wide, count - begin)) if rows[k] >= 0 else 0
            at = target + (begin * (depth + 1) + (k + 1) * wide) * size
            copy(at, source + rows[k] * stride + begin * size, valid * size)
            clear(at + valid * size, (wide - valid) * size)


def pack_transposed(
    source: np.ndarray, columns: np.ndarray, bias: np.ndarray | None, width: int
) -> np.ndarray:
    """Pack ``source^T`` into panels of ``width`` columns; the first row of a panel is the bias.

    source: (N, K), columns: (whole vectors,) rows of source or -1, bias: (N,) or None.
    """
    dtype, depth = source.dtype, source.shape[1]
    out = aligned((columns.shape[0] * (depth + 1),), dtype)
    source, zeros = np.ascontiguousarray(source), np.zeros(max(1, depth), dtype)
    start = np.empty(0, dtype) if bias is None else bias
    arguments = (source.ctypes.data, source.strides[0], depth, columns, start, zeros.ctypes.data,
                 width, out.ctypes.data)  # fmt: skip
    panels = -(-columns.shape[0] // width)
    spread(_pack_rows, arguments, panels, _COST * width * (depth + 1), cut=1)
    return out


def pack_plain(source: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    """Pack ``source`` into panels of ``width`` columns, zeros in the first row of each.

    source: (N, C), rows: (K,) rows of source or -1. C is rounded up to whole vectors.
    """
    source, lanes = np.ascontiguousarray(source), lanes_of(source.dtype)
    count, size = source.shape[1], source.itemsize
    padded = -(-count // lanes) * lanes
    out = aligned((padded * (rows.shape[0] + 1),), source.dtype)
    for first in range(0, padded, width):
        out[first * (rows.shape[0] + 1) :][: min(width, padded - first)] = 0.0
    arguments = (source.ctypes.data, source.strides[0], size, count, rows, width, padded,
                 out.ctypes.data)  # fmt: skip
    spread(_pack_columns, arguments, rows.shape[0], _COST * padded, cut=1)
    return out


def interleaved(places: list[int], hidden_size: int, lanes: int) -> np.ndarray:
    """Return for each column [unit block][member][lane] its row ``place * H + unit``, or -1."""
    blocks = -(-hidden_size // lanes)
    unit = np.arange(blocks * lanes).reshape(blocks, 1, lanes)
    row = np.array(places, np.int64).reshape(1, -1, 1) * hidden_size + unit
    return np.where(unit < hidden_size, row, -1).reshape(-1)
