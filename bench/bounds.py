"""What bounds a training step: the register tile on data near it, and reading from each cache."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from minirnn.kernels import tile
from minirnn.kernels.machine import MACHINE
from minirnn.kernels.pack import aligned
from minirnn.kernels.vector import I64, Vector

ROUNDS = 20  # of 10 ms: the best of them counts, on a machine that others use, too
STREAMS = 8  # vectors read before the next sum depends on this one
TILES = 8  # tiles that use a panel before the next is taken, as with a batch of 48 or 64
FLOAT = np.dtype(np.float32)
# where the data lies -> bytes that one thread reads over and over
LEVELS = {"L1": 16 << 10, "L2": 512 << 10, "L3": 24 << 20}


def cache_bytes(level: str) -> dict[str, int]:
    """Return the size of a core's cache as ``{"cache bytes": n}``, empty where it is not told."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        told = {n: (index / n).read_text().strip() for n in ("level", "type", "size")}
        if f"L{told['level']}" == level and told["type"] != "Instruction":
            return {"cache bytes": int(told["size"].rstrip("K")) * 1024}
    return {}


@cache
def _reader() -> Any:
    """Compile a sum over ``count`` vectors from an address, so often."""

    @intrinsic
    def sum_up(typingctx: Any, address: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _emit_sum(Vector(builder, "float32"), *args)

        return types.float32(types.int64, types.int64), codegen

    def read(address: int, count: int, times: int) -> float:
        total = np.float32(0)
        for _ in range(times):
            total += sum_up(address, count)
        return total

    return njit("(int64, int64, int64)", nogil=True)(read)


def _emit_sum(v: Vector, address: Any, count: Any) -> Any:
    b = v.b
    head, loop, done = b.block, b.append_basic_block("loop"), b.append_basic_block("done")
    b.branch(loop)
    b.position_at_end(loop)
    k = b.phi(I64)
    before = [b.phi(v.type) for _ in range(STREAMS)]
    first = b.add(address, b.mul(k, I64(v.bytes)))
    after = [b.fadd(a, v.load(b.add(first, I64(i * v.bytes)))) for i, a in enumerate(before)]
    following = b.add(k, I64(STREAMS))
    k.add_incoming(I64(0), head)
    k.add_incoming(following, loop)
    for phi, value in zip(before, after, strict=True):
        phi.add_incoming(ir.Constant(v.type, [0.0] * v.lanes), head)
        phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", following, count), loop, done)
    b.position_at_end(done)
    total = after[0]
    for value in after[1:]:
        total = b.fadd(total, value)
    return v.sum_lanes(total)


@njit(nogil=True)
def _tiles(address, times, high, nv, a, depth, panels, panel_bytes, panel, c):  # type: ignore[no-untyped-def]
    """Multiply `TILES` tiles of rows with panels of packed B, again and again.

    While a panel is used the next one is fetched, a part by each tile, as products do.
    """
    for _ in range(times):
        for p in range(panels):
            following = panel + (p + 1) % panels * panel_bytes
            for t in range(TILES):
                tile.call_tile(
                    address, high, nv, a + t * high * depth * 4, depth * 4, 4,
                    panel + p * panel_bytes, depth, tile.FROM_PANEL_NEAR, c, nv * 64,
                    following + t % nv * depth * 64,
                )  # fmt: skip


def _durations(calls: list[Callable[[int], None]], least: float = 0.01) -> tuple[list[float], int]:
    """Run one call per thread at once; return durations and how often each did its work."""
    times = 1
    with ThreadPoolExecutor(len(calls)) as pool:

        def once() -> float:
            begun = time.perf_counter()
            for waiting in [pool.submit(call, times) for call in calls]:
                waiting.result()
            return time.perf_counter() - begun

        once()  # compiles
        while once() < least:
            times *= 2
        return [once() for _ in range(ROUNDS)], times


def bandwidth(level: str, threads: int) -> tuple[list[float], int]:
    """Return durations of rounds and the bytes read in each, all threads together."""
    count = LEVELS[level] // (MACHINE.bits // 8) // STREAMS * STREAMS
    data = [aligned((LEVELS[level] // 4,), FLOAT, fill=1.0) for _ in range(threads)]
    read = _reader()
    calls = [lambda times, d=d: read(d.ctypes.data, count, times) for d in data]
    durations, times = _durations(calls)
    return durations, threads * times * count * MACHINE.bits // 8


def tile_rate(level: str, threads: int, rows: int, nv: int) -> tuple[list[float], int]:
    """Return durations of rounds and the flop of each, for a tile whose panels lie in a cache."""
    depth = 64 if level == "L1" else 512
    vector = MACHINE.bits // 8
    panel_bytes = (depth + 1) * nv * vector
    panels = max(1, LEVELS[level] // panel_bytes)
    address = tile.tile_address("float32")
    calls, kept = [], []
    for _ in range(threads):
        a = aligned((TILES * rows, depth), FLOAT, fill=1e-3)
        b = aligned((panels * panel_bytes // 4,), FLOAT, fill=1e-3)
        c = aligned((rows, nv * 16), FLOAT, fill=0.0)
        kept.append((a, b, c))
        places = (a.ctypes.data, depth, panels, panel_bytes, b.ctypes.data, c.ctypes.data)
        calls.append(lambda times, p=places: _tiles(address, times, rows, nv, *p))
    durations, times = _durations(calls)
    lanes = MACHINE.lanes(4)
    return durations, 2 * threads * times * panels * TILES * rows * nv * lanes * depth
