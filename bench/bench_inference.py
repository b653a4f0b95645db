"""Forward passes without gradients, beside the peers and onnxruntime."""

import pytest

from bench import entry, measure
from bench.shapes import SHAPES
from bench.work import Work

LIBRARIES = ("minirnn", "torch", "jax", "onnxruntime", "numpy")
WORKS = [Work(cell, s) for s in SHAPES if s.inference for cell in s.cells]


@pytest.mark.parametrize("work, library", measure.entries("inference", WORKS, LIBRARIES))
@pytest.mark.benchmark(timer=entry.clock)
def test_inference(benchmark, work, library):
    measure.report(benchmark, "inference", work, library, LIBRARIES)
