"""What a report takes: `diagnose` on each level, and the page, beside a training step of the layer.

A diagnosis looks at one batch; shapes from small to usual show how it grows. The level "full",
where matrices are decomposed, takes seconds even for the small one.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import diagnostics
import minirnn
from bench import entry, measure
from bench.bench_watch import SHAPES
from bench.peers import ours
from bench.work import Work
from diagnostics.measuring import LEVELS

STEP, PAGE = "training step", "page"
SECONDS = 4.0


def levels_of(work):
    """Return the levels that are measured: all of the small layer."""
    return LEVELS if work.shape == SHAPES[0] else LEVELS[:-1]


WORKS = [Work("lstm", shape) for shape in SHAPES[:3]]
ENTRIES = [(work, name) for work in WORKS for name in (STEP, *levels_of(work), PAGE)]


def group(work):
    """Measure a training step, a diagnosis on each level, and the page of the last, in turns."""
    work = replace(work)  # its arrays go when the measurement ends
    layer, x = ours.layer_for(work), work.given["x"]

    def step():
        layer.zero_grad()
        minirnn.mse_loss(layer(x)[0], work.d_output).backward()

    def diagnosis(level):
        return lambda: diagnostics.diagnose(layer, x, work.d_output, level=level)

    levels = levels_of(work)
    report = diagnosis(levels[-1])()
    with tempfile.TemporaryDirectory() as folder:
        steps = {STEP: step, **{level: diagnosis(level) for level in levels}}
        steps[PAGE] = lambda: report.to_html(Path(folder) / "report.html")
        return measure.in_turns(steps, 0, work.dtype, SECONDS)


@pytest.mark.parametrize(
    ("work", "name"),
    measure.chosen(ENTRIES, [e for e in ENTRIES if e[0].shape.quick]),
    ids=lambda v: (
        v if isinstance(v, str) else f"{v.cell} {v.shape.label} {measure.threads_label()}"
    ),
)
@pytest.mark.benchmark(timer=entry.clock)
def test_report(benchmark, work, name):
    measured = measure.shared(group, work)
    measure.report_step(
        benchmark, "report", f"report {work.cell} {work.shape.label}, {measure.threads_label()}",
        measured, name, **measure.sizes(work),
        in_steps=round(measured.median(name) / measured.median(STEP), 2),
    )  # fmt: skip
