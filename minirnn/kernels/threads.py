"""How many threads a pass uses, and the region in which they run it together."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

_region = threading.Lock()  # one parallel region at a time: waiting threads need a core each
_pool: ThreadPoolExecutor | None = None
_threads: int | None = None
_WORTH_FLOPS = 4e5


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
    global _threads, _pool
    with _region:
        _threads = n
        if _pool is not None:
            _pool.shutdown(wait=False)
            _pool = None


def run(call: Callable[[int, int], None], wanted: int) -> None:
    """Run ``call(thread, threads)`` in so many threads at once, the calling one among them.

    Where another region is running the calling thread does all the work by itself: the threads of
    a region wait for each other, so every one of them must have been started.
    """
    wanted = min(wanted, get_num_threads(), available())
    if wanted > 1 and _region.acquire(blocking=False):
        try:
            pool = _workers(wanted - 1)
            others = [pool.submit(call, i, wanted) for i in range(1, wanted)]
            call(0, wanted)
            for other in others:
                other.result()
        finally:
            _region.release()
    else:
        call(0, 1)


def _workers(count: int) -> ThreadPoolExecutor:
    global _pool
    if _pool is None or _pool._max_workers < count:
        _pool = ThreadPoolExecutor(count, thread_name_prefix="minirnn")
    return _pool


def _forget_pool() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _pool, _region
    _pool, _region = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
