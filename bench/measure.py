"""One measurement: libraries set up, compared, timed in turns; and what is said about each."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from bench import agreement, cells, entry, environment, peers, surroundings
from bench.peak import peak
from bench.shapes import ACCEPTANCE, FLOAT32, QUICK_CELLS
from bench.turns import spread, take_turns, used_by_others
from bench.work import Run, Work

BUDGET, QUICK_BUDGET = 1.5, 0.4  # seconds of one group's rounds
PEAK = "peak"  # the turn of the kernel that does nothing but multiply and add


@dataclass(frozen=True)
class Group:
    """What was measured together: durations of rounds by name, and the machine's limit.

    flops: floating-point operations of a step, 0 where they are not what is measured. peak: the
    best of the process, peak_now: the median of its turns in this group, both in flop/s. others:
    processors that other processes kept busy meanwhile; more than 0.1 makes a bad measurement.
    """

    durations: Mapping[str, list[float]]
    flops: int
    peak: float
    peak_now: float
    others: float

    def median(self, name: str) -> float:
        """Median duration in seconds."""
        return spread(self.durations[name]).median

    def rate(self, name: str) -> float:
        """Operations per second."""
        return self.flops / self.median(name)

    def rival(self) -> float | None:
        """Median of the faster of PyTorch and JAX, None where neither was measured."""
        medians = [self.median(name) for name in peers.RIVALS if name in self.durations]
        return min(medians, default=None)


def budget(seconds: float) -> float:
    """Return the time for the rounds of one group."""
    return min(seconds, QUICK_BUDGET) if environment.quick() else seconds


def runs(kind: str, work: Any, libraries: tuple[str, ...], steps: int = 1) -> dict[str, Run]:
    """Set up every installed library, and check after so many steps that all agree."""
    made = {}
    for name in peers.present(libraries):
        made[name] = getattr(peers.load(name, environment.threads()), kind)(work)
        for _ in range(steps):
            made[name].step()
    agreement.check({name: run.results() for name, run in made.items()}, work.dtype)
    return made


def in_turns(
    steps: Mapping[str, Callable[[], object]], flops: int, dtype: str, seconds: float = BUDGET
) -> Group:
    """Time steps and the peak kernel in turns."""
    limit = peak(dtype, environment.threads())
    before, begun = used_by_others(), time.perf_counter()
    durations = take_turns({**steps, PEAK: limit.step}, budget(seconds))
    others = (used_by_others() - before) / (time.perf_counter() - begun)
    now = limit.flops / spread(durations.pop(PEAK)).median
    return Group(durations, flops, limit.rate, now, max(0.0, others))


@cache
def _outcome(make: Callable[..., Any], *args: Any) -> Any:
    try:
        return make(*args)
    except Exception as error:
        return error


def shared(make: Callable[..., Any], *args: Any) -> Any:
    """Return ``make(*args)``, measured once for all tests that report on it; so is a failure."""
    found = _outcome(make, *args)
    if isinstance(found, Exception):
        raise found
    return found


def group(kind: str, work: Work, libraries: tuple[str, ...]) -> Group:
    """Measure libraries at one thing."""
    work = replace(work)  # its arrays go when the measurement ends
    steps = {name: run.step for name, run in runs(kind, work, libraries).items()}
    count = cells.flops(work.made, work.shape, training=kind == "training")
    return in_turns(steps, count, work.dtype)


def chosen(everything: Iterable[Any], quick: Iterable[Any] = ()) -> list[Any]:
    """Return what is measured: everything, or what belongs to a quick run."""
    return list(quick if environment.quick() else everything)


def threads_label() -> str:
    """Return "1 thread" or "n threads"."""
    n = environment.threads()
    return f"{n} thread{'s' if n > 1 else ''}"


def libraries_for(kind: str, work: Work, among: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the libraries that have such a thing, installed or not."""
    return tuple(name for name in among if peers.offers(name, kind, work))


def entries(kind: str, works: Iterable[Work], among: tuple[str, ...]) -> list[Any]:
    """Return the parameters (work, library) of a module's tests, with readable names."""
    works = list(works)
    quick = [w for w in works if _in_quick_runs(kind, w)]
    return [
        pytest.param(w, name, id=f"{w.cell} {w.shape.label} {w.dtype} {threads_label()} {name}")
        for w in chosen(works, quick)
        for name in libraries_for(kind, w, among)
    ]


def _in_quick_runs(kind: str, work: Work) -> bool:
    named = QUICK_CELLS if kind == "training" else QUICK_CELLS[-1:]
    if work.shape == ACCEPTANCE and (kind, work.cell) != ("training", QUICK_CELLS[-1]):
        return False  # a quarter of a minute for one group
    return work.shape.quick and work.cell in named and work.dtype == FLOAT32


def report(
    benchmark: Any, kind: str, work: Work, library: str, among: tuple[str, ...], **info: Any
) -> None:
    """Measure a group, unless that was done, and make the entry of one of its libraries."""
    need(library)
    measured: Group = shared(group, kind, work, libraries_for(kind, work, among))
    rival = measured.rival()
    more = {} if rival is None else {"times the faster peer": ratio(rival, measured, library)}
    name = f"{kind} {work.cell} {work.shape.label} {work.dtype}, {threads_label()}"
    report_step(benchmark, kind, name, measured, library, **sizes(work), **more, **info)


def need(library: str) -> None:
    """Skip where a library is not installed, and say how to get it."""
    if not peers.installed(library):
        pytest.skip(f"{library} is {peers.NOT_INSTALLED}: pip install {library}")


def sizes(work: Work) -> dict[str, Any]:
    """Return the part of ``extra_info`` that says what was computed."""
    s = work.shape
    return {"cell": work.cell, "dtype": work.dtype, "T": s.T, "B": s.B, "I": s.I, "H": s.H}


def ratio(seconds: float, measured: Group, name: str) -> float:
    """How many times as fast as something that takes so many seconds a step was."""
    return round(seconds / measured.median(name), 3)


def report_step(
    benchmark: Any, kind: str, name: str, measured: Group, step: str, **info: Any
) -> None:
    """Make the entry of one step of a group that has been measured."""
    known = {
        "kind": kind, "library": step, "threads": environment.threads(),
        "peak GF/s": round(measured.peak / 1e9, 1),
        "peak in turn GF/s": round(measured.peak_now / 1e9, 1),
        "busy with others": round(measured.others, 2),
    }  # fmt: skip
    if measured.flops:
        known["GF/s"] = round(measured.rate(step) / 1e9, 2)
        known["share of peak"] = round(measured.rate(step) / measured.peak, 4)
    entry.record(
        benchmark, name, measured.durations[step], **known, **info, **surroundings.describe()
    )
