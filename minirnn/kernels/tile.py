"""The one register tile that all products run through: C = A B on MR rows x NV vectors.

The accumulators live in registers over the whole loop over k; each k takes one broadcast of A per
row and NV loads of packed B. A panel of B is ``(K + 1, NV * lanes)``: row 0 holds what the
accumulators start from (a bias or zeros), the K rows of B follow. The order of the sum over k does
not depend on the tile's height, so a row has the same bits in every tile.
"""

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minirnn.kernels._jit import kernel, native
from minirnn.kernels.machine import CACHE_BYTES, MACHINE
from minirnn.kernels.vector import I64, Vector

# NV vectors wide -> rows high; measured (shared design notes): 6x4 and 8x3 reach the peak with 32
# registers, 6x2 and 4x3 with 16; 7x4 and others spill.
HEIGHTS = {1: 8, 2: 8, 3: 8, 4: 6} if MACHINE.registers == 32 else {1: 6, 2: 6, 3: 4}
# NV -> partial sums, in a product of few rows: a low and narrow tile waits for its own additions.
# One sum is over k = 0, 2, ... and one over 1, 3, ..., in every tile of this width, so that a row
# has the same bits in all of them; these tiles are six rows high at most.
PARTIAL = {1: 4, 2: 2} if MACHINE.registers == 32 else {1: 2}
_PARTIAL_HEIGHT = 6
IN_PARTS = 8  # added to NV: where there are tiles with partial sums for it, these
WIDEST = 4 if MACHINE.registers == 32 else 2  # vectors per panel of a plain product
# What becomes of C: written from sums that begin with the panel's first row (near: C is in the
# first-level cache), or such sums are added to it, or the sums begin with it.
FROM_PANEL, ADD_TO_C, FROM_PANEL_NEAR, CONTINUE = 1, 2, 3, 4
_LINE = 64  # bytes of a cache line
_FETCHING = 3  # lower tiles wait for B as it is: fetching ahead made 1x4 slower by a third
SIGNATURE = types.void(*[types.int64] * 11)


