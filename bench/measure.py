"""One measurement: libraries set up, compared, timed in turns; and what is said about each."""

import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from bench import agreement, cells, entry, environment, peers
from bench.peak import peak
from bench.shapes import FLOAT32, QUICK_CELLS
from bench.turns import spread, take_turns, used_by_others
from bench.work import Run, Work

BUDGET, QUICK_BUDGET = 2.0, 0.4  # seconds of one group's rounds
PEAK = "peak"  # the turn of the kernel that does nothing but multiply and add


@dataclass(frozen=True)
class Group:
    """What was measured together: durations of rounds by library, and the machine's limit."""

    durations: Mapping[str, list[float]]
    flops: int
    peak: float
    peak_now: float
    others: float  # processors that other processes kept busy meanwhile: more than 0.1 is a bad run

    def median(self, library: str) -> float:
        """Median duration in seconds."""
        return spread(self.durations[library]).median

    def rival(self) -> float | None:
        """Median of the faster of PyTorch and JAX, None where neither was measured."""
        medians = [self.median(name) for name in peers.RIVALS if name in self.durations]
        return min(medians, default=None)


def budget(seconds: float = BUDGET) -> float:
    """Return the time for the rounds of one group."""
    return min(seconds, QUICK_BUDGET) if environment.quick() else seconds


def runs(kind: str, work: Work, libraries: tuple[str, ...]) -> dict[str, Run]:
    """Set up every installed library, and check that all agree."""
    made = {}
    for name in peers.present(libraries):
        made[name] = getattr(peers.load(name, environment.threads()), kind)(work)
        made[name].step()
    agreement.check({name: run.results() for name, run in made.items()}, work.dtype)
    return made


def in_turns(steps: Mapping[str, Callable[[], object]], flops: int, dtype: str) -> Group:
    """Time steps and the peak kernel in turns."""
    limit = peak(dtype, environment.threads())
    before, begun = used_by_others(), time.perf_counter()
    durations = take_turns({**steps, PEAK: limit.step}, budget())
    others = (used_by_others() - before) / (time.perf_counter() - begun)
    now = limit.flops / spread(durations.pop(PEAK)).median
    return Group(durations, flops, limit.rate, now, max(0.0, others))


@cache
def outcome(make: Callable[..., Any], *args: Any) -> Any:
    """Measure something once for all tests that report on it; a failure is theirs together too."""
    try:
        return make(*args)
    except Exception as error:
        return error


def shared(make: Callable[..., Any], *args: Any) -> Any:
    """Return what was measured by ``make(*args)``, for the first test or for one before."""
    found = outcome(make, *args)
    if isinstance(found, Exception):
        raise found
    return found


def group(kind: str, work: Work, libraries: tuple[str, ...]) -> Group:
    """Measure one group."""
    work = replace(work)  # its arrays go when the measurement ends
    steps = {name: run.step for name, run in runs(kind, work, libraries).items()}
    count = cells.flops(work.made, work.shape, training=kind == "training")
    return in_turns(steps, count, work.dtype)


def libraries_for(kind: str, work: Work, among: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the libraries that have such a thing, installed or not."""
    return tuple(name for name in among if peers.offers(name, kind, work))


def threads_label() -> str:
    """Return "1 thread" or "n threads"."""
    n = environment.threads()
    return f"{n} thread{'s' if n > 1 else ''}"


def entries(kind: str, works: Iterable[Work], among: tuple[str, ...]) -> list[Any]:
    """Return the parameters (work, library) of a module's tests, with readable names."""
    chosen = [w for w in works if not environment.quick() or _in_quick_runs(w)]
    return [
        pytest.param(w, name, id=f"{w.cell} {w.shape.label} {w.dtype} {threads_label()} {name}")
        for w in chosen
        for name in libraries_for(kind, w, among)
    ]


def _in_quick_runs(work: Work) -> bool:
    return work.shape.quick and work.cell in QUICK_CELLS and work.dtype == FLOAT32


def report(benchmark: Any, kind: str, work: Work, library: str, among: tuple[str, ...]) -> None:
    """Measure a group, unless that was done, and make the entry of one of its libraries."""
    if not peers.installed(library):
        pytest.skip(f"{library} is {peers.NOT_INSTALLED}: pip install {library}")
    measured: Group = shared(group, kind, work, libraries_for(kind, work, among))
    label = f"{kind} {work.cell} {work.shape.label} {work.dtype}, {threads_label()}"
    info = about(kind, work, library, measured)
    entry.record(benchmark, label, measured.durations[library], **info)


@cache
def surroundings() -> dict[str, Any]:
    """Describe the process: versions, BLAS and the variables that choose its kernels."""
    return {
        "versions": peers.versions(),
        "blas": _pools(),
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_", "XLA_", "MINIRNN_V"))
        },
        "unset": environment.found(),
    }


def _pools() -> list[str]:
    """Name the BLAS and OpenMP libraries that are loaded, their kernels and threads."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return ["unknown: threadpoolctl is not installed"]
    from threadpoolctl import threadpool_info

    return sorted(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')} "
        f"{pool['num_threads']} threads, {os.path.basename(pool['filepath'])}"
        for pool in threadpool_info()
    )


def about(kind: str, work: Work, library: str, measured: Group) -> dict[str, Any]:
    """Return the ``extra_info`` of one library's entry."""
    s, rate = work.shape, measured.flops / measured.median(library)
    rival = measured.rival()
    info = {
        "kind": kind, "library": library, "cell": work.cell, "dtype": work.dtype,
        "T": s.T, "B": s.B, "I": s.I, "H": s.H, "threads": environment.threads(),
        "GF/s": round(rate / 1e9, 2),
        "peak GF/s": round(measured.peak / 1e9, 1),
        "peak in turn GF/s": round(measured.peak_now / 1e9, 1),
        "share of peak": round(rate / measured.peak, 4),
        "busy with others": round(measured.others, 2),
    }  # fmt: skip
    if rival is not None:
        info["times the faster peer"] = round(rival / measured.median(library), 3)
    return info | surroundings()
