"""How many threads a pass uses, and the region in which they run it together."""

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from minirnn.kernels import team
from minirnn.kernels._jit import JIT_DISABLED

_region = threading.Lock()  # one parallel region at a time: waiting threads need a core each
_team: team.Team | None = None
_threads: int | None = None
_WORTH_FLOPS = 2.5e6


@lru_cache(maxsize=1)
def _quota() -> int | None:
    """Return the processors that the control group's quota amounts to, rounded up."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None


def available() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _quota()
    return count if quota is None else min(count, quota)


def get_num_threads() -> int:
    """Return the number of threads that kernels use; by default all that the process may use."""
    return available() if _threads is None else _threads


def worth(flops: float) -> int:
    """Return the threads that so much work is worth: below some work one thread wins."""
    return get_num_threads() if flops > _WORTH_FLOPS else 1


def set_num_threads(n: int) -> None:
    """Set the number of threads for kernels; results do not depend on it, bit for bit.

    Never are more used than the process has processors.

    Raises
    ------
    ValueError
        n is not a whole number of at least 1.
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"set_num_threads: n must be a whole number of at least 1, got {n!r}")
    global _threads
    _threads = n


def run(call: Callable[[int, int], None], wanted: int) -> None:
    """Run ``call(thread, threads)`` in so many threads at once, the calling one among them.

    Where another region is running the calling thread does all the work by itself: the threads of
    a region wait for each other, so every one of them must have been started.
    """
    wanted = _possible(wanted)
    if wanted > 1 and not JIT_DISABLED and _region.acquire(blocking=False):
        try:
            _the_team(wanted).run_call(call, wanted)
        finally:
            _region.release()
    else:
        call(0, 1)


def launch(function: int, argument: int, wanted: int) -> None:
    """Run the kernel ``f(cell, argument, thread, threads)`` at an address in so many threads."""
    wanted = _possible(wanted) if wanted > 1 else 1
    if wanted > 1 and _region.acquire(blocking=False):
        try:
            _the_team(wanted).run(function, argument, wanted)
        finally:
            _region.release()
    else:
        team.launch(function, argument, 0, 1)


def _possible(wanted: int) -> int:
    return min(wanted, get_num_threads(), available(), team.LARGEST)


def _the_team(size: int) -> team.Team:
    global _team
    if _team is None or _team.size < size:
        _team = team.Team(max(size, os.cpu_count() or 1))
    return _team


def _forget_team() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _team, _region
    _team, _region = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)
