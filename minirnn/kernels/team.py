"""Threads that wait for work inside a kernel.

To hand work to a Python thread costs some ten microseconds: it has to wake up and to take the
interpreter's lock. A worker of a team waits in `serve` instead, without the lock, and looks at one
block of integers that says what to do. If nothing comes for about a millisecond it goes to sleep.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minirnn.kernels._jit import kernel
from minirnn.kernels.memory import (
    arrive,
    load,
    look,
    pause,
    publish,
    store,
    wait_for,
    yield_core,
)
from minirnn.kernels.vector import I32, I64
from minirnn.kernels.workspace import address

LARGEST = 63  # threads of a team: sleeping workers are told as bits of an integer
# The block, by bytes; what is written by different threads is on different cache lines. The number
# of a task holds its threads in the lowest bits: a worker that is not needed reads nothing else,
# since nobody waits for it before the next task is written.
_NUMBER, _FUNCTION, _ARGUMENT, _DONE, _STATE, _STATE_BYTES = 0, 8, 16, 128, 256, 128
_AWAKE, _ASLEEP = 0, 1  # the first word of a worker's state; the second: the last number it saw
_IDLE, _EAGER = 20_000, 2_000  # rounds of waiting before a worker sleeps, before it yields
_SLEEP, _CALL = 0, 1  # what `serve` returns for


@intrinsic
def _call(typingctx, function, argument, thread, threads):  # type: ignore[no-untyped-def]
    """Call a kernel ``f(cell, argument, thread, threads)`` by its address.

    Numba passes a result and an error by pointers in front; the cell is a type and has no value.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(
            I32, [pointer.as_pointer(), pointer.as_pointer(), pointer, I64, I64, I64]
        )
        result, error = (cgutils.alloca_once(builder, pointer) for _ in range(2))
        cell = ir.Constant(pointer, None)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [result, error, cell, *args[1:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@kernel
def launch(function, argument, thread, threads):  # type: ignore[no-untyped-def]
    """Call a kernel by its address. Called with numbers only, it costs little to call."""
    _call(function, argument, thread, threads)


@kernel
def _serve(block, index):  # type: ignore[no-untyped-def]
    """Do what the block says, again and again, until there is nothing to do or Python is needed."""
    state = block + _STATE + index * _STATE_BYTES
    publish(state, _AWAKE)
    seen = load(state + 8)
    waited = 0
    while True:
        number = look(block + _NUMBER)
        if number != seen:
            seen = number
            store(state + 8, seen)
            waited = 0
            threads = number & LARGEST
            if index < threads:
                function = load(block + _FUNCTION)
                if function == 0:
                    return _CALL
                launch(function, load(block + _ARGUMENT), index, threads)
                arrive(block + _DONE)
        else:
            waited += 1
            if waited > _IDLE:
                publish(state, _ASLEEP)
                if look(block + _NUMBER) == seen:  # whoever publishes a number later sees the state
                    return _SLEEP
                publish(state, _AWAKE)
                waited = 0
            elif waited > _EAGER:
                yield_core()
            pause()


@kernel
def _begin(block, function, argument, threads):  # type: ignore[no-untyped-def]
    """Say what to do; returns the sleeping workers that it needs, as bits."""
    store(block + _FUNCTION, function)
    store(block + _ARGUMENT, argument)
    store(block + _DONE, 0)
    publish(block + _NUMBER, (load(block + _NUMBER) | LARGEST) + 1 + threads)
    asleep = 0
    for i in range(1, threads):
        if look(block + _STATE + i * _STATE_BYTES) == _ASLEEP:
            asleep |= 1 << i
    return asleep


@kernel
def _end(block, threads):  # type: ignore[no-untyped-def]
    """Wait until all workers are done."""
    wait_for(block + _DONE, threads - 1)


@kernel
def _done(block):  # type: ignore[no-untyped-def]
    arrive(block + _DONE)


class Team:
    """A main thread and its workers, at most ``size`` in all; one task at a time."""

    def __init__(self, size: int) -> None:
        self.size = min(size, LARGEST)
        self._words = np.zeros((_STATE + self.size * _STATE_BYTES) // 8 + 16, np.int64)
        self._block = address(self._words) + (-address(self._words)) % 128
        self._workers: list[_Worker] = []
        self.call: Callable[[int, int], None] | None = None
        self.threads = 1

    def run(self, function: int, argument: int, threads: int) -> None:
        """Run the kernel at an address in so many threads, the calling one among them."""
        self._start(function, argument, threads)
        launch(function, argument, 0, threads)
        _end(self._block, threads)

    def run_call(self, call: Callable[[int, int], None], threads: int) -> None:
        """Run ``call(thread, threads)`` in so many threads, the calling one among them."""
        self.call, self.threads = call, threads
        self._start(0, 0, threads)
        try:
            call(0, threads)
        finally:
            _end(self._block, threads)
            self.call = None
        for worker in self._workers:
            error, worker.error = worker.error, None
            if error is not None:
                raise error

    def _start(self, function: int, argument: int, threads: int) -> None:
        while len(self._workers) < threads - 1:
            self._workers.append(_Worker(self, len(self._workers) + 1, self._block))
        asleep = _begin(self._block, function, argument, threads)
        if asleep:
            for worker in self._workers:
                if asleep >> worker.index & 1:
                    worker.wake.set()


class _Worker(threading.Thread):
    """One thread of a team besides the main one."""

    def __init__(self, team: Team, index: int, block: int) -> None:
        super().__init__(name=f"minirnn-{index}", daemon=True)
        self.team, self.index, self._block = team, index, block
        self.wake = threading.Event()
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Work until the process ends."""
        while True:
            if _serve(self._block, self.index) == _SLEEP:
                self.wake.wait()
                self.wake.clear()
                continue
            call, threads = self.team.call, self.team.threads
            try:
                assert call is not None
                call(self.index, threads)
            except BaseException as error:
                self.error = error
            finally:
                _done(self._block)
