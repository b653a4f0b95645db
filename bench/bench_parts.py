"""The parts of minirnn's own training steps: what bounds a row that misses its target."""

from dataclasses import replace

import pytest

from bench import entry, environment, measure, parts, peers, surroundings
from bench.shapes import SHAPES, TORCH_CELLS
from bench.work import Work

WORKS = [Work(cell, shape) for shape in SHAPES for cell in TORCH_CELLS]


def table(found, flops):
    """Return milliseconds and GF/s of each part; 0 GF/s for what is no product."""
    return {
        name: (round(seconds * 1e3, 4), round(flops.get(name, 0) / seconds / 1e9, 1))
        for name, seconds in found.items()
        if seconds > 0
    }


@pytest.mark.parametrize(
    "work",
    measure.chosen(WORKS),
    ids=lambda w: f"{w.cell} {w.shape.label} {measure.threads_label()}",
)
@pytest.mark.benchmark(timer=entry.clock)
def test_parts_of_a_training_step(benchmark, work):
    peers.load("minirnn", environment.threads())
    work = replace(work)
    found = parts.measure(work)
    whole = found.pop(parts.WHOLE)
    entry.record(
        benchmark, f"parts, {measure.threads_label()}", [whole], kind="parts", library="minirnn",
        parts=table(found, parts.flops(work)), threads=environment.threads(),
        **measure.sizes(work), **surroundings.describe(),
    )  # fmt: skip
