"""Where the time of our own training step goes: each part of its two passes, timed in its place.

This reaches into `minirnn.kernels`: a pass is run as a sequence of passes, each with one of its
parts switched on in the block of integers that describes it. Together they do what the whole did.
"""

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from bench.peers import ours
from bench.work import Work
from minirnn.kernels import celltype, onestep, product, sequence, team
from minirnn.kernels.descriptor import Descriptor

LEAST, ROUNDS, ENOUGH = 3, 8, 0.1  # at most 8 rounds, of at most about 0.1 s in all, but 3
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
    """Return the seconds of each part, of the whole step, and of what is left outside kernels.

    Each is the fastest of some rounds.
    """
    step = ours.training(work).step
    step()
    step()
    whole: list[float] = []
    rounds: list[dict[str, float]] = []
    while len(whole) < LEAST or (len(whole) < ROUNDS and sum(whole) < ENOUGH):
        begun = time.perf_counter()
        step()
        whole.append(time.perf_counter() - begun)
        rounds.append({})
        with _watched(rounds[-1], work.shape.B):
            step()
    found = {part: min(r[part] for r in rounds) for part in rounds[0]}
    return {**found, OUTSIDE: min(whole) - sum(found.values()), WHOLE: min(whole)}


def kernel_of_step(work: Work) -> float | None:
    """Return the seconds of the kernel in one step of inference, None where threads share it."""
    step, seen = ours.single_step(work).step, []
    with mock.patch.object(onestep, "run_step", lambda *given: seen.append(given)):
        step()
    if not seen:
        return None
    onestep.run_step(*seen[0])  # the passes write to these arrays, which `seen` holds
    passes = seen[0][1].tolist()
    durations = []
    for _ in range(200):
        begun = time.perf_counter()
        for _ in range(10):
            for function, argument in passes:
                team.launch(function, argument, 0, 1)
        durations.append((time.perf_counter() - begun) / 10)
    return sorted(durations)[len(durations) // 2]


@contextmanager
def _watched(found: dict[str, float], batch: int) -> Iterator[None]:
    """Time the parts of every pass that runs meanwhile."""
    plain = Descriptor.run

    def run(self: Descriptor, which: int, flop: float) -> None:
        saved = self.words.copy()
        for part, words in _parts(saved, which, batch):
            self.words[:] = saved
            self.set(**words)
            begun = time.perf_counter()
            plain(self, which, flop)
            found[part] = found.get(part, 0.0) + time.perf_counter() - begun
        self.words[:] = saved

    with mock.patch.object(Descriptor, "run", run):
        yield


def _parts(words: Any, which: int, batch: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the parts of a pass in order, and the words that switch all others off."""

    def word(name: str) -> int:
        return int(words[getattr(sequence, name) // 8])

    if which == celltype.FORWARD:
        steps = word("STEPS")
        together = -(-sequence.CHUNK // batch)  # steps whose W x is made at once
        for first in range(0, steps, together):
            some = {"FIRST": first, "LAST": min(first + together, steps)}
            yield WX, some | {"STAGES": 0}
            yield FORWARD, some | {"BEFORE_COUNT": 0}
    else:
        yield BACKWARD, {"AFTER_COUNT": 0}
        for number in range(word("AFTER_COUNT")):
            job = word("AFTER") + number * product.WORDS * 8
            only = {"AFTER": job, "AFTER_COUNT": 1, "FIRST": 0, "LAST": 0, "DRAIN": 0}
            yield _CLOSING[ctypes.c_int64.from_address(job).value], only
