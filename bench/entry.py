"""From measured rounds to an entry of pytest-benchmark.

A group's libraries are measured together, in turns; afterwards each library's test hands its rounds
to pytest-benchmark. The plugin has a supported way to say how time passes, the ``timer`` of its
marker: the clock here advances by a recorded duration whenever `_Replay.round` is called, so that
``benchmark.pedantic`` keeps exactly the rounds that were measured. Saving, comparing and grouping
then work as they do for everybody.
"""

from collections.abc import Sequence
from typing import Any


class _Clock:
    """A clock that stands still until a recorded round is replayed."""

    __name__ = "recorded_rounds"  # what the saved file says about the timer

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


clock = _Clock()


class _Replay:
    def __init__(self, durations: Sequence[float]) -> None:
        self._left = list(reversed(durations))

    def begin(self) -> None:
        clock.now = 0.0  # a difference from 0 keeps every bit

    def round(self) -> None:
        clock.now += self._left.pop()


def record(benchmark: Any, group: str, durations: Sequence[float], **info: Any) -> None:
    """Make one entry of measured rounds in seconds, with what is to be known about it."""
    benchmark.group = group
    benchmark.extra_info.update(info)
    replay = _Replay(durations)
    benchmark.pedantic(replay.round, setup=replay.begin, rounds=len(durations))
