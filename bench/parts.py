"""Where the time of our own training step goes: each part of its two passes, timed by itself.

This reaches into `minirnn.kernels`: while a step runs, every pass is run again with only one of its
parts switched on in the block of integers that describes it.
"""

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from bench.peers import ours
from bench.work import Work
from minirnn.kernels import celltype, product, sequence
from minirnn.kernels.descriptor import Descriptor

ROUNDS, ENOUGH = 5, 0.1  # at most so many rounds, at most about so many seconds of them
WX, FORWARD, BACKWARD, DX, WEIGHTS, BIAS = "W x", "forward", "backward", "dx", "dW dU", "db"
OUTSIDE, WHOLE = "outside kernels", "whole"
# kind of a job after the backward steps -> the part that it belongs to
_CLOSING = {product.ROWS: DX, product.TRANSPOSED: WEIGHTS, product.SUMS: BIAS}


def flops(work: Work) -> dict[str, int]:
    """Floating-point operations of each part; 0 where a part is no product."""
    s, made = work.shape, work.made
    row = 2 * s.T * s.B * s.H
    given, recurrent = row * len(made.gates) * s.I, row * len(made.products) * s.H
    return {
        WX: given, FORWARD: recurrent, BACKWARD: recurrent, DX: given, WEIGHTS: given + recurrent
    }  # fmt: skip


def measure(work: Work) -> dict[str, float]:
    """Return the seconds of each part, of the whole step, and of what is left outside kernels."""
    step = ours.training(work).step
    step()
    step()
    whole = _fastest(step)
    found: dict[str, float] = {}
    with _watched(found):
        step()
    return {**found, OUTSIDE: whole - sum(found.values()), WHOLE: whole}


def _fastest(run: Callable[[], None]) -> float:
    durations: list[float] = []
    while len(durations) < 2 or (len(durations) < ROUNDS and sum(durations) < ENOUGH):
        begun = time.perf_counter()
        run()
        durations.append(time.perf_counter() - begun)
    return min(durations)


@contextmanager
def _watched(found: dict[str, float]) -> Iterator[None]:
    """Time the parts of every pass that runs meanwhile; each pass still gives its results."""
    plain = Descriptor.run

    def run(self: Descriptor, which: int, flop: float) -> None:
        saved = self.words.copy()

        def alone(**words: int) -> float:
            """Time the pass with some words of its description changed."""

            def once() -> None:
                self.words[:] = saved
                self.set(**words)
                plain(self, which, flop)

            return _fastest(once)

        for part, words in _parts(saved, which):
            found[part] = found.get(part, 0.0) + alone(**words)
        self.words[:] = saved
        plain(self, which, flop)

    with mock.patch.object(Descriptor, "run", run):
        yield


def _parts(words: Any, which: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield each part of a pass, and the words that switch all others off."""

    def word(name: str) -> int:
        return int(words[getattr(sequence, name) // 8])

    if which == celltype.FORWARD:
        yield WX, {"FIRST": 0, "LAST": 0}
        yield FORWARD, {"BEFORE_COUNT": 0}
    elif which == celltype.BACKWARD:
        yield BACKWARD, {"AFTER_COUNT": 0}
        for number in range(word("AFTER_COUNT")):
            job = word("AFTER") + number * product.WORDS * 8
            only = {"AFTER": job, "AFTER_COUNT": 1, "FIRST": 0, "LAST": 0, "DRAIN": 0}
            yield _CLOSING[_word_at(job)], only


def _word_at(address: int) -> int:
    return ctypes.c_int64.from_address(address).value
