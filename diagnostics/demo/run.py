"""All of the demo: read the text, train and measure six models, put them into one report."""

from diagnostics.demo.corpus import read
from diagnostics.demo.measure import measure
from diagnostics.demo.progress import Display
from diagnostics.demo.settings import Settings, variants
from diagnostics.demo.train import train
from diagnostics.machine import machine
from diagnostics.report import Report, Subject
from diagnostics.rules import RULES, Verdict
from diagnostics.seconds import timed


def demo(settings: Settings, timings: bool = False) -> Report:
    """Train and report.  timings: put seconds into the report, which then differs every time."""
    seconds: dict[str, float] = {}
    with timed(seconds, "read the text"):
        corpus = read(settings)
    subjects: list[Subject] = []
    verdicts: list[Verdict] = []
    with Display(settings.training_steps) as display:
        for name, cell, max_norm in variants(settings):
            with timed(seconds, f"train {name}"), display.run(name) as tick:
                trained = train(cell, max_norm, corpus, settings, tick)
            with timed(seconds, f"measure {name}"):
                subject, judged = measure(name, cell, max_norm, trained, corpus, settings)
            display.finished(name, trained.loss[-1], trained.stopped)
            subjects.append(subject)
            verdicts += judged
    return Report(
        title="How gradients flow through time: RNN, LSTM and GRU on real text",
        subjects=subjects,
        verdicts=sorted(verdicts, key=lambda verdict: list(RULES).index(verdict.rule)),
        settings=settings.table(corpus.described),
        machine=machine(),
        about=(
            "Six character models, RNN, LSTM and GRU, each with and without gradient clipping, "
            f"learned for {settings.training_steps} steps to predict the next character of "
            f"{corpus.described.split(':')[0]}. Asked of each: how far back in time does a "
            "gradient reach, what does clipping do, and what does the model write by then?"
        ),
        seconds=seconds if timings else {},
    )
