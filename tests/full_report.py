"""A report with every quantity that a page can draw, measured on small networks."""

from dataclasses import replace
from functools import cache

import numpy as np

import diagnostics
import minirnn
from diagnostics.quantities.clip_effect import clip_direction, graph_clipping
from tests.toy_report import toy_report

STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 14, 8, 3, 4, 5


class Model(minirnn.Module):
    """A recurrent layer with a readout at every step."""

    def __init__(self, cell, levels=1, bidirectional=False):
        self.recurrent = minirnn.Recurrent(
            cell, INPUTS, HIDDEN, num_layers=levels, bidirectional=bidirectional, seed=0
        )
        self.linear = minirnn.Linear((1 + bidirectional) * HIDDEN, CLASSES, seed=1)

    def forward(self, x):
        return self.linear(self.recurrent(x)[0])


def data():
    """x (T, B, I) and targets (T, B)."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
    return x, rng.integers(0, CLASSES, (STEPS, BATCH))


@cache
def measured(cell="lstm", levels=1, bidirectional=False):
    """Diagnose a small model at the level "full"."""
    return diagnostics.diagnose(Model(cell, levels, bidirectional), *data(), level="full")


@cache
def full_report():
    """One run of an LSTM and one of a plain RNN, with all that a training run leaves behind too."""
    toy = toy_report()
    subjects, verdicts = [], []
    for cell, source in (("lstm", toy.subjects[2]), ("rnn", toy.subjects[0])):
        report = measured(cell)
        (subject,) = report.subjects
        layer = Model(cell).recurrent
        x, _ = data()
        d_output = np.ones((STEPS, BATCH, HIDDEN), np.float32)
        training = source.quantities["training"]
        count = len(training.flow_steps)
        strips = {"rho": np.linspace(0.9, 0.7, count), "update": np.geomspace(1e-2, 1e-3, count),
                  "cosine": np.ones(count)}  # fmt: skip
        quantities = {
            **subject.quantities,
            "clipping": source.quantities["clipping"],
            "training": replace(training, strips=strips),
            "graph_clipping": graph_clipping(layer, x, d_output, clip=0.5),
            "clip_direction": clip_direction(
                {"weight": np.array([3.0, 4.0]), "bias": np.array([1.0])},
                {"weight": np.array([1.0, 1.0]), "bias": np.array([1.0])},
            ),
        }
        subjects.append(replace(subject, name=cell, quantities=quantities))
        verdicts += [replace(v, subject=cell) for v in report.verdicts]
    return replace(toy, title="Two small networks", subjects=subjects, verdicts=verdicts)
