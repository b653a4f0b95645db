"""The loops around the tile: C = A B and C = A^T B over many rows, and sums over rows.

A *job* is a row of integers; `run_jobs` works through a table of them, each thread on its share.
The share never cuts a sum, so results do not depend on the number of threads.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minirnn.kernels._jit import kernel, native
from minirnn.kernels.machine import MACHINE
from minirnn.kernels.memory import clear, copy, load
from minirnn.kernels.symbols import ADD, GATHER, gather, run_add
from minirnn.kernels.tile import (
    ADD_TO_C,
    CONTINUE,
    FROM_PANEL,
    HEIGHTS,
    WIDEST,
    call_tile,
    line_ahead,
    tile_address,
)
from minirnn.kernels.vector import I64, ITEMSIZE, Vector
from minirnn.kernels.workspace import address

VECTOR_BYTES = MACHINE.bits // 8
WORDS = 20  # integers per job
ROWS, TRANSPOSED, SUMS = 1, 2, 3  # kinds of job
# Words that hold an address which changes from pass to pass: A, panels and C of ROWS, B, C and sums
# of TRANSPOSED, the target of SUMS.
ROWS_A, ROWS_PANELS, ROWS_C, TRANSPOSED_B, TRANSPOSED_C, TRANSPOSED_SUMS, SUMS_OUT = (
    2,
    5,
    8,
    9,
    12,
    18,
    6,
)

_UNCUT, _CUT = 2048, 1024  # a longer sum over k is cut: rows of A must stay in the cache as well
ROW_BLOCK = 96  # rows of A that pass a panel of B before the next panel is taken
_HEIGHT = HEIGHTS[WIDEST]
# A^T B: panels of B three vectors wide, panels of A as high as the tile, blocked so that a panel of
# B and a block of A stay in the second-level cache.
_T_WIDE = 3
_T_DEPTH = 400
_T_PANELS = 24
T_SCRATCH_A = _T_PANELS * 8 * _T_DEPTH * 8  # bytes for packed A; packed B follows


def transposed_height(dtype: str) -> int:
    """Return how many columns of A make a panel of A^T B; it divides the lanes of a vector."""
    return min(HEIGHTS[_T_WIDE], MACHINE.lanes(ITEMSIZE[dtype]))


def transposed_scratch(columns: int, itemsize: int) -> int:
    """Return the bytes one thread needs for A^T B where B has so many columns."""
    wide = _T_WIDE * VECTOR_BYTES
    panels = -(-columns * itemsize // wide)
    return T_SCRATCH_A + panels * (_T_DEPTH + 1) * wide


SUMS_SIGNATURE = types.void(*[types.int64] * 4)
_SUM_BLOCK = 32  # rows summed by themselves before they join the total, for accuracy


def _emit_sums(dtype: str) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, source, stride, target = args
        v = Vector(builder, dtype)
        total = cgutils.alloca_once_value(builder, v.const(0.0))
        part = cgutils.alloca_once_value(builder, v.const(0.0))
        with cgutils.for_range(builder, rows) as loop:
            value = v.load(builder.add(source, builder.mul(loop.index, stride)))
            builder.store(builder.fadd(builder.load(part), value), part)
            place = builder.and_(loop.index, I64(_SUM_BLOCK - 1))
            with builder.if_then(builder.icmp_signed("==", place, I64(_SUM_BLOCK - 1))):
                builder.store(builder.fadd(builder.load(total), builder.load(part)), total)
                builder.store(v.const(0.0), part)
        found = builder.fadd(builder.load(total), builder.load(part))
        v.store(builder.fadd(v.load(target), found), target)
        return context.get_dummy_value()

    return codegen


@intrinsic
def _sums32(typingctx, rows, source, stride, target):  # type: ignore[no-untyped-def]
    return SUMS_SIGNATURE, _emit_sums("float32")


@intrinsic
def _sums64(typingctx, rows, source, stride, target):  # type: ignore[no-untyped-def]
    return SUMS_SIGNATURE, _emit_sums("float64")


def _column32(rows, source, stride, target):  # type: ignore[no-untyped-def]
    _sums32(rows, source, stride, target)


def _column64(rows, source, stride, target):  # type: ignore[no-untyped-def]
    _sums64(rows, source, stride, target)


@cache
def _compiled_sums(dtype: str) -> Any:
    return native(SUMS_SIGNATURE)(_column32 if dtype == "float32" else _column64)


@intrinsic
def _call_sums(typingctx, address, rows, source, stride, target):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I64] * 4).as_pointer()
        builder.call(builder.inttoptr(args[0], kind), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


def rows_job(
    dtype: str, a: np.ndarray, depth: int, panels: np.ndarray, columns: int, c: np.ndarray
) -> list[int]:
    """Describe C = A B.

    a: (M, >= depth), c: (M, columns rounded up to whole vectors), unit stride along rows.
    panels: B packed by `minirnn.kernels.pack`, `WIDEST` vectors wide.
    """
    size = ITEMSIZE[dtype]
    vectors = -(-columns * size // VECTOR_BYTES)
    return [ROWS, tile_address(dtype), address(a), a.strides[0], a.shape[0], address(panels),
            depth, vectors, address(c), c.strides[0], size]  # fmt: skip


def transposed_job(
    dtype: str, a: np.ndarray, members: int, places: np.ndarray, b: np.ndarray, columns: int,
    c: np.ndarray, starts: np.ndarray | None = None, sums: np.ndarray | None = None,
    units: int | None = None,
) -> list[int]:  # fmt: skip
    """Describe C = A^T B, summed over rows.

    a: (K, blocks * members * lanes), columns as [unit block][member][lane]; b: (K, >= columns);
    c: (rows, columns rounded up to whole vectors), where member m of a unit goes to row
    ``places[m] * (blocks * lanes) + unit``. places: (members,) int64. units: how many of the
    ``blocks * lanes`` units there are (None: all); panels of others are left out.
    starts: first column of C wanted for each panel of A (panels,) int64 in bytes, or None: all.
    sums: array (blocks * members * lanes,) to which the sum of the rows of A is added, or None.
    """
    size = ITEMSIZE[dtype]
    height = transposed_height(dtype)
    per_vector = VECTOR_BYTES // size // height
    blocks = a.shape[1] * size // VECTOR_BYTES // members
    return [TRANSPOSED, tile_address(dtype), address(a), a.strides[0], a.shape[0], height,
            blocks * members * per_vector, members, address(places), address(b),
            b.strides[0], columns * size, address(c), c.strides[0], size,
            per_vector, 0 if starts is None else address(starts), _compiled_sums(dtype).address,
            0 if sums is None else address(sums),
            blocks * VECTOR_BYTES // size if units is None else units]  # fmt: skip


def sums_job(dtype: str, a: np.ndarray, out: np.ndarray) -> list[int]:
    """Describe out += sum of the rows of A.  a: (K, whole vectors), out: (whole vectors,)."""
    return [SUMS, _compiled_sums(dtype).address, address(a), a.strides[0], a.shape[0],
            a.shape[1] * ITEMSIZE[dtype] // VECTOR_BYTES, address(out)]  # fmt: skip


def job_table(jobs: list[list[int]]) -> np.ndarray:
    """Return jobs as an array (jobs, WORDS)."""
    table = np.zeros((len(jobs), WORDS), np.int64)
    for row, job in zip(table, jobs, strict=True):
        row[: len(job)] = job
    return table


@kernel
def _rows(job, first, last, left, right):  # type: ignore[no-untyped-def]
    """Rows first to last and panels left to right of C = A B."""
    tile, a, a_row, panels = load(job + 8), load(job + 16), load(job + 24), load(job + 40)
    depth, vectors, c, c_row, size = (
        load(job + 48), load(job + 56), load(job + 64), load(job + 72), load(job + 80),
    )  # fmt: skip
    full = (depth + 1) * WIDEST * VECTOR_BYTES
    blocks = (last - first + ROW_BLOCK - 1) // ROW_BLOCK
    cuts = 1 if depth <= _UNCUT else (depth + _CUT - 1) // _CUT  # the sums just go on: same bits
    for i in range(blocks):
        block, end = (
            first + (last - first) * i // blocks,
            first + (last - first) * (i + 1) // blocks,
        )
        tiles = (end - block + _HEIGHT - 1) // _HEIGHT  # of about the same height
        for cut in range(cuts):
            k, part = depth * cut // cuts, depth * (cut + 1) // cuts - depth * cut // cuts
            start = FROM_PANEL if cut == 0 else CONTINUE
            for j in range(left, right):
                nv = min(WIDEST, vectors - j * WIDEST)
                panel = panels + j * full + k * nv * VECTOR_BYTES
                following = panels + (j + 1) * full + k * nv * VECTOR_BYTES
                if j + 1 == right:
                    following = panel
                for n in range(tiles):
                    r = block + (end - block) * n // tiles
                    m = block + (end - block) * (n + 1) // tiles - r
                    call_tile(tile, m, nv, a + r * a_row + k * size, a_row, size, panel, part,
                              start, c + r * c_row + j * WIDEST * VECTOR_BYTES, c_row,
                              line_ahead(following, part, nv, n))  # fmt: skip


@kernel
def _panels(job):  # type: ignore[no-untyped-def]
    """Return the number of panels of a job C = A B."""
    return (load(job + 56) + WIDEST - 1) // WIDEST


@kernel
def run_rows(job, first, last, thread, threads):  # type: ignore[no-untyped-def]
    """Do this thread's share of some rows of a job C = A B: of the panels, if there are enough.

    A job that copies rows of a table will do, too.
    """
    if load(job) == GATHER:
        gather(job, first, last, thread, threads)
        return
    panels = _panels(job)
    if panels >= threads:
        _rows(job, first, last, panels * thread // threads, panels * (thread + 1) // threads)
    else:
        count = last - first
        _rows(job, first + count * thread // threads, first + count * (thread + 1) // threads,
              0, panels)  # fmt: skip


@kernel
def _transposed(job, first, last, scratch):  # type: ignore[no-untyped-def]
    """Panels first to last of C = A^T B."""
    tile, a, a_row, rows, height = (
        load(job + 8), load(job + 16), load(job + 24), load(job + 32), load(job + 40),
    )  # fmt: skip
    members, places, b, b_row, b_bytes = (
        load(job + 56), load(job + 64), load(job + 72), load(job + 80), load(job + 88),
    )  # fmt: skip
    c, c_row, size, per_vector = load(job + 96), load(job + 104), load(job + 112), load(job + 120)
    blocks = load(job + 48) // (members * per_vector)
    starts, function, sums, units = (
        load(job + 128), load(job + 136), load(job + 144), load(job + 152),
    )  # fmt: skip
    lanes = height * per_vector
    high = height * size
    b_vectors = (b_bytes + VECTOR_BYTES - 1) // VECTOR_BYTES
    b_panels = (b_vectors + _T_WIDE - 1) // _T_WIDE  # of about the same width
    packed_b = scratch + T_SCRATCH_A
    start = FROM_PANEL
    cuts = max(1, (rows + _T_DEPTH - 1) // _T_DEPTH)
    for cut in range(cuts):
        k0 = rows * cut // cuts
        depth = rows * (cut + 1) // cuts - k0
        source = b + k0 * b_row
        for j in range(b_panels):
            v0, v1 = b_vectors * j // b_panels, b_vectors * (j + 1) // b_panels
            col, line = v0 * VECTOR_BYTES, (v1 - v0) * VECTOR_BYTES
            width = min(line, b_bytes - col)
            panel = packed_b + col * (depth + 1)
            clear(panel, line)
            for k in range(depth):
                if width < line:
                    clear(panel + (k + 1) * line, line)
                copy(panel + (k + 1) * line, source + k * b_row + col, width)
        for p0 in range(first, last, _T_PANELS):
            p1 = min(p0 + _T_PANELS, last)
            block = a + k0 * a_row + p0 * high
            _pack_columns(scratch, block, a_row, high, depth, p1 - p0)
            if sums != 0:  # what has just been packed is still near
                for at in range(0, (p1 - p0) * high, VECTOR_BYTES):
                    _call_sums(function, depth, block + at, a_row, sums + p0 * high + at)
            for j in range(b_panels):
                v0, v1 = b_vectors * j // b_panels, b_vectors * (j + 1) // b_panels
                col, nv = v0 * VECTOR_BYTES, v1 - v0
                panel = packed_b + col * (depth + 1)
                for p in range(p0, p1):
                    if starts != 0 and load(starts + p * 8) >= v1 * VECTOR_BYTES:
                        continue
                    vector, part = p // per_vector, p % per_vector
                    unit = vector // members * lanes + part * height
                    if unit >= units:
                        continue
                    row = load(places + vector % members * 8) * blocks * lanes + unit
                    call_tile(tile, height, nv, scratch + (p - p0) * high * depth, size, high,
                              panel, depth, start, c + row * c_row + col, c_row, panel)  # fmt: skip
        start = ADD_TO_C


@kernel
def _pack_columns(target, source, stride, high, depth, panels):  # type: ignore[no-untyped-def]
    """Copy columns of A into panels (panel, depth, high); whole lines of a row at a time."""
    if high == 32:  # a known size makes the copy one instruction
        for k in range(depth):
            for p in range(panels):
                copy(target + (p * depth + k) * 32, source + k * stride + p * 32, 32)
    elif high == 64:
        for k in range(depth):
            for p in range(panels):
                copy(target + (p * depth + k) * 64, source + k * stride + p * 64, 64)
    else:
        for k in range(depth):
            for p in range(panels):
                copy(target + (p * depth + k) * high, source + k * stride + p * high, high)


@kernel
def _sums(job, first, last):  # type: ignore[no-untyped-def]
    """Vectors first to last of the sums over the rows of A."""
    function, a, a_row, rows, out = (
        load(job + 8), load(job + 16), load(job + 24), load(job + 32), load(job + 48),
    )  # fmt: skip
    for j in range(first, last):
        _call_sums(function, rows, a + j * VECTOR_BYTES, a_row, out + j * VECTOR_BYTES)


@kernel
def run_jobs(jobs, count, thread, threads, scratch):  # type: ignore[no-untyped-def]
    """Do this thread's share of each job; no job may read what another one writes."""
    for i in range(count):
        job = jobs + i * WORDS * 8
        kind = load(job)
        if kind == ROWS:
            rows, panels = load(job + 32), _panels(job)
            _rows(job, rows * thread // threads, rows * (thread + 1) // threads, 0, panels)
        elif kind == TRANSPOSED:
            each = load(job + 120)  # panels that share a vector stay together
            vectors = load(job + 48) // each
            first, last = vectors * thread // threads, vectors * (thread + 1) // threads
            _transposed(job, first * each, last * each, scratch)
        elif kind == SUMS:
            vectors = load(job + 40)
            _sums(job, vectors * thread // threads, vectors * (thread + 1) // threads)
        elif kind == ADD:
            run_add(job, thread, threads)
