"""Libraries take turns within one measurement, so that drift of the machine hits all alike."""

import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Steps = Mapping[str, Callable[[], object]]
LEAST_TURN = 0.004  # seconds: short steps are repeated within a turn, and their mean is the sample
LEAST_ROUNDS, MOST_ROUNDS = 5, 25
FEW_ROUNDS, PATIENCE = 3, 4  # beyond so many times the budget, so many rounds are enough
SETTLED, LONGER = 0.1, 2  # quartiles further apart, by the median: so many times the budget


TASKS = Path("/proc/self/task")  # only Linux tells what the threads of a process do


def running() -> int:
    """Count the other threads of this process that run or want to."""
    own, count = str(threading.get_native_id()), 0
    for task in TASKS.glob("[0-9]*"):
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # ended meanwhile
            continue
        count += state == "R" and task.name != own
    return count


def quiet(longest: float = 0.5) -> None:
    """Wait until the other threads of this process have gone to sleep.

    Workers of OpenMP, OpenBLAS and minirnn spin for a while after their work (libgomp 3 ms, NumPy's
    OpenBLAS 100 ms and more), so as to be at hand for the next; on a machine with as many threads
    as processors they take the next library's core.
    """
    if not TASKS.exists():
        time.sleep(0.1)
    end = time.perf_counter() + longest
    while running() and time.perf_counter() < end:
        time.sleep(0.0005)


def used_by_others() -> float:
    """Return the seconds of processor time that anything but this process has used so far.

    0 where the system does not say (only Linux does, and counts what a hypervisor took, too).
    """
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    idle, waiting = 3, 4  # of: user nice system idle iowait irq softirq steal
    busy = sum(int(n) for i, n in enumerate(words[1:9]) if i not in (idle, waiting))
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


def timed(step: Callable[[], object], repeats: int) -> float:
    """Return the mean duration of a step in seconds, after one call that is not timed."""
    step()
    begun = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - begun) / repeats


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of durations in seconds."""

    median: float
    low: float
    high: float


def spread(durations: list[float]) -> Spread:
    """Return median and quartiles."""
    if len(durations) == 1:
        return Spread(durations[0], durations[0], durations[0])
    low, median, high = statistics.quantiles(durations, n=4, method="inclusive")
    return Spread(median, low, high)


def take_turns(
    steps: Steps, budget: float, least: int = LEAST_ROUNDS, most: int = MOST_ROUNDS
) -> dict[str, list[float]]:
    """Time each step once per round; return the durations of its rounds in seconds.

    In a round every step gets a turn: a wait until the process is quiet, an untimed call, which
    fills caches and wakes the library's workers, then as many timed calls as last `LEAST_TURN`.
    Whoever begins a round ends the next, so that nobody always follows the same neighbour. At least
    ``least`` rounds are run, further ones until ``budget`` seconds have passed, twice as many where
    something disturbs the machine; steps so slow that this takes several times the budget get
    three rounds.
    """
    repeats = {name: _repeats(step) for name, step in steps.items()}
    durations: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # what is there already, two libraries' worth of objects, need not be walked again
    gc.disable()  # no collection in the midst of somebody's turn
    try:
        begun = time.perf_counter()
        for number in range(most):
            passed = time.perf_counter() - begun
            if number >= FEW_ROUNDS and passed >= budget * stretch(durations, number, least):
                break
            for name in order:
                quiet()
                durations[name].append(timed(steps[name], repeats[name]))
            order.reverse()
            gc.collect()
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
    return durations


def stretch(durations: Mapping[str, list[float]], number: int, least: int) -> int:
    """Return how many times the budget the rounds may last, after so many of them."""
    if number < least:
        return PATIENCE
    spreads = map(spread, durations.values())
    return 1 if all(s.high - s.low <= SETTLED * s.median for s in spreads) else LONGER


def _repeats(step: Callable[[], object]) -> int:
    """Return how many calls last a turn; the first call may compile or fill a cache."""
    begun = time.perf_counter()
    step()
    if time.perf_counter() - begun > LEAST_TURN:
        begun = time.perf_counter()
        step()
    if time.perf_counter() - begun > LEAST_TURN:
        return 1
    return max(1, min(1000, round(LEAST_TURN / timed(step, 3))))
