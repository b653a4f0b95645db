"""Characters per second of a text model, end to end: embedding to Adam."""

import inspect
from dataclasses import replace

import pytest

import minirnn
from bench import agreement, entry, measure
from bench.text import COMPARED, Task

LIBRARIES = ("minirnn", "torch")
FOLDED = "minirnn folded"
FOLDS = "embedding" in inspect.signature(minirnn.Recurrent.forward).parameters
VARIANTS = (*LIBRARIES, FOLDED) if FOLDS else LIBRARIES
TASKS = (Task(H=128, E=32), Task(H=512, E=512))
SECONDS = 6.0  # longer: every round is another chunk


def group(task):
    """Measure one model; all variants must have the losses of the plain one."""
    made = measure.runs("text", task, LIBRARIES, steps=COMPARED)
    if FOLDS:
        folded = measure.runs("text", replace(task, folded=True), ("minirnn",), steps=COMPARED)
        made[FOLDED] = folded["minirnn"]
    agreement.check({name: run.results() for name, run in made.items()}, task.dtype)
    steps = {name: run.step for name, run in made.items()}
    return measure.in_turns(steps, 0, task.dtype, SECONDS)


@pytest.mark.parametrize("library", VARIANTS)
@pytest.mark.parametrize(
    "task", measure.chosen(TASKS, TASKS[:1]), ids=lambda t: f"H{t.H} {measure.threads_label()}"
)
@pytest.mark.benchmark(timer=entry.clock)
def test_text_model(benchmark, task, library):
    measure.need(library.split()[0])
    measured = measure.shared(group, task)
    rate = task.T * task.B / measured.median(library)
    measure.report_step(
        benchmark, "text", f"text model H{task.H}, {measure.threads_label()}", measured, library,
        T=task.T, B=task.B, H=task.H, E=task.E, **{"characters per second": round(rate)},
    )  # fmt: skip
