"""P13: what the number format did to the gradients; and P14, the report's own checks."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.numbers import short
from diagnostics.page.picture import (
    Picture,
    across,
    decades,
    entitle,
    having,
    legend,
    lines_of,
    outer_labels,
    panels,
    total_cost,
)
from diagnostics.page.svg import INK, MUTED, SERIES
from diagnostics.quantities.self_checks import SelfChecks
from diagnostics.report import Report, Subject

MOST = 3
KINDS = (("zero", SERIES[1]), ("subnormal", SERIES[0]), ("nonfinite", SERIES[4]))


def numeric_health(report: Report) -> Picture | None:
    """P13, the shares of every row that left the number format's range."""
    shown = having(report.subjects, "numeric_health")
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        drawn = panels(figure, len(shown), MOST, sharex=True, sharey=True)
        for axes, subject in zip(drawn, shown, strict=True):
            _shares(axes, subject)
            entitle(axes, subject.name, across(len(shown), MOST))
        outer_labels(drawn, "row t", "share of δ", MOST)
        legend(figure, [drawn[0]], 3)

    return Picture(
        name="numeric-health",
        heading="Numbers that left their range",
        height=0.8 + 1.6 * lines_of(len(shown), MOST),
        paint=paint,
        shows=(
            "Of the entries of the gradient δ at every row: how many are exactly zero, how many so "
            "small that digits are missing (subnormal), how many infinite or not a number. An "
            "empty picture is good news. Where half of a row is gone (dotted), rule R12 counts "
            "the row as vanished to the last bit."
        ),
        columns=("run", "rows vanished", "from row", "first event"),
        rows=[_health_numbers(subject) for subject in shown],
        how=shown[0].quantities["numeric_health"].how + "; counted, so without interval",
        cost=total_cost(shown, "numeric_health"),
    )


def _shares(axes: Axes, subject: Subject) -> None:
    found, low = subject.quantities["numeric_health"], np.zeros(1)
    rows = np.arange(len(found.zero))
    for kind, colour in KINDS:
        high = low + np.clip(np.nan_to_num(np.asarray(getattr(found, kind), np.float64)), 0, 1)
        there = np.flatnonzero(high > low)  # mostly nothing, and then nothing is drawn
        width = slice(max(0, there[0] - 1), there[-1] + 2) if len(there) else slice(0, 1)
        name = {"nonfinite": "not finite"}.get(kind, kind)
        axes.fill_between(rows[width], np.broadcast_to(low, high.shape)[width], high[width],
                          color=colour, alpha=0.8, linewidth=0, step="mid", label=name)  # fmt: skip
        low = high
    axes.axhline(0.5, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)))
    axes.set(ylim=(0, 1.03), xlim=(-0.5, len(rows) - 0.5), yticks=(0, 0.5, 1))


def _health_numbers(subject: Subject) -> list[str]:
    found = subject.quantities["numeric_health"]
    first = "none" if found.first_vanished is None else f"t = {found.first_vanished}"
    event = "none"
    if len(found.events):  # an empty list comes back from JSON as an empty array
        e = found.events[0]
        event = f"{e['kind']} in {e['pass']} of {e['name']}, step {e['step']}, unit {e['unit']}"
    return [subject.name, f"{found.value:.0%} of {found.rows}", first, event]


def precision(report: Report) -> Picture | None:
    """P13, the gradient in the model's own format against one in float64."""
    shown = having(report.subjects, "precision")
    shown = [s for s in shown if any(v > 0 for v in s.quantities["precision"].parameters.values())]
    if not shown:
        return None
    places = [(s, k) for s in shown for k in s.quantities["precision"].parameters]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, (subject, name) in enumerate(reversed(places)):
            value = subject.quantities["precision"].parameters[name]
            if 0 < value < np.inf:
                axes.plot([value], [place], "o", color=SERIES[1], markersize=5)
        axes.set_xscale("log")
        axes.set_yticks(range(len(places)), [_label(s, k, len(shown)) for s, k in reversed(places)])
        axes.set_ylim(-0.7, len(places) - 0.3)
        for subject in shown:
            axes.axvline(_unit(subject), color=INK, linewidth=1.0, linestyle=(0, (1, 1.5)))
        low, high = axes.get_xlim()
        axes.set_xlim(low / 2, high * 2)
        decades(axes, "x", most=6)
        axes.set_xlabel("relative difference to float64")

    return Picture(
        name="precision",
        heading="What the number format costs",
        height=0.9 + 0.22 * sum(_lines(s, k, len(shown)) for s, k in places),
        paint=paint,
        shows=(
            "The gradient of every parameter in the model's own format against the same one "
            "computed in float64: norm of the difference over the norm. Dotted: the rounding unit "
            "of the format. Parameters with no difference at all have no dot."
        ),
        columns=("run", "format", "all parameters together", "rounding unit"),
        rows=[
            [s.name, s.quantities["precision"].dtype, short(float(s.quantities["precision"].value)),
             short(_unit(s))]
            for s in shown
        ],
        how=shown[0].quantities["precision"].how + "; computed, so without interval",
        cost=total_cost(shown, "precision"),
    )  # fmt: skip


def _label(subject: Subject, parameter: str, runs: int) -> str:
    """Name a parameter in lines that leave room for the drawing."""
    return textwrap.fill(f"{subject.name}: {parameter}" if runs > 1 else parameter, 24)


def _lines(subject: Subject, parameter: str, runs: int) -> int:
    return _label(subject, parameter, runs).count("\n") + 1


def _unit(subject: Subject) -> float:
    """Return the rounding unit of a model's format, of the coarsest where there are several."""
    names = subject.quantities["precision"].dtype.split(", ")
    return max(float(np.finfo(name).eps) for name in names)


def self_checks(report: Report) -> tuple[list[str], list[list[str]]] | None:
    """P14, the residuals as a table: every identity of the only layer, or the worst of each."""
    shown = having(report.subjects, "self_checks")
    if not shown:
        return None
    if len(shown) == 1:
        checks = shown[0].quantities["self_checks"]
        rows = [[name, *_residual(checks, name)] for name in checks.residuals]
        return ["identity", "residual", "allowed", ""], rows
    rows = []
    for subject in shown:
        checks = subject.quantities["self_checks"]
        hold = sum(r <= checks.tolerances[name] for name, r in checks.residuals.items())
        said = f"{hold} of {len(checks.residuals)} hold"
        rows.append([subject.name, said, checks.worst, *_residual(checks, checks.worst)[:2]])
    return ["run", "identities", "closest to its limit", "residual", "allowed"], rows


def _residual(checks: SelfChecks, name: str) -> list[str]:
    residual, allowed = checks.residuals[name], checks.tolerances[name]
    return [short(residual), short(allowed), "holds" if residual <= allowed else "fails"]