class _Tile:
    """Emits one size of tile: all accumulators as SSA values through the loop over k."""

    def __init__(self, v: Vector, rows: int, nv: int, sums: int, args: list[Any]) -> None:
        self.v, self.rows, self.nv, self.sums = v, rows, nv, sums
        (self.a, self.a_row, self.a_k, self.panel, self.depth, self.start, self.c, self.c_row,
         self.ahead) = args  # fmt: skip
        self.places = [(i, j) for i in range(rows) for j in range(nv)]

    def emit(self) -> None:
        """Emit the loop over pairs of k, the last k if their number is odd, and the stores."""
        v, b = self.v, self.v.b
        self._prefetch()
        self.step = I64(self.nv * v.bytes)
        self.row = [b.add(self.a, b.mul(self.a_row, I64(i))) for i in range(self.rows)]
        first = self._first()
        sets = [first, *[[v.const(0.0)] * len(first) for _ in range(self.sums - 1)]]
        where = [I64(0), b.add(self.panel, self.step), self.ahead]
        together = max(2, len(sets))
        sets, where = self._repeat(sets, where, b.sdiv(self.depth, I64(together)), together)
        sets, _ = self._repeat(sets, where, b.srem(self.depth, I64(together)), 1)
        while len(sets) > 1:  # halves of halves
            half = len(sets) // 2
            sets = [[b.fadd(x, y) for x, y in zip(sets[i], sets[i + half], strict=True)]
                    for i in range(half)]  # fmt: skip
        self._store(sets[0])

    def _prefetch(self) -> None:
        """Ask for C early: it may lie far away, and is needed after the loop only."""
        v, b = self.v, self.v.b
        with b.if_then(b.icmp_signed("!=", self.start, I64(FROM_PANEL_NEAR))):
            for i, j in self.places:
                v.prefetch(self._c(i, j), write=True)

    def _first(self) -> list[Any]:
        """Return what the sums begin with: the panel's first row, or C."""
        v, b = self.v, self.v.b
        with b.if_else(b.icmp_signed("==", self.start, I64(CONTINUE))) as (go_on, begin):
            with go_on:
                old = [v.load(self._c(i, j)) for i, j in self.places]
                at_old = b.block
            with begin:
                row = [v.load(b.add(self.panel, I64(j * v.bytes))) for j in range(self.nv)]
                at_row = b.block
        sums = []
        for (_, j), value in zip(self.places, old, strict=True):
            phi = b.phi(v.type)
            phi.add_incoming(value, at_old)
            phi.add_incoming(row[j], at_row)
            sums.append(phi)
        return sums

    def _c(self, i: int, j: int) -> Any:
        b = self.v.b
        return b.add(self.c, b.add(b.mul(self.c_row, I64(i)), I64(j * self.v.bytes)))

    def _repeat(
        self, begin: list[list[Any]], where: list[Any], count: Any, steps: int
    ) -> tuple[list[list[Any]], list[Any]]:
        """Emit ``count`` rounds of so many k, each of which adds to a set of sums of its own.

        begin: the sets so far; where: the offset of k in A, the address of k in B, and the line to
        ask for. Returns both as they are then.
        """
        b, size = self.v.b, len(self.places)
        head = b.block
        loop, done = b.append_basic_block("k"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed(">", count, I64(0)), loop, done)
        b.position_at_end(loop)
        entry = [I64(0), *where, *(value for sums in begin for value in sums)]
        phis = [b.phi(value.type) for value in entry]
        n, ak, bk, ahead, *flat = phis
        sets = [flat[i : i + size] for i in range(0, len(flat), size)]
        for step in range(steps):
            turn = step % len(sets)
            sets[turn] = self._add_products(sets[turn], ak, bk)
            if self.rows >= _FETCHING:
                self.v.prefetch(ahead, level=2)
            ak, bk, ahead = b.add(ak, self.a_k), b.add(bk, self.step), b.add(ahead, I64(_LINE))
        after = [b.add(n, I64(1)), ak, bk, ahead, *(value for sums in sets for value in sums)]
        for phi, before, following in zip(phis, entry, after, strict=True):
            phi.add_incoming(before, head)
            phi.add_incoming(following, b.block)
        end = b.block
        b.cbranch(b.icmp_signed("<", after[0], count), loop, done)
        b.position_at_end(done)
        out = []
        for before, following in zip(entry[1:], after[1:], strict=True):
            phi = b.phi(before.type)
            phi.add_incoming(before, head)
            phi.add_incoming(following, end)
            out.append(phi)
        return [out[i : i + size] for i in range(3, len(out), size)], out[:3]

    def _add_products(self, sums: list[Any], ak: Any, bk: Any) -> list[Any]:
        """Add the products of one k."""
        v, b = self.v, self.v.b
        right = [v.load(b.add(bk, I64(j * v.bytes))) for j in range(self.nv)]
        left = [v.splat(v.load_scalar(b.add(row, ak))) for row in self.row]
        return [
            v.fma(left[i], right[j], old) for (i, j), old in zip(self.places, sums, strict=True)
        ]

    def _store(self, sums: list[Any]) -> None:
        v, b = self.v, self.v.b
        with b.if_else(b.icmp_signed("==", self.start, I64(ADD_TO_C))) as (add, plain):
            with add:
                for (i, j), value in zip(self.places, sums, strict=True):
                    at = self._c(i, j)
                    v.store(b.fadd(v.load(at), value), at)
            with plain:
                for (i, j), value in zip(self.places, sums, strict=True):
                    v.store(value, self._c(i, j))


def _sizes() -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    """Yield every tile: what callers write for its width, rows, width, and partial sums."""
    for width, height in HEIGHTS.items():
        for r in range(1, height + 1):
            yield (width,) if width in PARTIAL else (width, width + IN_PARTS), r, width, 1
    for width, sums in PARTIAL.items():
        for r in range(1, _PARTIAL_HEIGHT + 1):
            yield (width + IN_PARTS,), r, width, sums


