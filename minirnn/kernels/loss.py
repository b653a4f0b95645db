"""Softmax cross-entropy: the loss of every row and its gradient, while the row is in the cache."""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from minirnn.kernels._jit import kernel
from minirnn.kernels.flat import readable
from minirnn.kernels.memory import clear, pointer
from minirnn.kernels.pack import lanes_of
from minirnn.kernels.spread import spread
from minirnn.kernels.vector import I32, I64, Vector
from minirnn.kernels.workspace import Lease, address, lend

_COST = 0.8  # nanoseconds a score


@intrinsic
def _exponentials(typingctx, like, x, count, target):  # type: ignore[no-untyped-def]
    """Write exp(x - largest x) for ``count`` numbers; return the largest, and the sum of those.

    x is read and the target, unless it is 0, written in whole vectors: zeros behind the numbers.
    """
    kind, dtype = like.dtype, str(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, x, count, target = args
        b, v = builder, Vector(builder, dtype)
        vectors = b.udiv(b.add(count, I64(v.lanes - 1)), I64(v.lanes))
        lowest = v.const(-math.inf)
        most = cgutils.alloca_once_value(b, lowest)
        with cgutils.for_range(b, vectors) as loop:
            value = v.load(b.add(x, b.mul(loop.index, I64(v.bytes))))
            value = _first_lanes(v, value, lowest, loop.index, count)
            before = b.load(most)
            b.store(v.where(v.less(before, value), value, before), most)
        largest = _largest_lane(v, b.load(most))
        total = cgutils.alloca_once_value(b, v.const(0.0))
        with cgutils.for_range(b, vectors) as loop:
            offset = b.mul(loop.index, I64(v.bytes))
            e = v.exp(b.fsub(v.load(b.add(x, offset)), v.splat(largest)))
            e = _first_lanes(v, e, v.const(0.0), loop.index, count)
            b.store(b.fadd(b.load(total), e), total)
            with b.if_then(b.icmp_signed("!=", target, I64(0))):
                v.store(e, b.add(target, offset))
        pair = [largest, v.sum_lanes(b.load(total))]
        return context.make_tuple(b, signature.return_type, pair)

    return types.UniTuple(kind, 2)(like, types.int64, types.int64, types.int64), codegen


def _first_lanes(v: Vector, value: Any, other: Any, number: Any, count: Any) -> Any:
    """Return vector ``number`` of a row of ``count`` numbers, with ``other`` behind its end."""
    b = v.b
    left = b.sub(count, b.mul(number, I64(v.lanes)))
    left = b.trunc(left, v.bits) if v.size == 4 else left
    undefined = ir.Constant(v.ints, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(I32, v.lanes), [0] * v.lanes)
    limits = b.shuffle_vector(b.insert_element(undefined, left, I32(0)), undefined, zeros)
    lane = ir.Constant(v.ints, list(range(v.lanes)))
    return b.select(b.icmp_signed("<", lane, limits), value, other)


def _largest_lane(v: Vector, x: Any) -> Any:
    """Return the largest of the lanes, of which none is NaN."""
    width, undefined = v.lanes, ir.Constant(v.type, ir.Undefined)
    while width > 1:
        width //= 2
        order = [i + width if i < width else 0 for i in range(v.lanes)]
        places = ir.Constant(ir.VectorType(I32, v.lanes), order)
        moved = v.b.shuffle_vector(x, undefined, places)
        x = v.where(v.less(x, moved), moved, x)
    return v.b.extract_element(x, I32(0))


@kernel
def _rows(x, x_row, ids, classes, ignored, each, weight, dx, dx_row, first, last):  # type: ignore[no-untyped-def]
    """Rows first to last.  x, dx: addresses (dx may be 0), ``*_row``: strides; weight: (1,)."""
    for row in range(first, last):
        source, target = x + row * x_row, 0 if dx == 0 else dx + row * dx_row
        chosen = ids[row]
        if chosen == ignored:
            each[row] = 0
            if target != 0:
                clear(target, dx_row)
            continue
        largest, total = _exponentials(each, source, classes, target)
        scores = carray(pointer(source, each), classes)
        each[row] = math.log(total) - (scores[chosen] - largest)
        if target != 0:
            # softmax less 1 at the target
            d = carray(pointer(target, each), classes)
            factor = weight[0] / total
            for j in range(classes):
                d[j] *= factor
            d[chosen] -= weight[0]


def cross_entropy(
    x: np.ndarray, ids: np.ndarray, ignored: int, weight: float, gradient: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return -log softmax(x)[ids] (N,), and the gradient of its sum times ``weight``.

    x: (N, V), V >= 1; ids: (N,) int64, in [0, V) or ``ignored``: the loss and the gradient of such
    a row are 0. The gradient is (N, V rounded up to whole vectors), zeros behind column V; None if
    it is not asked for.
    """
    rows, classes = x.shape
    each = np.empty(rows, x.dtype)
    dx = None
    if gradient:
        lanes = lanes_of(x.dtype)
        dx = lend((rows, -(-classes // lanes) * lanes), x.dtype)
    lease = Lease()
    x = readable(x, lease)
    weights = np.array([weight], x.dtype)
    place = (0, 0) if dx is None else (address(dx), dx.strides[0])
    arguments = (address(x), x.strides[0], ids, classes, ignored, each, weights, *place)
    spread(_rows, arguments, rows, _COST * classes, cut=16)
    lease.release()
    return each, dx
