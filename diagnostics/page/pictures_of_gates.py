"""Pictures of gates: how saturated they are, how long the units remember."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import (
    Picture,
    across,
    decades,
    entitle,
    having,
    judged_lag,
    lines_of,
    looks,
    outer_labels,
    panels,
    total_cost,
)
from diagnostics.page.svg import FAIL, INK, MUTED
from diagnostics.quantities.gate_statistics import STUCK, GateStatistics
from diagnostics.quantities.gate_sums import ENDS
from diagnostics.report import Report, Subject

MOST = 3


def saturation(report: Report) -> Picture | None:
    """P7, a dot per unit: how often it is at the lower end, how often at the upper."""
    shown = [s for s in having(report.subjects, "gate_statistics") if _gates(s)]
    if not shown:
        return None
    styles = looks(report.subjects)
    several = len(shown) > 1
    columns = max(len(_gates(subject)) for subject in shown)
    columns = columns if several else across(columns)
    rows = _packed([(s, gate) for s in shown for gate in _gates(s)], columns, several)
    lines = len(rows)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for line, row in zip(grid, rows, strict=True):
            for axes in line[len(row) :]:
                axes.set_axis_off()
            for axes, (subject, gate) in zip(line, row, strict=False):
                found, colour = subject.quantities["gate_statistics"], styles[subject.name].colour
                _dots(axes, found, gate, colour)
                if several and gate == _gates(subject)[0]:
                    _over(axes, subject.name, len(_gates(subject)))
        figure.supxlabel("share of the time at the lower end", fontsize=10)
        figure.supylabel("share of the time at the upper end", fontsize=10)

    return Picture(
        name="gates",
        heading="Gates that are shut, gates that are open",
        height=0.5 + (1.35 if columns > 2 else 1.9) * lines,
        paint=paint,
        shows=(
            "A dot is a unit: how much of the time it is at the lower end of its range, and how "
            f"much at the upper ({_ends(shown)}). Near the lower left a unit works in between; "
            "along the line it is always at one end or the other; in the corners it never moves. "
            "A forget or update gate that stays open is memory, not illness, and is counted apart."
        ),
        columns=("gate", "mean value", "slope too small", f"stuck {STUCK:.0%} of the time",
                 "holds memory"),
        rows=[row for subject in shown for row in _gate_numbers(subject, several)],
        how=shown[0].quantities["gate_statistics"].how
        + "; shares of units; the interval stands at the worst gate",
        cost=total_cost(shown, "gate_statistics"),
    )  # fmt: skip


def _packed(
    places: list[tuple[Subject, str]], columns: int, together: bool
) -> list[list[tuple[Subject, str]]]:
    """Fill rows with panels.  together: all gates of a subject stay in one row."""
    rows: list[list[tuple[Subject, str]]] = [[]]
    for subject, gate in places:
        first = gate == _gates(subject)[0]
        need = len(_gates(subject)) if first and together else 1
        if len(rows[-1]) + need > columns:
            rows.append([])
        rows[-1].append((subject, gate))
    return rows


def _over(axes: Axes, name: str, panels: int) -> None:
    """Put a subject's name over so many panels, above the first of them."""
    text = textwrap.fill(name, 12 * panels)
    # It is wider than a panel: only its height may move them, and blank lines stand for that.
    axes.set_title("\n".join(" " for _ in text.splitlines()), fontsize=9)
    axes.annotate(text, (0, 1), (0, 4), "axes fraction", "offset points", fontsize=9, va="bottom",
                  annotation_clip=False).set_in_layout(False)  # fmt: skip


def _dots(axes: Axes, found: GateStatistics, gate: str, colour: str) -> None:
    axes.plot([0, 1], [1, 0], color=MUTED, linewidth=0.8)
    axes.plot(found.left[gate], found.right[gate], "o", markersize=4, alpha=0.5, color=colour,
              markeredgewidth=0)  # fmt: skip
    axes.text(0.97, 0.95, gate, transform=axes.transAxes, ha="right", va="top", fontsize=11)
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")


def _gates(subject: Subject) -> list[str]:
    found = subject.quantities["gate_statistics"]
    return [gate for gate in found.left if found.activations.get(gate) in ENDS]


def _ends(shown: list[Subject]) -> str:
    """Spell the ends of the activations that occur."""
    kinds = {a for s in shown for a in s.quantities["gate_statistics"].activations.values()}
    words = {
        "sigmoid": "sigmoid: below 0.1, above 0.9",
        "tanh": "tanh: below −0.97, above 0.97",
        "relu": "relu: at 0; it has no upper end",
    }
    return "; ".join(text for kind, text in words.items() if kind in kinds)


def _gate_numbers(subject: Subject, several: bool) -> list[list[str]]:
    found: GateStatistics = subject.quantities["gate_statistics"]
    rows = []
    for gate in _gates(subject):
        poor, end = found.poor.get(gate), found.at_end.get(gate)
        held = found.remembering.get(gate)
        rows.append(
            [
                f"{subject.name}: {gate}" if several else gate,
                short(float(np.mean(found.mean[gate]))),
                "–" if poor is None else _share(poor, found.ci, gate == found.worst_slope),
                "–" if end is None else _share(end, found.stuck_ci, gate == found.worst_end),
                "–" if held is None else f"{held:.0%}",
            ]
        )
    return rows


