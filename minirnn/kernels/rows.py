"""Which sequences are alive at which step, and where their rows lie.

Sequences are sorted by length, longest first, and every internal buffer holds living rows only:
step t has ``alive[t]`` rows from row ``gate[t]`` on. States have one more group of rows in front,
the initial states. With equal lengths nothing is sorted, copied or skipped.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

# Clocks: which row a buffer is at in step t. Tables have an entry for t = -1 in front, where the
# backward pass ends.
STILL, GATE, PREV, NEXT, GATE_NEXT = range(5)


@dataclass(frozen=True)
class Rows:
    """The rows of a batch.

    steps T (of the longest sequence), batch B, count: rows of all steps together;
    order (R,): sequence of each internal row, without those of length 0;
    lengths (R,): sorted; alive (T + 2,): with entries for t = T (0) and beyond;
    gate (T + 1,), state (T + 2,): first row of each step in gate-like and state-like buffers;
    index (count,): row of the (T*B)-row input for each internal row, or None if they are the same.
    """

    steps: int
    batch: int
    count: int
    order: np.ndarray
    lengths: np.ndarray
    alive: np.ndarray
    gate: np.ndarray
    state: np.ndarray
    index: np.ndarray | None
    equal: bool

    @cached_property
    def final(self) -> np.ndarray:
        """Return the row of the state after the last step of each internal row, (R,)."""
        return self.state[self.lengths] + np.arange(len(self.lengths))

    @cached_property
    def clocks(self) -> np.ndarray:
        """Return the table of clocks, (5, T + 1): entry t + 1 is for step t."""
        table = np.zeros((5, self.steps + 1), np.int64)
        table[GATE, 1:] = self.gate[:-1]
        table[PREV, 1:] = self.state[:-2]
        table[NEXT] = self.state[: self.steps + 1]
        table[GATE_NEXT] = self.gate
        return table


def arrange(steps: int, batch: int, lengths: np.ndarray | None, reverse: bool) -> Rows:
    """Lay out the rows of a batch; ``reverse`` runs every sequence from its own end."""
    if lengths is None:
        return _arrange_equal(steps, batch, reverse)
    return _arrange(steps, batch, lengths, reverse)


@lru_cache(maxsize=32)
def _arrange_equal(steps: int, batch: int, reverse: bool) -> Rows:
    return _arrange(steps, batch, np.full(batch, steps, np.int64), reverse)


def _arrange(steps: int, batch: int, lengths: np.ndarray, reverse: bool) -> Rows:
    equal = steps > 0 and bool((lengths == steps).all())
    order = np.arange(batch) if equal else np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    sorted_lengths = lengths[order]
    longest = int(sorted_lengths[0]) if len(order) else 0
    # How many are longer than t, for t = 0 ... longest + 1.
    alive = np.searchsorted(-sorted_lengths, -np.arange(longest + 2), side="left").astype(np.int64)
    gate = np.concatenate([[0], np.cumsum(alive[:longest])]).astype(np.int64)
    state = np.concatenate([[0], len(order) + gate]).astype(np.int64)
    index = None
    if reverse or not equal:
        t = np.repeat(np.arange(longest), alive[:longest])
        r = np.arange(gate[-1]) - gate[t] if longest else np.zeros(0, np.int64)
        source = sorted_lengths[r] - 1 - t if reverse else t
        index = source * batch + order[r]
    return Rows(
        longest, batch, int(gate[-1]), order, sorted_lengths, alive, gate, state, index, equal
    )
