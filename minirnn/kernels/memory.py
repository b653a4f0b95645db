"""Memory by address, and what threads need to wait for each other.

Kernels pass addresses as 64-bit integers: one block of integers describes a whole pass, so a call
unboxes one array, and the loops around the tile are the same code for both dtypes.
"""

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minirnn.kernels._jit import kernel
from minirnn.kernels.vector import I32, I64

I8 = ir.IntType(8)


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def load(typingctx, address):  # type: ignore[no-untyped-def]
    """Return the 64-bit integer at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_word(builder, args[0]), align=8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx, address, value):  # type: ignore[no-untyped-def]
    """Write a 64-bit integer to an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], _word(builder, args[0]), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy(typingctx, target, source, count):  # type: ignore[no-untyped-def]
    """Copy ``count`` bytes; the two must not overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, start, count = args
        cgutils.raw_memcpy(
            builder,
            builder.inttoptr(to, I8.as_pointer()),
            builder.inttoptr(start, I8.as_pointer()),
            count,
            1,
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def clear(typingctx, target, count):  # type: ignore[no-untyped-def]
    """Set ``count`` bytes to zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, count = args
        cgutils.memset(builder, builder.inttoptr(to, I8.as_pointer()), count, 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def pointer(typingctx, address, like):  # type: ignore[no-untyped-def]
    """Return an address as a pointer to numbers of the dtype of the array ``like``."""
    kind = types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64, like), codegen


@intrinsic
def arrive(typingctx, address):  # type: ignore[no-untyped-def]
    """Add one to a counter that threads share."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.atomic_rmw("add", _word(builder, args[0]), I64(1), "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def publish(typingctx, address, value):  # type: ignore[no-untyped-def]
    """Write a word that threads share; what they read after it is not older than it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.atomic_rmw("xchg", _word(builder, args[0]), args[1], "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def look(typingctx, address):  # type: ignore[no-untyped-def]
    """Read a word that threads share."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_word(builder, args[0]), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def pause(typingctx):  # type: ignore[no-untyped-def]
    """Let the core rest for a moment in a loop that waits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(typingctx):  # type: ignore[no-untyped-def]
    """Let another thread have this core."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(I32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def wait_for(address, target):  # type: ignore[no-untyped-def]
    """Wait until the word at this address is ``target`` or more.

    A thread that has waited for a while yields: two threads on one core, each waiting for a thread
    that is not running, would otherwise burn whole time slices.
    """
    waited = 0
    while look(address) < target:
        waited += 1
        if waited > 2000:
            yield_core()


@kernel
def barrier(address, target):  # type: ignore[no-untyped-def]
    """Wait until ``target`` arrivals in all have been counted at this address."""
    arrive(address)
    wait_for(address, target)
