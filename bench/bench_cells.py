"""Training steps of every cell, per floating-point operation, in turns with the LSTM."""

import pytest

from bench import cells, entry, measure
from bench.shapes import ACCEPTANCE, TWO_STAGE, USERS, Shape
from bench.work import Work
from minirnn.cells import names

USUAL = Shape(50, 32, 256, 256, "every cell of the registry")
PAIRS = [(name, USUAL) for name in (*names(), USERS) if name != "lstm"]
PAIRS += [(name, ACCEPTANCE) for name in (TWO_STAGE, "mgu", USERS)]
SECONDS = 0.6


def group(name, shape):
    """Measure a cell and the LSTM together; a group's flops are the cell's."""
    work = Work(name, shape)
    steps = {n: measure.runs("training", Work(n, shape), ("minirnn",)) for n in ("lstm", name)}
    return measure.in_turns(
        {n: made["minirnn"].step for n, made in steps.items()},
        cells.flops(work.made, work.shape), work.dtype, SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name, shape",
    measure.chosen(PAIRS, [(USERS, ACCEPTANCE)]),
    ids=lambda v: v if isinstance(v, str) else f"{v.label}",
)
@pytest.mark.parametrize("threads", [measure.threads_label()])
@pytest.mark.benchmark(timer=entry.clock)
def test_a_cell_beside_the_lstm(benchmark, name, shape, threads):
    measured = measure.shared(group, name, shape)
    lstm = cells.flops(cells.get("lstm"), shape) / measured.median("lstm")
    measure.report_step(
        benchmark, "cell", f"cells {shape.label}, {threads}", measured, name,
        **measure.sizes(Work(name, shape)), **{"LSTM GF/s": round(lstm / 1e9, 2)},
        of_lstm=round(measured.rate(name) / lstm, 3),
    )  # fmt: skip
