"""How a training step of an LSTM grows with T, B and H; plotted by bench/plots.py."""

from dataclasses import replace

import pytest

from bench import entry, measure
from bench.shapes import Shape
from bench.work import Work

LIBRARIES = ("minirnn", "torch", "jax")
BASE = Shape(50, 16, 128, 128, "growth")
SERIES = {
    "T": [replace(BASE, T=n) for n in (10, 30, 100, 300, 1000, 3000)],
    "B": [replace(BASE, B=n) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
    "H": [replace(BASE, I=n, H=n) for n in (16, 32, 64, 128, 256, 512, 1024)],
}
CASES = [
    pytest.param(letter, shape, id=f"{letter}{getattr(shape, letter)} {measure.threads_label()}")
    for letter, shapes in SERIES.items()
    for shape in shapes
]
SECONDS = 0.8


def group(work):
    """Measure one point; it may stand in two series."""
    made = measure.runs("training", work, LIBRARIES)
    steps = {name: run.step for name, run in made.items()}
    flops = measure.cells.flops(work.made, work.shape)
    return measure.in_turns(steps, flops, work.dtype, SECONDS)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("letter, shape", measure.chosen(CASES))
@pytest.mark.benchmark(timer=entry.clock)
def test_growth(benchmark, letter, shape, library):
    measure.need(library)
    work = Work("lstm", shape)
    measured = measure.shared(group, work)
    name = f"growth with {letter}: lstm {shape.label}, {measure.threads_label()}"
    measure.report_step(
        benchmark, "growth", name, measured, library, series=letter, **measure.sizes(work)
    )
