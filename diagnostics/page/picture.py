"""What all pictures share: the picture's record, and how subjects are told apart."""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from diagnostics.numbers import decade, short
from diagnostics.page.svg import DASHED, SERIES, canvas, inline
from diagnostics.quantities.base import Cost
from diagnostics.report import Report, Subject
from diagnostics.rules import judged_lags

DASHES = ("-", *DASHED)


@dataclass(frozen=True)
class Picture:
    """A drawing with all that its caption says.

    name: of the section, and prefix of every id.  height: in inches.  paint: draws on an empty
    figure made by `canvas`; the page, PNG and PDF all use it.  shows: what is drawn.  columns,
    rows: the numbers with their intervals, a row per subject.  how: how it was computed.  cost:
    counts.
    """

    name: str
    heading: str
    height: float
    paint: Callable[[Figure], None]
    shows: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    how: str
    cost: str

    @cached_property
    def svg(self) -> str:
        """The drawing as an SVG element of a page, with its numbers as text alternative."""
        with canvas(self.height) as figure:
            self.paint(figure)
            said = spoken(self.columns, self.rows)
            return inline(figure, self.name, self.heading, said)


@dataclass(frozen=True)
class Look:
    """How a subject is drawn: the cell gives the colour, the variant of it the line."""

    label: str
    colour: str
    dashes: Any

    @property
    def width(self) -> float:
        """Line width in points: what is drawn in full is thicker than what stands beside it."""
        return 1.8 if self.dashes == "-" else 1.2


def spoken(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Read a table out, for those who cannot see the picture above it."""
    lines = (zip(columns[1:], row[1:], strict=True) for row in rows)
    said = (", ".join(f"{column} {cell}" for column, cell in line) for line in lines)
    return "; ".join(f"{row[0]}: {line}" for row, line in zip(rows, said, strict=True))


def looks(subjects: Sequence[Subject]) -> dict[str, Look]:
    """Give each subject its look, the same in every picture of a report."""
    kinds = list(dict.fromkeys(kind(subject) for subject in subjects))
    found: dict[str, Look] = {}
    for subject in subjects:
        place = kinds.index(kind(subject))
        before = [s for s in subjects if s.name in found and kind(s) == kind(subject)]
        found[subject.name] = Look(
            label=subject.name,
            colour=SERIES[place % len(SERIES)],
            dashes=DASHES[(len(before) + place // len(SERIES)) % len(DASHES)],
        )
    return found


def kind(subject: Subject) -> str:
    """Return what a subject is a variant of: its cell, or itself."""
    return subject.settings.get("cell", subject.name)


def is_main(subject: Subject, subjects: Sequence[Subject]) -> bool:
    """Whether a subject is the first of its kind: those are drawn in full, variants beside."""
    return next(s for s in subjects if kind(s) == kind(subject)) is subject


def judged_lag(report: Report, subject: Subject) -> int | None:
    """Return the lag that a subject's gradient was judged at; None where it was not."""
    return next(iter(judged_lags(report.verdicts, subject.name)), None)


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
    if not 0 < low < high:  # nothing could be drawn
        low, high = 0.1, 10.0
        (axes.set_ylim if which == "y" else axes.set_xlim)(low, high)
    inside = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    if inside >= 2:
        axis.set_major_locator(LogLocator(base=10.0, numticks=most))
        axis.set_major_formatter(FuncFormatter(lambda value, _: decade(round(math.log10(value)))))
    else:
        axis.set_major_locator(LogLocator(base=10.0, subs=(1.0, 2.0, 5.0), numticks=most))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value, 1)))
    axis.set_minor_locator(NullLocator())


def panels(figure: Figure, count: int, most: int = 3, **options: Any) -> list[Axes]:
    """Lay out so many equal panels in rows of at most `most`; the places left over stay empty.

    options: as `Figure.subplots` takes them.
    """
    columns = across(count, most)
    grid = figure.subplots(lines_of(count, most), columns, squeeze=False, **options)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)  # the lowest of its column, also above an empty place
    return list(grid.flat[:count])


def entitle(axes: Axes, name: str, beside: int = 1) -> None:
    """Put a name over a panel, of which so many stand side by side: in lines that fit."""
    axes.set_title(textwrap.fill(name, max(12, 54 // beside)), fontsize=10 if beside < 3 else 9)


def lines_of(count: int, most: int = 3) -> int:
    """Count the rows that `panels` makes."""
    return -(-count // across(count, most))


def across(count: int, most: int = 3) -> int:
    """Count the panels of a row: four stand two by two, so that none stands alone."""
    return 2 if count == 4 and most == 3 else max(1, min(count, most))


def outer_labels(shown: Sequence[Axes], below: str, left: str, most: int = 3) -> None:
    """Name the axes once: x under the lowest panel of each column, y at the left."""
    columns = across(len(shown), most)
    for place, axes in enumerate(shown):
        if place + columns >= len(shown):
            axes.set_xlabel(below)
        if place % columns == 0:
            axes.set_ylabel(left)


def legend(figure: Figure, shown: Iterable[Axes], columns: int = 3) -> None:
    """Put a legend of what some axes show below the whole figure, each name once.

    Long names are broken: the drawing must not be squeezed by them.
    """
    names: dict[str, Artist] = {}
    for axes in shown:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            names.setdefault(label, handle)
    if names:
        shown_names = [textwrap.fill(name, 44 // columns) for name in names]
        figure.legend(list(names.values()), shown_names, loc="outside lower center", ncols=columns)


def drawable(values: Any) -> Any:
    """Leave out what a logarithmic axis cannot show."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def logs(values: Any) -> Any:
    """Return log10, NaN where there is none."""
    return np.log10(drawable(values))
