"""Training steps, forward and all gradients, of every cell at every shape, beside the peers."""

import pytest

from bench import entry, measure
from bench.shapes import SHAPES
from bench.work import Work

LIBRARIES = ("minirnn", "torch", "jax", "numpy")
WORKS = [Work(cell, s, dtype) for s in SHAPES for cell in s.cells for dtype in s.dtypes]


@pytest.mark.parametrize("work, library", measure.entries("training", WORKS, LIBRARIES))
@pytest.mark.benchmark(timer=entry.clock)
def test_training_step(benchmark, work, library):
    measure.report(benchmark, "training", work, library, LIBRARIES)
