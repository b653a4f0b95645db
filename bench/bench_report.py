"""What a report takes: `diagnose` on each level, and the page, in training steps of the same layer.

A diagnosis looks at one batch of the text model's shape; the larger shape shows how it grows.
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
THINGS = (STEP, *LEVELS, PAGE)
WORKS = [Work("lstm", shape) for shape in SHAPES[1:3]]
SECONDS = 10.0


def group(work):
    """Measure a training step, a diagnosis on each level, and the page of the last, in turns."""
    work = replace(work)  # its arrays go when the measurement ends
    layer, x = ours.layer_for(work), work.given["x"]

    def step():
        layer.zero_grad()
        minirnn.mse_loss(layer(x)[0], work.d_output).backward()

    def diagnosis(level):
        return lambda: diagnostics.diagnose(layer, x, work.d_output, level=level)

    report = diagnosis(LEVELS[-1])()
    with tempfile.TemporaryDirectory() as folder:
        steps = {STEP: step, **{level: diagnosis(level) for level in LEVELS}}
        steps[PAGE] = lambda: report.to_html(Path(folder) / "report.html")
        return measure.in_turns(steps, 0, work.dtype, SECONDS)


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize(
    "work",
    measure.chosen(WORKS),
    ids=lambda w: f"{w.cell} {w.shape.label} {measure.threads_label()}",
)
@pytest.mark.benchmark(timer=entry.clock)
def test_report(benchmark, work, name):
    measured = measure.shared(group, work)
    measure.report_step(
        benchmark, "report", f"report {work.cell} {work.shape.label}, {measure.threads_label()}",
        measured, name, **measure.sizes(work),
        in_steps=round(measured.median(name) / measured.median(STEP), 2),
    )  # fmt: skip
