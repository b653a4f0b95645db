"""Rows of a table by number, and sums of rows that have one number."""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from minirnn.kernels._jit import kernel, native
from minirnn.kernels.flat import unit_rows
from minirnn.kernels.memory import copy, load, pointer
from minirnn.kernels.vector import I64
from minirnn.kernels.workspace import address, lend

GATHER, ADD = 4, 5  # kinds of job, beside those of `minirnn.kernels.product`
GATHER_TABLE, ADD_IDS, ADD_OUT = 2, 4, 6  # words that hold an address which may change
_LINE = 64  # bytes
_COLUMNS = 16  # threads share the columns of sums in blocks of so many

_ADD_SIGNATURE = types.void(*[types.int64] * 7)
_SINGLE, _DOUBLE = np.empty(0, np.float32), np.empty(0, np.float64)


@kernel
def _add_rows(like, source, source_row, ids, rows, target, target_row, size):  # type: ignore[no-untyped-def]
    """Add ``size`` numbers of each row of the source to row ``ids[row]`` of the target."""
    for row in range(rows):
        part = carray(pointer(source + row * source_row, like), size)
        total = carray(pointer(target + load(ids + row * 8) * target_row, like), size)
        for j in range(size):
            total[j] += part[j]


def _add32(source, source_row, ids, rows, target, target_row, size):  # type: ignore[no-untyped-def]
    _add_rows(_SINGLE, source, source_row, ids, rows, target, target_row, size)


def _add64(source, source_row, ids, rows, target, target_row, size):  # type: ignore[no-untyped-def]
    _add_rows(_DOUBLE, source, source_row, ids, rows, target, target_row, size)


@cache
def _compiled_add(dtype: str) -> Any:
    return native(_ADD_SIGNATURE)(_add32 if dtype == "float32" else _add64)


@intrinsic
def _call_add(typingctx, address, source, source_row, ids, rows, target, target_row, size):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I64] * 7).as_pointer()
        builder.call(builder.inttoptr(args[0], kind), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), codegen


def gather_job(table: np.ndarray, ids: np.ndarray, out: np.ndarray) -> list[int]:
    """Describe out = table[ids].  table: (V, C), ids: (N,) int64, out: (N, >= C)."""
    return [GATHER, len(ids), address(table), table.strides[0], address(ids),
            table.shape[1] * table.itemsize, address(out), out.strides[0]]  # fmt: skip


def add_job(rows: np.ndarray, ids: np.ndarray, out: np.ndarray) -> list[int]:
    """Describe out[id] += row, row after row.  rows: (N, C), ids: (N,) int64, out: (V, C)."""
    return [ADD, _compiled_add(rows.dtype.name).address, address(rows), rows.strides[0],
            address(ids), len(ids), address(out), out.strides[0], rows.shape[1],
            rows.itemsize]  # fmt: skip


@kernel
def gather(job, first, last, thread, threads):  # type: ignore[no-untyped-def]
    """Copy rows first to last of a thread's share of the columns."""
    size = load(job + 40)
    lines = (size + _LINE - 1) // _LINE
    left, right = lines * thread // threads * _LINE, lines * (thread + 1) // threads * _LINE
    count = min(right, size) - left
    table, table_row, ids = load(job + 16) + left, load(job + 24), load(job + 32)
    out, out_row = load(job + 48) + left, load(job + 56)
    for row in range(first, last):
        copy(out + row * out_row, table + load(ids + row * 8) * table_row, count)


@kernel
def add(job, first, last):  # type: ignore[no-untyped-def]
    """Sum columns first to last."""
    at = first * load(job + 72)
    _call_add(load(job + 8), load(job + 16) + at, load(job + 24), load(job + 32), load(job + 40),
              load(job + 48) + at, load(job + 56), last - first)  # fmt: skip


@kernel
def run_add(job, thread, threads):  # type: ignore[no-untyped-def]
    """Do a thread's share of the columns of sums."""
    columns = load(job + 64)
    blocks = (columns + _COLUMNS - 1) // _COLUMNS
    first, last = blocks * thread // threads, blocks * (thread + 1) // threads
    add(job, first * _COLUMNS, min(last * _COLUMNS, columns))


def sum_rows(rows: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """Return the sums (count, C) of those rows (N, C) that have one id; ids: (N,) int64.

    By one thread: memory is what takes the time, and halves of rows are read at two thirds of the
    speed of whole ones.
    """
    rows = unit_rows(rows)
    out = lend((count, rows.shape[1]), rows.dtype, fill=0.0)
    job = np.array(add_job(rows, ids, out), np.int64)
    add(address(job), 0, rows.shape[1])
    return out