def _share(value: float, ci: object, worst: bool) -> str:
    low, high = (float("nan"),) * 2 if ci is None else (float(end) for end in ci)  # type: ignore[attr-defined]
    return f"{value:.0%} [{low:.0%}, {high:.0%}]" if worst and low == low else f"{value:.0%}"


def timescales(report: Report) -> Picture | None:
    """P8, histogram of the units' memory timescales, with the lags that matter."""
    measured = having(report.subjects, "memory_timescales")
    shown = [s for s in measured if s.quantities["memory_timescales"].tau]
    if not shown:
        return None
    styles = looks(report.subjects)
    every = np.concatenate([t for s in shown for t in _finite(s)] or [np.ones(1)])
    edges = 10.0 ** np.linspace(
        np.log10(every.min()) - 0.05, np.log10(max(every.max(), 2 * every.min())) + 0.05, 25
    )

    def paint(figure: Figure) -> None:
        drawn = panels(figure, len(shown), MOST, sharex=True)
        for axes, subject in zip(drawn, shown, strict=True):
            axes.set_xscale("log")
            _histogram(axes, subject, edges, styles[subject.name].colour)
            lag, length = judged_lag(report, subject), _length(subject)
            if length:
                axes.axvline(length, color=MUTED, linewidth=2.2, alpha=0.6)  # L may lie beside it
            if lag:
                axes.axvline(lag, color=FAIL, linewidth=1.1, linestyle=(0, (3, 1.5)))
                axes.axvline(lag / 3, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)))
            axes.axvline(
                subject.quantities["memory_timescales"].value, color=INK, linewidth=1.1, ymax=0.12
            )
            entitle(axes, subject.name, across(len(shown), MOST))
            low, high = axes.get_xlim()
            lines = [line for line in (lag, length) if line]
            axes.set_xlim(
                min([low, *(0.3 * x for x in lines)]), max([high, *(1.5 * x for x in lines)])
            )
            decades(axes, "x", most=5)
        outer_labels(drawn, "τ, steps", "units", MOST)

    return Picture(
        name="timescales",
        heading="How long the units remember",
        height=0.5 + 1.7 * lines_of(len(shown), MOST),
        paint=paint,
        shows=(
            "Each unit's timescale τ: after τ steps 1/e of its state is left, if its gates stay at "
            "their mean. Dashed: the lag L that the task needs; dotted: L/3, below which rule R8 "
            f"warns; {_lengths_said(shown)}short mark: the 95th percentile. Units to the left of "
            "a line cannot hold anything that long by themselves." + _nothing_kept(measured)
        ),
        columns=("run", "τ, 95th percentile", "median", "never lose", "lag needed"),
        rows=[_tau_numbers(report, subject) for subject in measured],
        how=shown[0].quantities["memory_timescales"].how,
        cost=total_cost(measured, "memory_timescales"),
    )


def _length(subject: Subject) -> int | None:
    """Return the steps T of the longest sequence: of T lags, or of the T + 1 rows of delta."""
    have = subject.quantities
    if "lag_gain" in have:
        return len(have["lag_gain"].value)
    if "gradient_flow" in have:
        return len(have["gradient_flow"].value) - 1
    return have["timeline"].flow.shape[1] - 1 if "timeline" in have else None


def _lengths_said(shown: list[Subject]) -> str:
    lengths = sorted({length for s in shown if (length := _length(s))})
    if not lengths:
        return ""
    return f"broad and grey: the length T of the sequences ({' or '.join(map(str, lengths))}); "


def _finite(subject: Subject) -> list[np.ndarray]:
    taus = [np.asarray(t) for t in subject.quantities["memory_timescales"].tau.values()]
    return [t[np.isfinite(t) & (t > 0)] for t in taus if (np.isfinite(t) & (t > 0)).any()]


def _histogram(axes: Axes, subject: Subject, edges: np.ndarray, colour: str) -> None:
    taus = _finite(subject)
    if taus:
        axes.hist(np.concatenate(taus), bins=list(edges), color=colour, alpha=0.6)


def _nothing_kept(measured: list[Subject]) -> str:
    names = [s.name for s in measured if not s.quantities["memory_timescales"].tau]
    if not names:
        return ""
    return f" Not drawn, because no unit keeps its state by itself: {', '.join(names)}."


def _tau_numbers(report: Report, subject: Subject) -> list[str]:
    found = subject.quantities["memory_timescales"]
    lag = judged_lag(report, subject)
    needed = "" if lag is None else f"{lag} steps"
    if not found.tau:
        return [subject.name, "0 steps", "0 steps", "none", needed]
    every = np.concatenate([np.asarray(t, np.float64) for t in found.tau.values()])
    forever = int(np.isinf(every).sum())
    median = float(np.quantile(every, 0.5, method="higher"))
    return [
        subject.name,
        f"{with_interval(found.value, found.ci)} steps",
        f"{short(median)} steps",
        f"{forever} of {len(every)} units",
        needed,
    ]
