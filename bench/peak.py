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

    rate: flop/s of its best round; step: one call, of ``flops`` operations, for taking turns.
    """

    def __init__(self, dtype: str, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self.rates = {chains: self._rate(dtype, chains) for chains in CHAINS}
        self.chains = max(CHAINS, key=lambda n: self.rates[n])
        self.rate = self.rates[self.chains]
        count = int(DURATION * self.rate / threads / flops(dtype, self.chains, 1))
        self.flops = threads * flops(dtype, self.chains, count)
        self.step: Callable[[], None] = lambda: self._run(_kernel(dtype, self.chains), count)

    def _run(self, kernel: Any, count: int) -> None:
        others = [self._pool.submit(kernel, count) for _ in range(self.threads - 1)]
        kernel(count)
        for other in others:
            other.result()

    def _rate(self, dtype: str, chains: int) -> float:
        kernel = _kernel(dtype, chains)
        count, took = 1000, 0.0
        while took < DURATION:
            count *= 2
            begun = time.perf_counter()
            self._run(kernel, count)
            took = time.perf_counter() - begun
        durations = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            self._run(kernel, count)
            durations.append(time.perf_counter() - begun)
        return self.threads * flops(dtype, chains, count) / min(durations)


@cache
def peak(dtype: str, threads: int) -> Peak:
    """Return the peak of this machine, measured once per process."""
    return Peak(dtype, threads)
