"""A training step of an LSTM that records the gradient of every state, beside the plain one.

PyTorch's only way is a loop over ``LSTMCell`` with ``retain_grad``.
"""

from dataclasses import replace

import pytest

from bench import cells, entry, measure
from bench.shapes import Shape
from bench.work import Work

SHAPES = (
    Shape(100, 16, 64, 64, "a small layer"),
    Shape(50, 16, 64, 128, "the text model of `make report`", quick=True),
    Shape(100, 32, 128, 256, "a usual batch, a usual layer"),
    Shape(50, 64, 512, 512, "the large layer of the acceptance"),
)
LIBRARIES = ("minirnn", "torch")
WATCHED = "watched"
SECONDS = 4.0  # a ratio of a few percent needs more rounds


def group(work):
    """Measure plain and watched steps of both libraries together."""
    work = replace(work)
    steps = {}
    for kind, suffix in (("training", ""), (WATCHED, f" {WATCHED}")):
        made = measure.runs(kind, work, LIBRARIES)
        steps |= {name + suffix: run.step for name, run in made.items()}
    return measure.in_turns(steps, cells.flops(work.made, work.shape), work.dtype, SECONDS)


@pytest.mark.parametrize("name", [n + w for n in LIBRARIES for w in ("", f" {WATCHED}")])
@pytest.mark.parametrize(
    "shape",
    measure.chosen(SHAPES, [s for s in SHAPES if s.quick]),
    ids=lambda s: f"{s.label} {measure.threads_label()}",
)
@pytest.mark.benchmark(timer=entry.clock)
def test_gradients_of_every_state(benchmark, shape, name):
    library = name.split()[0]
    measure.need(library)
    work = Work("lstm", shape)
    measured = measure.shared(group, work)
    over = measured.median(name) / measured.median(library)
    label = f"watch lstm {shape.label}, {measure.threads_label()}"
    measure.report_step(
        benchmark, "watch", label, measured, name, **measure.sizes(work), over_plain=round(over, 4)
    )
