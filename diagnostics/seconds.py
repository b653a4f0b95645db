"""Seconds for `--timings`: the only numbers of a report that are not the same every time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note under a name how long the block took."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
