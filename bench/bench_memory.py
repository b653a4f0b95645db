"""Growth of memory over a warmed process by one training step of an LSTM, in fresh processes."""

import platform

import pytest

from bench import entry, environment, measure, surroundings
from bench.processes import ask
from bench.shapes import Shape
from bench.work import Work

# Not JAX: it compiles anew for every number of steps, and that memory would count as the step's.
LIBRARIES = ("minirnn", "torch")
LARGE = "T*B*H >= 1e6"
CASES = [
    *((LARGE, Shape(t, b, i, h, ""))
      for t, b, i, h in ((1000, 8, 64, 128), (200, 64, 128, 128), (50, 64, 512, 512),
                         (400, 32, 64, 256))),
    *(("T", Shape(t, 16, 128, 128, "")) for t in (250, 500, 1000, 2000)),
]  # fmt: skip


@pytest.mark.skipif(environment.threads() > 1, reason="measured with 1 thread")
@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc, which only Linux has")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "series, shape", measure.chosen(CASES), ids=lambda v: v.label if isinstance(v, Shape) else v[:1]
)
@pytest.mark.benchmark(timer=entry.clock)
def test_growth_of_memory(benchmark, series, shape, library):
    measure.need(library)
    found = ask("memory", library, shape.T, shape.B, shape.I, shape.H)
    entry.record(
        benchmark, f"memory {shape.label}", [found["seconds"]], kind="memory", library=library,
        series=series, MB=round(found["bytes"] / 1e6, 1), threads=environment.threads(),
        **measure.sizes(Work("lstm", shape)), **surroundings.describe(),
    )  # fmt: skip