def _emit_tile(dtype: str) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Vector(builder, dtype)
        rows, nv, *rest = args
        end = builder.append_basic_block("end")
        unknown = builder.append_basic_block("unknown")
        case = builder.switch(builder.add(builder.mul(nv, I64(16)), rows), unknown)
        for codes, r, width, sums in _sizes():
            block = builder.append_basic_block(f"tile_{r}x{width}")
            for code in codes:
                case.add_case(I64(code * 16 + r), block)
            builder.position_at_end(block)
            _Tile(v, r, width, sums, rest).emit()
            builder.branch(end)
        builder.position_at_end(unknown)  # a size without a tile: stop rather than do nothing
        trap = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, trap, "llvm.trap"), [])
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return codegen


@intrinsic
def _tile32(typingctx, rows, nv, a, a_row, a_k, panel, depth, start, c, c_row, ahead):  # type: ignore[no-untyped-def]
    return SIGNATURE, _emit_tile("float32")


@intrinsic
def _tile64(typingctx, rows, nv, a, a_row, a_k, panel, depth, start, c, c_row, ahead):  # type: ignore[no-untyped-def]
    return SIGNATURE, _emit_tile("float64")


# rows, nv: size of the tile, maybe IN_PARTS.  a: address of A, a_row and a_k its strides; panel:
# address of packed B; depth: K; start: one of the four above; c: address of C, c_row its stride.
# Strides in bytes.  ahead: K lines from here on are fetched to the second-level cache by tiles of
# three rows and more: a part of the panel that comes next, which may lie in a cache that the cores
# share.


def _product32(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row, ahead):  # type: ignore[no-untyped-def]
    _tile32(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row, ahead)


def _product64(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row, ahead):  # type: ignore[no-untyped-def]
    _tile64(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row, ahead)


@cache
def _compiled(dtype: str) -> Any:
    return native(SIGNATURE)(_product32 if dtype == "float32" else _product64)


def tile_address(dtype: str) -> int:
    """Return the tile's address: called by address, no kernel compiles it again."""
    address: int = _compiled(dtype).address
    return address


def emit_call(builder: Any, address: Any, *args: Any) -> None:
    """Emit a call of the tile at an address."""
    kind = ir.FunctionType(ir.VoidType(), [I64] * 11).as_pointer()
    builder.call(builder.inttoptr(address, kind), args)


@intrinsic
def call_tile(typingctx, address, rows, nv, a, a_row, a_k, panel, depth, start, c, c_row, ahead):  # type: ignore[no-untyped-def]
    """Call the tile at an address from a kernel."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_call(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12), codegen


def cut(members: int) -> tuple[int, ...]:
    """Cut the members of a product into the widths of tiles."""
    if members in HEIGHTS:
        return (members,)
    return tuple(min(WIDEST, members - i) for i in range(0, members, WIDEST))


def units_per_column(blocks: int) -> int:
    """Return how many unit blocks a column may hold at most: with few, there must be several."""
    return max(1, min(WIDEST, blocks // 2))


def panel_width(depth: int) -> int:
    """Return how many vectors wide a panel of B with ``depth`` rows is.

    The panel in use and the next one, which is fetched meanwhile, shall leave room in the
    second-level cache.
    """
    large = depth * WIDEST * MACHINE.bits // 8 > CACHE_BYTES * 2 // 7
    return 2 if large else WIDEST


def shape_for(members: Collection[int], units: int) -> tuple[int, int]:
    """Return unit blocks per column and rows per tile.

    members: blocks of each product of a stage; units: at most so many unit blocks per column. The
    products of a stage share their rows: the height is the lowest that one of their tiles has; in
    the last column there may be fewer unit blocks. They are summed `IN_PARTS`.
    """
    units = max(1, min(units, WIDEST // max(members, default=1)))
    widths = {n * left for m in members or (1,) for n in cut(m) for left in range(1, units + 1)}
    return units, min(_PARTIAL_HEIGHT if nv in PARTIAL else HEIGHTS[nv] for nv in widths)


@kernel
def line_ahead(panel, depth, wide, part):  # type: ignore[no-untyped-def]
    """Return from where the tile of this number fetches lines of a panel: each another part.

    A panel has K lines for each of the vectors that it is wide.
    """
    return panel + part % wide * depth * _LINE
