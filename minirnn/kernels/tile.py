"""The one register tile that all products run through: C = A B on MR rows x NV vectors.

The accumulators live in registers over the whole loop over k; each k takes one broadcast of A per
row and NV loads of packed B. A panel of B is ``(K + 1, NV * lanes)``: row 0 holds what the
accumulators start from (a bias or zeros), the K rows of B follow. The order of the sum over k does
not depend on the tile's height, so a row has the same bits in every tile.
"""

from collections.abc import Collection
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minirnn.kernels._jit import native
from minirnn.kernels.machine import MACHINE
from minirnn.kernels.vector import I64, Vector

# NV vectors wide -> rows high; measured (shared design notes): 6x4 and 8x3 reach the peak with 32
# registers, 6x2 and 4x3 with 16; 7x4 and others spill.
HEIGHTS = {1: 8, 2: 8, 3: 8, 4: 6} if MACHINE.registers == 32 else {1: 6, 2: 6, 3: 4}
WIDEST = 4 if MACHINE.registers == 32 else 2  # vectors per panel of a plain product
FROM_PANEL, ADD_TO_C = 1, 2  # what the accumulators start from
SIGNATURE = types.void(*[types.int64] * 10)


def _tile_loop(v: Vector, rows: int, nv: int, args: list[Any]) -> None:
    """Emit one tile: all accumulators as SSA values through the loop over k."""
    b = v.b
    a, a_row, a_k, panel, depth, start, c, c_row = args
    step = I64(nv * v.bytes)

    def c_address(i: int, j: int) -> Any:
        return b.add(c, b.add(b.mul(c_row, I64(i)), I64(j * v.bytes)))

    from_panel = b.append_basic_block("from_panel")
    from_c = b.append_basic_block("from_c")
    head = b.append_basic_block("head")
    loop = b.append_basic_block("k")
    done = b.append_basic_block("done")
    b.cbranch(b.icmp_signed("==", start, I64(ADD_TO_C)), from_c, from_panel)
    b.position_at_end(from_panel)
    first = [v.load(b.add(panel, I64(j * v.bytes))) for j in range(nv)]
    b.branch(head)
    b.position_at_end(from_c)
    old = [[v.load(c_address(i, j)) for j in range(nv)] for i in range(rows)]
    b.branch(head)
    b.position_at_end(head)
    begin = [[b.phi(v.type) for _ in range(nv)] for _ in range(rows)]
    for i in range(rows):
        for j in range(nv):
            begin[i][j].add_incoming(first[j], from_panel)
            begin[i][j].add_incoming(old[i][j], from_c)
    row = [b.add(a, b.mul(a_row, I64(i))) for i in range(rows)]
    b0 = b.add(panel, step)
    b.cbranch(b.icmp_signed(">", depth, I64(0)), loop, done)

    b.position_at_end(loop)
    k, ak, bk = b.phi(I64), b.phi(I64), b.phi(I64)
    acc = [[b.phi(v.type) for _ in range(nv)] for _ in range(rows)]
    bv = [v.load(b.add(bk, I64(j * v.bytes))) for j in range(nv)]
    new = []
    for i in range(rows):
        av = v.splat(v.load_scalar(b.add(row[i], ak)))
        new.append([v.fma(av, bv[j], acc[i][j]) for j in range(nv)])
    k1, ak1, bk1 = b.add(k, I64(1)), b.add(ak, a_k), b.add(bk, step)
    for phi, zero, following in ((k, I64(0), k1), (ak, I64(0), ak1), (bk, b0, bk1)):
        phi.add_incoming(zero, head)
        phi.add_incoming(following, loop)
    for i in range(rows):
        for j in range(nv):
            acc[i][j].add_incoming(begin[i][j], head)
            acc[i][j].add_incoming(new[i][j], loop)
    b.cbranch(b.icmp_signed("<", k1, depth), loop, done)

    b.position_at_end(done)
    for i in range(rows):
        for j in range(nv):
            out = b.phi(v.type)
            out.add_incoming(begin[i][j], head)
            out.add_incoming(new[i][j], loop)
            begin[i][j] = out
    for i in range(rows):
        for j in range(nv):
            v.store(begin[i][j], c_address(i, j))


def _emit_tile(dtype: str) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Vector(builder, dtype)
        rows, nv, *rest = args
        end = builder.append_basic_block("end")
        unknown = builder.append_basic_block("unknown")
        case = builder.switch(builder.add(builder.mul(nv, I64(16)), rows), unknown)
        for width, height in HEIGHTS.items():
            for r in range(1, height + 1):
                block = builder.append_basic_block(f"tile_{r}x{width}")
                case.add_case(I64(width * 16 + r), block)
                builder.position_at_end(block)
                _tile_loop(v, r, width, rest)
                builder.branch(end)
        builder.position_at_end(unknown)  # a size without a tile: stop rather than do nothing
        trap = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, trap, "llvm.trap"), [])
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return codegen


@intrinsic
def _tile32(typingctx, rows, nv, a, a_row, a_k, panel, depth, start, c, c_row):  # type: ignore[no-untyped-def]
    return SIGNATURE, _emit_tile("float32")


@intrinsic
def _tile64(typingctx, rows, nv, a, a_row, a_k, panel, depth, start, c, c_row):  # type: ignore[no-untyped-def]
    return SIGNATURE, _emit_tile("float64")


# rows, nv: size of the tile.  a: address of A, a_row and a_k its strides; panel: address of packed
# B; depth: K; start: FROM_PANEL or ADD_TO_C; c: address of C, c_row its stride. Strides in bytes.


def _product32(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row):  # type: ignore[no-untyped-def]
    _tile32(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row)


def _product64(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row):  # type: ignore[no-untyped-def]
    _tile64(rows, nv, a, a_row, a_k, panel, depth, start, c, c_row)


@cache
def _compiled(dtype: str) -> Any:
    return native(SIGNATURE)(_product32 if dtype == "float32" else _product64)


def tile_address(dtype: str) -> int:
    """Return the tile's address: called by address, no kernel compiles it again."""
    address: int = _compiled(dtype).address
    return address


def emit_call(builder: Any, address: Any, *args: Any) -> None:
    """Emit a call of the tile at an address."""
    kind = ir.FunctionType(ir.VoidType(), [I64] * 10).as_pointer()
    builder.call(builder.inttoptr(address, kind), args)


@intrinsic
def call_tile(typingctx, address, rows, nv, a, a_row, a_k, panel, depth, start, c, c_row):  # type: ignore[no-untyped-def]
    """Call the tile at an address from a kernel."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_call(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), codegen


def cut(members: int) -> tuple[int, ...]:
    """Cut the members of a product into the widths of tiles."""
    if members in HEIGHTS:
        return (members,)
    return tuple(min(WIDEST, members - i) for i in range(0, members, WIDEST))


def units_per_column(blocks: int) -> int:
    """Return how many unit blocks a column may hold at most: with few, there must be several."""
    return max(1, min(WIDEST, blocks // 2))


def shape_for(members: Collection[int], units: int) -> tuple[int, int]:
    """Return unit blocks per column and rows per tile.

    members: blocks of each product of a stage; units: at most so many unit blocks per column. The
    products of a stage share their rows: the height is the lowest that one of their tiles has.
    """
    units = max(1, min(units, WIDEST // max(members, default=1)))
    return units, min(HEIGHTS[units * wide] for n in members or (1,) for wide in cut(n))
