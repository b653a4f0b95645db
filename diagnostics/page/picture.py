"""What all pictures share: the picture's record, and how subjects are told apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from diagnostics.numbers import decade, short
from diagnostics.page.svg import SERIES
from diagnostics.quantities.base import Cost
from diagnostics.report import Subject


@dataclass(frozen=True)
class Picture:
    """A drawing with all that its caption says.

    shows: what is drawn.  columns, rows: the numbers with their intervals, a row per subject.
    how: how it was computed.  cost: counts.
    """

    name: str
    heading: str
    svg: str
    shows: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    how: str
    cost: str


@dataclass(frozen=True)
class Look:
    """How a subject is drawn: the cell gives the colour, clipping the line."""

    label: str
    colour: str
    dashes: str | tuple[int, tuple[float, ...]]


def spoken(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Read a table out, for those who cannot see the picture above it."""
    lines = (zip(columns[1:], row[1:], strict=True) for row in rows)
    said = (", ".join(f"{column} {cell}" for column, cell in line) for line in lines)
    return "; ".join(f"{row[0]}: {line}" for row, line in zip(rows, said, strict=True))


def looks(subjects: Sequence[Subject]) -> dict[str, Look]:
    """Give each subject its look, the same in every picture of a report."""
    kinds = list(dict.fromkeys(kind(subject) for subject in subjects))
    return {
        subject.name: Look(
            label=subject.name,
            colour=SERIES[kinds.index(kind(subject)) % len(SERIES)],
            dashes="-" if is_main(subject, subjects) else (0, (3, 1.5)),
        )
        for subject in subjects
    }


def kind(subject: Subject) -> str:
    """Return what a subject is a variant of: its cell, or itself."""
    return subject.settings.get("cell", subject.name)


def is_main(subject: Subject, subjects: Sequence[Subject]) -> bool:
    """Whether a subject is the first of its kind: those are drawn in full, variants beside."""
    return next(s for s in subjects if kind(s) == kind(subject)) is subject


def having(subjects: Sequence[Subject], quantity: str) -> list[Subject]:
    """Return the subjects that have a quantity."""
    return [subject for subject in subjects if quantity in subject.quantities]


def total_cost(subjects: Sequence[Subject], quantity: str) -> str:
    """Add up what a quantity cost over all subjects."""
    total = sum((s.quantities[quantity].cost for s in subjects), start=Cost())
    return f"{total}, {len(subjects)} runs together" if len(subjects) > 1 else str(total)


def decades(axes: Axes, which: str = "y", most: int = 6) -> None:
    """Label a logarithmic axis in plain text: powers of ten, or 1, 2, 5 where there are few.

    Call it when everything is drawn: it looks at the limits.
    """
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = sorted(axes.get_ylim() if which == "y" else axes.get_xlim())
    inside = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    if inside >= 2:
        axis.set_major_locator(LogLocator(base=10.0, numticks=most))
        axis.set_major_formatter(FuncFormatter(lambda value, _: decade(round(math.log10(value)))))
    else:
        axis.set_major_locator(LogLocator(base=10.0, subs=(1.0, 2.0, 5.0), numticks=most))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value, 1)))
    axis.set_minor_locator(NullLocator())
