"""One step of inference of an LSTM with one sequence, beside PyTorch's ``LSTMCell``."""

import pytest

from bench import entry, measure, parts
from bench.shapes import Shape
from bench.work import Work

LIBRARIES = ("minirnn", "torch")
WORKS = [
    Work("lstm", Shape(1, 1, size, size, "one step of one sequence", quick=size == 128))
    for size in (128, 256)
]


@pytest.mark.parametrize("work, library", measure.entries("single_step", WORKS, LIBRARIES))
@pytest.mark.benchmark(timer=entry.clock)
def test_single_step(benchmark, work, library):
    info = {}
    if library == "minirnn" and (kernel := parts.kernel_of_step(work)) is not None:
        info["kernel us"] = round(kernel * 1e6, 2)
    measure.report(benchmark, "single_step", work, library, LIBRARIES, **info)
