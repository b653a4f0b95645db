"""Work over entries that do not depend on each other, cut among threads."""

from collections.abc import Callable
from typing import Any

from minirnn.kernels import threads

REGION = 3e5  # nanoseconds of work below which handing a share of it over costs more than it saves
CUT = 64  # threads meet between blocks of so many entries, so that none writes to another's lines


def spread(
    call: Callable[..., None], arguments: tuple[Any, ...], entries: int, cost: float,
    cut: int = CUT,
) -> None:  # fmt: skip
    """Run ``call(*arguments, first, last)`` on parts of so many entries, in as many threads as pay.

    cost: nanoseconds that an entry takes; cut: parts begin at multiples of it.
    """
    count = threads.get_num_threads()
    if count == 1 or cost * entries < REGION:
        if entries:
            call(*arguments, 0, entries)
        return

    def one(thread: int, count: int) -> None:
        blocks = -(-entries // cut)
        first, last = (min(blocks * t // count * cut, entries) for t in (thread, thread + 1))
        if first < last:
            call(*arguments, first, last)

    threads.run(one, count)
