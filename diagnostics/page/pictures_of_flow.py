"""Pictures of how gradients flow through time: lag gain, total against local."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import (
    Look,
    Picture,
    across,
    decades,
    drawable,
    entitle,
    having,
    is_main,
    legend,
    lines_of,
    looks,
    total_cost,
)
from diagnostics.page.svg import FAIL, GRID, INK, MUTED, WARN
from diagnostics.quantities.decay_rate import HORIZON_GAIN
from diagnostics.report import Report, Subject
from diagnostics.rules import EXPLODING_WARN, VANISHING_FAIL, VANISHING_WARN, judged_lags

MOST = 3  # panels side by side


def lag_gain(report: Report) -> Picture | None:
    """P1, lag gain of all subjects in one axes: how far back a gradient reaches."""
    subjects = report.subjects
    shown = having(subjects, "lag_gain")
    if not shown:
        return None
    styles = looks(subjects)
    lags = judged_lags(report.verdicts)
    first = shown[0].quantities["lag_gain"]
    lag = lags[0] if lags else len(first.value) - 1

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        draw_gains(axes, [(s, styles[s.name], is_main(s, subjects)) for s in shown], lags)
        legend(figure, [axes], 2 if len(shown) > 1 else 1)

    return Picture(
        name="lag-gain",
        heading="How far back a gradient reaches",
        height=3.4 + 0.17 * -(-len(shown) // 2),
        paint=paint,
        shows=(
            "What is left of a gradient after k steps back in time, for one step's loss alone. "
            "A straight line is a constant factor per step; the thin dotted line is ρᵏ with the "
            "factor ρ of the table, the diamond on it k*, where ρᵏ has fallen to 1/1000. The "
            "shaded band holds 80% of the single gains (10 to 90% quantile). Below the lines "
            "marked warn and fail rule R1 speaks; ε is the rounding unit of the number format: a "
            "gain below it is lost when it is added to a gradient of size 1." + missing(shown)
        ),
        columns=("run", f"G({lag})", "ρ, factor per step", "1/1000 left after"),
        rows=[reach(subject, lag) for subject in shown],
        how=first.how,
        cost=total_cost(shown, "lag_gain"),
    )


def draw_gains(
    axes: Axes, shown: Sequence[tuple[Subject, Look, bool]], lags: Sequence[int]
) -> None:
    """Draw lag gains in one axes.

    shown: subject, look, and whether its band and its rate are drawn too.  lags: the judged ones.
    """
    axes.set_yscale("log")
    for subject, look, main in shown:
        gain = subject.quantities["lag_gain"]
        at = np.arange(len(gain.value))
        if main:
            low, high = np.where(gain.band > 0, gain.band, np.nan).T
            axes.fill_between(at, low, high, color=look.colour, alpha=0.16, linewidth=0)
        axes.plot(
            at,
            drawable(gain.value),
            color=look.colour,
            linestyle=look.dashes,
            linewidth=look.width,
            label=look.label,
        )
    _thresholds(axes, [subject for subject, _, _ in shown])
    for subject, look, main in shown:
        if main and "decay_rate" in subject.quantities:
            _rate(axes, subject, look.colour)
    for lag in lags:
        left = lag < axes.get_xlim()[1] / 3  # no room for words on the left of the line
        axes.axvline(lag, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)))
        axes.annotate(
            f"judged: {lag}",
            (lag, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(4 if left else -4, 0),
            textcoords="offset points",
            ha="left" if left else "right",
            va="top",
            fontsize=9,
        )
    decades(axes, most=9)
    axes.set_xlim(left=0)
    axes.set_xlabel("lag k: steps back in time")
    axes.set_ylabel("gain G(k)")


def _rate(axes: Axes, subject: Subject, colour: str) -> None:
    """Draw rho^k, and the lag at which it reaches 1/1000."""
    rate, last = subject.quantities["decay_rate"], len(subject.quantities["lag_gain"].value) - 1
    if not 0 < rate.value < np.inf:
        return
    low, high = axes.get_ylim()
    at = np.linspace(0, last, 100)
    with np.errstate(over="ignore", under="ignore"):
        powers = rate.value**at
    powers = np.where((powers >= low) & (powers <= high), powers, np.nan)
    axes.plot(at, powers, color=colour, linewidth=0.9, linestyle=(0, (1, 2)))
    if rate.horizon <= last:
        axes.plot([rate.horizon], [HORIZON_GAIN], "D", color=colour, markersize=5, zorder=4)


def gradient_flow(report: Report) -> Picture | None:
    """P2, total, local and carried gradient over the steps, the gain of each step below."""
    subjects = report.subjects
    shown = [s for s in having(subjects, "gradient_flow") if is_main(s, subjects)]
    if not shown:
        return None
    styles = looks(subjects)
    first = shown[0].quantities["gradient_flow"]
    middle = len(first.value) // 2
    lines = lines_of(len(shown), MOST)

    def paint(figure: Figure) -> None:
        columns = across(len(shown), MOST)
        grid = figure.subplots(
            2 * lines, columns, sharex=True, sharey="row", squeeze=False,
            height_ratios=(2, 1) * lines,
        )  # fmt: skip
        for place in range(lines * columns):
            line, column = divmod(place, columns)
            upper, lower = grid[2 * line : 2 * line + 2, column]
            if place >= len(shown):
                upper.set_axis_off()
                lower.set_axis_off()
                continue
            _draw_flow(upper, lower, shown[place], styles[shown[place].name].colour)
            entitle(upper, shown[place].name, columns)
            if column == 0:
                upper.set_ylabel("norm")
                lower.set_ylabel("step gain")
        for upper in grid[::2, 0]:  # now that the whole row is drawn
            decades(upper, most=5)
        legend(figure, [grid[0, 0]], 3)

    return Picture(
        name="gradient-flow",
        heading="Total against local gradient",
        height=0.4 + 3.3 * lines,
        paint=paint,
        shows=(
            "Norm of the loss gradient at the state of every step. Each step's own loss adds the "
            "local part ε; the rest is carried back from later steps. A total that looks healthy "
            "at every t can hide vanishing, because every step adds afresh: the picture above "
            "asks one step alone. Below: the factor of one step back, "
            "‖carried‖ / ‖δ of the next row‖; 1 keeps a gradient. One step's factor says little "
            "about forty: in a gated cell most of what just entered by h is lost at once, and the "
            "rest lives on in slow units."
        ),
        columns=("run", f"total at t = {middle}", f"carried/local at t = {middle}", "step gain"),
        rows=[_flow_numbers(subject) for subject in shown],
        how=first.how,
        cost=total_cost(shown, "gradient_flow"),
    )


def _draw_flow(upper: Axes, lower: Axes, subject: Subject, colour: str) -> None:
    flow = subject.quantities["gradient_flow"]
    rows = np.arange(len(flow.value))
    upper.set_yscale("log")
    band = np.where(flow.ci > 0, flow.ci, np.nan)
    upper.fill_between(rows, band[:, 0], band[:, 1], color=colour, alpha=0.2, linewidth=0)
    upper.plot(rows, drawable(flow.value), color=colour, label="total δ")
    upper.plot(rows, drawable(flow.local_norm), color=INK, ls=(0, (3, 1.5)), lw=1, label="local ε")
    upper.plot(rows, drawable(flow.carried_norm), color=MUTED, ls=":", lw=1.4, label="carried")
    lower.axhline(1.0, color=INK, linewidth=0.8)
    lower.plot(rows[:-1], flow.step_gain, color=colour, linewidth=1.2)
    lower.set_xlabel("row t")


def _thresholds(axes: Axes, shown: Sequence[Subject]) -> None:
    """Draw the lines at which rules speak, and the rounding unit, if the axes reaches them."""
    gains = [subject.quantities["lag_gain"] for subject in shown]
    values = np.concatenate([gain.value for gain in gains])
    positive = values[np.isfinite(values) & (values > 0)]
    lowest = max(positive.min(initial=1.0), 1e-16) / 3
    highest = min(positive.max(initial=1.0), 1e16) * 3
    axes.set_ylim(lowest, highest)  # before lines are added: there may be no data to scale by
    lines = [
        (VANISHING_WARN, "warn", WARN),
        (VANISHING_FAIL, "fail", FAIL),
        (float(np.finfo(gains[0].dtype).eps), f"ε {gains[0].dtype}", MUTED),
        (EXPLODING_WARN, "explodes", WARN),
    ]
    for level, label, colour in lines:
        if lowest <= level <= highest or label == "warn":
            lowest = min(lowest, level / 3)
            axes.axhline(level, color=colour, linewidth=1.0, linestyle=(0, (1, 1.5)))
            below = label.startswith("ε")  # close below "fail": the words must not touch
            axes.annotate(
                label,
                (1.01, level),
                xycoords=("axes fraction", "data"),
                va="top" if below else "center",
                fontsize=9,
                color=INK,
                annotation_clip=False,
            )
    axes.axhline(1.0, color=GRID, linewidth=1.0)
    axes.set_ylim(lowest, highest)


def missing(shown: Sequence[Subject]) -> str:
    """Explain a line that cannot be seen."""
    gone = [s.name for s in shown if np.all(s.quantities["lag_gain"].value[3:] == 0)]
    return f" No line: {', '.join(gone)} loses everything within three steps." if gone else ""


def reach(subject: Subject, lag: int) -> list[str]:
    """Spell what is left of a subject's gradient at a lag, its rate and its horizon."""
    gain, rate = subject.quantities["lag_gain"], subject.quantities.get("decay_rate")
    lag = min(lag, len(gain.value) - 1)
    left = with_interval(gain.value[lag], gain.ci[lag])
    if rate is None:
        return [subject.name, left, "", ""]
    horizon = f"{rate.horizon:.0f} steps" if np.isfinite(rate.horizon) else short(rate.horizon)
    horizon = "at once" if rate.horizon == 0 else horizon
    return [subject.name, left, with_interval(rate.value, rate.ci, 3), horizon]


def _flow_numbers(subject: Subject) -> list[str]:
    flow = subject.quantities["gradient_flow"]
    known = flow.step_gain[np.isfinite(flow.step_gain)]
    middle = len(flow.value) // 2
    local = float(flow.local_norm[middle])
    return [
        subject.name,
        with_interval(flow.value[middle], flow.ci[middle]),
        short(float(flow.carried_norm[middle]) / local) if local else "no local part",
        short(float(np.median(known)), 3) if len(known) else "nothing arrives",
    ]
