"""A training step under a `diagnostics.Monitor`, measured and not, beside the plain one.

Layer, loss, clipping, Adam; tier cheap, with its file. What a loop pays at ``every=50`` is what one
measured step takes more, and 49 calls of ``step`` that measure nothing. Those are timed by
themselves: beside a whole step their microseconds would drown in its noise.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import diagnostics
import minirnn
from bench import entry, measure
from bench.bench_watch import SHAPES
from bench.work import Work

EVERY = 50
PLAIN, CALL, MEASURED = "minirnn", "minirnn call", "minirnn measured"
SECONDS = 4.0  # a ratio of a few percent needs more rounds


@dataclass(frozen=True)
class Trained:
    """The layer that is trained: a cell at a shape, so many levels, one or two directions."""

    work: Work
    levels: int = 1
    both: bool = False

    @property
    def label(self) -> str:
        """Return the name of its group."""
        more = [f"{self.levels} levels"] if self.levels > 1 else []
        more += ["both directions"] if self.both else []
        return " ".join([self.work.cell, self.work.shape.label, *more])


# The plain network is the hardest: its step does the least arithmetic for each number looked at.
# Levels and directions are each looked at by themselves.
LAYERS = [
    *(Trained(Work("lstm", s)) for s in SHAPES),
    Trained(Work("rnn", SHAPES[0])),
    Trained(Work("rnn", SHAPES[-1])),
    Trained(Work("gru", SHAPES[0])),
    Trained(Work("gru", SHAPES[0]), levels=2, both=True),
]


def loop(trained, **options):
    """Return a training step, and the layer that it trains; with options there is a monitor."""
    work = trained.work
    minirnn.manual_seed(0)
    layer = minirnn.Recurrent(
        work.made, work.shape.I, work.shape.H, num_layers=trained.levels,
        bidirectional=trained.both, dtype=work.dtype,
    )  # fmt: skip
    adam = minirnn.Adam(layer.parameters())
    x, target = work.given["x"], np.tile(work.d_output, (1, 1, 1 + trained.both))
    monitor = diagnostics.Monitor(layer, **options) if options else None

    def step():
        adam.zero_grad()
        output, _ = layer(x)
        loss = minirnn.mse_loss(output, target)
        loss.backward()
        info = minirnn.clip_grad_norm(layer.parameters(), 1.0)
        adam.step()
        if monitor is not None:
            monitor.step(loss, info)

    return step, layer


def call_alone(work):
    """Return a call of ``step`` that measures nothing."""
    loss = minirnn.mse_loss(minirnn.Tensor(work.d_output), 0 * work.d_output)
    info = minirnn.clip_grad_norm([minirnn.Tensor(work.d_output)], 1.0)
    monitor = diagnostics.Monitor(minirnn.RNN(1, 1), every=10**9, start=1)
    return lambda: monitor.step(loss, info)


def group(trained):
    """Measure steps with and without a monitor in turns, after they have trained the same bits."""
    work = replace(trained.work)  # its arrays go when the measurement ends
    trained = replace(trained, work=work)
    with tempfile.TemporaryDirectory() as folder:
        plain, layer = loop(trained)
        measured, other = loop(trained, every=1, path=Path(folder) / "run.jsonl")
        for _ in range(2):
            plain()
            measured()
        for name, array in layer.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[name], array)
        steps = {PLAIN: plain, CALL: call_alone(work), MEASURED: measured}
        return measure.in_turns(steps, 0, work.dtype, SECONDS)


@pytest.mark.parametrize("name", (PLAIN, CALL, MEASURED))
@pytest.mark.parametrize(
    "trained",
    measure.chosen(LAYERS, [t for t in LAYERS if t.work.shape.quick]),
    ids=lambda t: f"{t.label} {measure.threads_label()}",
)
@pytest.mark.benchmark(timer=entry.clock)
def test_monitor(benchmark, trained, name):
    measured = measure.shared(group, trained)
    plain, call = measured.median(PLAIN), measured.median(CALL)
    more = measured.median(MEASURED) - plain
    label = f"monitor {trained.label}, {measure.threads_label()}"
    measure.report_step(
        benchmark, "monitor", label, measured, name, **measure.sizes(trained.work),
        levels=trained.levels, directions=1 + trained.both,
        averaged=round(1 + ((EVERY - 1) * call + more) / EVERY / plain, 4),
        over_plain=round(1 + more / plain, 4), more_ms=round(1e3 * more, 3),
        call_us=round(1e6 * call, 2),
    )  # fmt: skip
