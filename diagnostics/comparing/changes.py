"""What differs between runs: their settings, and their numbers against those of the first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diagnostics.comparing.groups import Group, Run
from diagnostics.numbers import short, with_interval
from diagnostics.report import Subject

NOTHING = "–"  # noqa: RUF001 - the sign for nothing
HIGHER, LOWER, UNCLEAR = "higher", "lower", "no difference shown"
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Cell:
    """A number of one run.

    change: against the first run that has it, "" for that one or where no interval tells.
    """

    value: float
    ci: Interval
    spelled: str
    change: str = ""


@dataclass(frozen=True)
class Line:
    """One number of all runs, None where a run lacks it."""

    name: str
    cells: tuple[Cell | None, ...]


def numbers_of(group: Group) -> list[Line]:
    """Lay out the numbers of a group, those that some run has."""
    measured: list[tuple[str, Callable[[Subject], Cell | None]]] = [
        (f"G({group.lag}), left of a gradient", lambda s: _gain(s, group.lag)),
        ("ρ, factor per step", lambda s: _value(s, "decay_rate", 3)),  # noqa: RUF001
        ("1/1000 left after, steps", _horizon),
        ("λ₁ per step", _exponent),
        ("τ, 95th percentile, steps", lambda s: _value(s, "memory_timescales")),
        ("largest share of poor slopes in a gate", lambda s: _value(s, "gate_statistics")),
        ("steps clipped", _clipped),
        ("median norm before clipping", _median_norm),
        ("loss on unseen text", lambda s: _value(s, "training", 3)),
    ]
    lines = []
    for name, measure in measured:
        cells = [None if s is None else measure(s) for s in group.members]
        if any(cells):
            lines.append(Line(name, tuple(compared(cells))))
    return lines


def compared(cells: Sequence[Cell | None]) -> list[Cell | None]:
    """Hold every number against the first: apart are those whose 95% intervals do not meet."""
    first = next((place for place, cell in enumerate(cells) if cell is not None), None)
    if first is None:
        return list(cells)
    return [
        cell
        if cell is None or place == first
        else Cell(cell.value, cell.ci, cell.spelled, change(cells[first], cell))
        for place, cell in enumerate(cells)
    ]


def change(first: Cell | None, other: Cell) -> str:
    """Say whether a number is higher or lower than the first, as far as the intervals tell."""
    if first is None or first.ci is None or other.ci is None:
        return ""
    if other.ci[0] > first.ci[1]:
        return HIGHER
    return LOWER if other.ci[1] < first.ci[0] else UNCLEAR


def settings_that_differ(
    runs: Sequence[Run], groups: Sequence[Group] = ()
) -> list[tuple[str, list[str]]]:
    """Return the settings that are not the same in all runs: name, then a value per run.

    groups: whose subjects' own settings are looked at too.
    """
    tables = [("", [run.report.settings for run in runs])]
    for group in groups:
        own = [{} if s is None else s.settings for s in group.members]
        tables.append((f"{group.title}: " if group.title else "", own))
    found = []
    for title, settings in tables:
        for name in dict.fromkeys(name for one in settings for name in one):
            values = [one.get(name, NOTHING) for one in settings]
            if len(set(values)) > 1:
                found.append((f"{title}{name}", values))
    return found


def _cell(value: Any, ci: Any, digits: int = 2) -> Cell:
    ends = None if ci is None or np.isnan(ci).any() else (float(ci[0]), float(ci[1]))
    return Cell(float(value), ends, with_interval(float(value), ci, digits))


def _gain(subject: Subject, lag: int) -> Cell:
    gain = subject.quantities["lag_gain"]
    return _cell(gain.value[lag], gain.ci[lag])


def _value(subject: Subject, name: str, digits: int = 2) -> Cell | None:
    quantity = subject.quantities.get(name)
    return None if quantity is None else _cell(quantity.value, quantity.ci, digits)


def _horizon(subject: Subject) -> Cell | None:
    rate = subject.quantities.get("decay_rate")
    if rate is None:
        return None
    text = f"{rate.horizon:.0f}" if np.isfinite(rate.horizon) else short(rate.horizon)
    return Cell(float(rate.horizon), None, text)


def _exponent(subject: Subject) -> Cell | None:
    found = subject.quantities.get("lyapunov")
    return (
        None
        if found is None
        else _cell(found.value[0], None if found.ci is None else found.ci[0], 3)
    )


def _clipped(subject: Subject) -> Cell | None:
    clip = subject.quantities.get("clipping")
    if clip is None:
        return None
    if clip.max_norm is None:
        return Cell(0.0, None, "off")
    return Cell(float(clip.value), None, f"{clip.value:.1%} at {clip.max_norm:g}")


def _median_norm(subject: Subject) -> Cell | None:
    clip = subject.quantities.get("clipping")
    return (
        None
        if clip is None
        else Cell(float(clip.percentiles[0]), None, short(float(clip.percentiles[0])))
    )
