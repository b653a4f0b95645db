"""The first training step of a fresh process, imports included, in fresh processes.

"cached": the kernels are in the disk cache. "new cell": those of other cells are. "cold": nothing.
"""

import shutil

import pytest

from bench import entry, environment, measure, surroundings
from bench.processes import ask
from bench.shapes import USERS

ROUNDS = 3
CASES = [
    ("minirnn", "cached"), ("minirnn", "new cell"), ("minirnn", "cold"), ("torch", ""), ("jax", ""),
]  # fmt: skip


def first_steps(library, case, folder):
    """Start one process after the other; return the seconds until each one's first step is done."""
    if library != "minirnn":
        return [ask("start", library, "lstm")["seconds"] for _ in range(ROUNDS)]
    filled = folder / "filled"
    filled.mkdir()
    if case != "cold":
        ask("start", library, "lstm", MINIRNN_CACHE_DIR=str(filled))
    found = []
    for number in range(ROUNDS):
        cache = shutil.copytree(filled, folder / str(number))
        cell = USERS if case == "new cell" else "lstm"
        found.append(ask("start", library, cell, MINIRNN_CACHE_DIR=str(cache))["seconds"])
    return found


@pytest.mark.skipif(environment.threads() > 1, reason="measured with 1 thread")
@pytest.mark.parametrize("library, case", measure.chosen(CASES), ids=lambda v: v.replace(" ", "-"))
@pytest.mark.benchmark(timer=entry.clock)
def test_first_training_step(benchmark, library, case, tmp_path):
    measure.need(library)
    durations = first_steps(library, case, tmp_path)
    entry.record(
        benchmark, "first training step of a process", durations, kind="start", library=library,
        case=case, threads=environment.threads(), **surroundings.describe(),
    )  # fmt: skip
