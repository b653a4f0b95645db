"""D11: how often each gate of each unit is shut or open, after Karpathy, Johnson and Li (2015)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import minirnn
from diagnostics.gallery.character_model import (
    HIDDEN,
    LEVELS,
    UPDATES,
    trained_on_the_library,
    unseen_library,
)
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.page.svg import MUTED, SERIES
from diagnostics.quantities.gate_statistics import statistics_of_record
from diagnostics.quantities.kept_share import kept_share
from diagnostics.quantities.statistics import Floats

GATES = {"lstm": ("i", "f", "o"), "gru": ("r", "z")}
NAMES = {"i": "input", "f": "forget", "o": "output", "r": "reset", "z": "update"}
STEPS, SEQUENCES, BINS = 200, 20, 25
SHUT, OPEN = 0.1, 0.9


@dataclass(frozen=True)
class Gate:
    """A gate of one level.

    shut, open: (H,), fraction of the time below 0.1 and above 0.9.  distance: (25,), share of all
    values by their distance from 0 or 1, whichever is nearer, in bins from 0 to 1/2.
    """

    cell: str
    name: str
    level: int
    shut: Floats
    open: Floats
    distance: Floats


def measure(cell: str, layer: Any, x: Any) -> list[Gate]:
    """Measure every gate of every level on an input (T, B, I)."""
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x)
    found = []
    for level in range(layer.num_layers):
        record = seen[level, 0]
        measured = statistics_of_record(record, kept_share(layer, seen, level, 0))
        for name in GATES[cell]:
            value = record.gates[name]
            counts, _ = np.histogram(np.minimum(value, 1 - value), BINS, (0.0, 0.5))
            found.append(
                Gate(cell, name, level, measured.left[name], measured.right[name],
                     counts / value.size)
            )  # fmt: skip
    return found


def numbers() -> list[Gate]:
    """Measure a trained LSTM and a trained GRU on text that they have not seen."""
    found = []
    for cell in GATES:
        run = trained_on_the_library(cell)
        ids = unseen_library(run)[: STEPS * SEQUENCES].reshape(SEQUENCES, STEPS).T
        with minirnn.no_grad():
            x = run.model.embedding(ids).numpy()
        found += measure(cell, run.model.recurrent, x)
    return found


def paint(figure: Figure, found: list[Gate]) -> None:
    """Draw a dot per unit for each gate, and the histograms of distances below."""
    columns = [(cell, name) for cell, names in GATES.items() for name in names]
    grid = figure.subplots(2, len(columns), sharex="row", sharey="row", height_ratios=(1.6, 1))
    for (upper, lower), (cell, name) in zip(grid.T, columns, strict=True):
        upper.plot([0, 1], [1, 0], color=MUTED, linewidth=0.7)
        for gate in (g for g in found if (g.cell, g.name) == (cell, name)):
            colour, marker = ((SERIES[1], "o"), (SERIES[0], "^"))[gate.level % 2]
            upper.plot(gate.shut, gate.open, marker, color=colour, markersize=3.2, alpha=0.65,
                       markeredgewidth=0, label=f"level {gate.level + 1}")  # fmt: skip
            edges = np.linspace(0, 0.5, BINS + 1)
            lower.stairs(gate.distance, edges, color=colour, linewidth=1.2)
        upper.set_title(f"{cell.upper()}\n{NAMES[name]}")
        upper.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", xticks=[0, 1])
        lower.set(xlim=(0, 0.5), xticks=[0, 0.5])
    grid[0, 0].set_ylabel("open (> 0.9)")
    grid[0, len(columns) // 2].set_xlabel("shut (< 0.1), fraction of time")
    grid[1, 0].set_ylabel("share")
    grid[1, len(columns) // 2].set_xlabel("distance from 0 or 1")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def caption(found: list[Gate]) -> Caption:
    """Put the numbers into words."""
    rows = [
        [
            f"{gate.cell.upper()} {NAMES[gate.name]}, level {gate.level + 1}",
            f"{gate.shut.mean():.1%}",
            f"{gate.open.mean():.1%}",
            f"{int((gate.open > 0.5).sum())} / {int((gate.shut > 0.5).sum())}",
            f"{gate.distance[:5].sum():.1%}",
        ]
        for gate in found
    ]
    return Caption(
        shows=(
            "Each dot is a unit: how much of the time its gate is shut, how much open. Dots near "
            "the lower left are gates that work in between; on the line a gate is a switch. A "
            "forget gate that is always open is a unit that counts or remembers; one that is "
            "always shut uses its input alone, like a feed-forward unit."
        ),
        columns=("gate", "time shut", "time open", "units open / shut", "within 0.1 of an end"),
        rows=rows,
        how=(
            f"networks of {LEVELS} levels of {HIDDEN} units after {UPDATES} updates on Python's "
            f"standard library; {SEQUENCES} sequences of {STEPS} characters that were not trained "
            "on; shut below 0.1, open above 0.9; units: those that are so for more than half of "
            "the time"
        ),
    )


def series(found: list[Gate]) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List every unit."""
    rows = [
        (gate.cell, gate.name, gate.level, unit, float(gate.shut[unit]), float(gate.open[unit]))
        for gate in found
        for unit in range(len(gate.shut))
    ]
    return ("cell", "gate", "level", "unit", "shut", "open"), rows


FIGURE = Recipe(3.3, numbers, paint, caption, series)
