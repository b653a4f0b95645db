"""What a node of the tape costs: chains of pointwise operations on 32 numbers."""

import pytest

from bench import chains, entry, measure

LIBRARIES = ("minirnn", "torch", "autograd", "numpy")  # the last has no tape


def group(operation):
    """Measure one chain."""
    made = measure.runs("chain", chains.Chain(operation), LIBRARIES)
    steps = {name: run.step for name, run in made.items()}
    return measure.in_turns(steps, 0, "float32")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("operation", measure.chosen(chains.NAMES, ["all"]))
@pytest.mark.parametrize("threads", [measure.threads_label()])
@pytest.mark.benchmark(timer=entry.clock)
def test_chain(benchmark, operation, library, threads):
    measure.need(library)
    measured = measure.shared(group, operation)
    microseconds = measured.median(library) / chains.NODES * 1e6
    measure.report_step(
        benchmark, "tape", f"tape: {operation}, {threads}", measured, library,
        operation=operation, **{"us per node": round(microseconds, 3)},
    )  # fmt: skip
