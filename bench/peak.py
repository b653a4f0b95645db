"""The limit: independent chains of fused multiply-adds and nothing else, on every thread."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from minirnn.kernels.machine import MACHINE
from minirnn.kernels.vector import I64, Vector

CHAINS = (8, 12, 16, 24)
ROUNDS, DURATION = 7, 0.003  # seconds of one round


@cache
def _kernel(dtype: str, chains: int) -> Any:
    """Compile ``count`` rounds of so many independent accumulators ``a = a/2 + 1/2``."""

    @intrinsic
    def loop(typingctx: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _emit(Vector(builder, dtype), chains, args[0])

        kind = types.float32 if dtype == "float32" else types.float64
        return kind(types.int64), codegen

    # nogil: the threads run at once. bench/ keeps no cache: the kernel is small.
    return njit("(int64,)", nogil=True)(lambda count: loop(count))


def _emit(v: Vector, chains: int, count: Any) -> Any:
    b = v.b
    head, loop, done = b.block, b.append_basic_block("loop"), b.append_basic_block("done")
    half = v.const(0.5)
    b.branch(loop)
    b.position_at_end(loop)
    k = b.phi(I64)
    before = [b.phi(v.type) for _ in range(chains)]
    after = [v.fma(a, half, half) for a in before]
    following = b.add(k, I64(1))
    k.add_incoming(I64(0), head)
    k.add_incoming(following, loop)
    for i, phi in enumerate(before):
        phi.add_incoming(ir.Constant(v.type, [1.0 + i] * v.lanes), head)
        phi.add_incoming(after[i], loop)
    b.cbranch(b.icmp_signed("<", following, count), loop, done)
    b.position_at_end(done)
    total = after[0]
    for a in after[1:]:
        total = b.fadd(total, a)
    return v.sum_lanes(total)


def flops(dtype: str, chains: int, count: int) -> int:
    """Floating-point operations of one call of the kernel."""
    return 2 * MACHINE.lanes(4 if dtype == "float32" else 8) * chains * count


class Peak:
    """The fastest of the kernels for a dtype, on so many threads.

    rate: flop/s of its best round; rounds: durations and flop of a round for each number of chains;
    step: one call, of ``flops`` operations, for taking turns.
    """

    def __init__(self, dtype: str, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self.rounds = {chains: self._measure(dtype, chains) for chains in CHAINS}
        rates = {chains: flop / min(found) for chains, (found, flop) in self.rounds.items()}
        self.chains = max(rates, key=lambda chains: rates[chains])
        self.rate = rates[self.chains]
        kernel = _kernel(dtype, self.chains)
        self.flops = self.rounds[self.chains][1]
        count = self.flops // threads // flops(dtype, self.chains, 1)
        self.step: Callable[[], None] = lambda: self._run(kernel, count)

    def _run(self, kernel: Any, count: int) -> None:
        others = [self._pool.submit(kernel, count) for _ in range(self.threads - 1)]
        kernel(count)
        for other in others:
            other.result()

    def _measure(self, dtype: str, chains: int) -> tuple[list[float], int]:
        kernel = _kernel(dtype, chains)

        def once(count: int) -> float:
            begun = time.perf_counter()
            self._run(kernel, count)
            return time.perf_counter() - begun

        count = 1000
        while once(count) < DURATION:
            count *= 2
        return [once(count) for _ in range(ROUNDS)], self.threads * flops(dtype, chains, count)


@cache
def peak(dtype: str, threads: int) -> Peak:
    """Return the peak of this machine, measured once per process."""
    return Peak(dtype, threads)
