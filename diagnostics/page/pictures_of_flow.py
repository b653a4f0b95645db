"""Pictures of how gradients flow through time: lag gain, total against local."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import (
    Picture,
    decades,
    having,
    is_main,
    looks,
    spoken,
    total_cost,
)
from diagnostics.page.svg import FAIL, GRID, INK, MUTED, WARN, canvas, inline
from diagnostics.report import Report, Subject
from diagnostics.rules import EXPLODING_WARN, VANISHING_FAIL, VANISHING_WARN


def lag_gain(report: Report) -> Picture | None:
    """Lag gain of all subjects in one axes: how far back a gradient reaches."""
    subjects = report.subjects
    shown = having(subjects, "lag_gain")
    if not shown:
        return None
    styles = looks(subjects)
    with canvas(3.5) as figure:
        axes = figure.add_subplot()
        axes.set_yscale("log")
        for subject in shown:
            gain, look = subject.quantities["lag_gain"], styles[subject.name]
            lags = np.arange(len(gain.value))
            main = is_main(subject, subjects)
            if main:
                band = np.where(gain.band > 0, gain.band, np.nan)
                axes.fill_between(
                    lags, band[:, 0], band[:, 1], color=look.colour, alpha=0.16, linewidth=0
                )
            axes.plot(
                lags,
                _drawable(gain.value),
                color=look.colour,
                linestyle=look.dashes,
                linewidth=1.8 if main else 1.1,
                label=look.label,
            )
        _thresholds(axes, shown)
        for lag in sorted({v.lag for v in report.verdicts if v.lag is not None}):
            axes.axvline(lag, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)))
            axes.annotate(
                f"judged: {lag}",
                (lag, 0.98),
                xycoords=("data", "axes fraction"),
                xytext=(-3, 0),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8,
            )
        decades(axes, most=9)
        axes.set_xlim(left=0)
        axes.set_xlabel("lag k: steps back in time")
        axes.set_ylabel("gain G(k)")
        figure.legend(loc="outside lower center", ncols=2 if len(shown) > 1 else 1)
        first = shown[0].quantities["lag_gain"]
        lag = next((v.lag for v in report.verdicts if v.lag is not None), len(first.value) - 1)
        columns = ("run", f"G({lag})", "factor per step", "1/1000 left after")
        rows = [_reach(subject, lag) for subject in shown]
        svg = inline(figure, "lag-gain", "Lag gain", spoken(columns, rows))
    return Picture(
        name="lag-gain",
        heading="How far back a gradient reaches",
        svg=svg,
        shows=(
            "What is left of a gradient after k steps back in time, for one step's loss alone. "
            "A straight line is a constant factor per step. The shaded band holds 80% of the "
            "single gains (10 to 90% quantile). Below the lines marked warn and fail rule R1 "
            "speaks; ε is the rounding unit of the number format: a gain below it is lost when "
            "it is added to a gradient of size 1." + _missing(shown)
        ),
        columns=columns,
        rows=rows,
        how=first.how,
        cost=total_cost(shown, "lag_gain"),
    )


def gradient_flow(report: Report) -> Picture | None:
    """Total, local and carried gradient over the steps, with the gain of each step below."""
    subjects = report.subjects
    shown = [s for s in having(subjects, "gradient_flow") if is_main(s, subjects)]
    if not shown:
        return None
    styles = looks(subjects)
    with canvas(3.6) as figure:
        grid = figure.subplots(
            2, len(shown), sharex=True, sharey="row", squeeze=False, height_ratios=(2, 1)
        )
        for column, subject in enumerate(shown):
            flow, colour = subject.quantities["gradient_flow"], styles[subject.name].colour
            upper, lower = grid[:, column]
            rows = np.arange(len(flow.value))
            upper.set_yscale("log")
            band = np.where(flow.ci > 0, flow.ci, np.nan)
            upper.fill_between(rows, band[:, 0], band[:, 1], color=colour, alpha=0.2, linewidth=0)
            upper.plot(rows, _drawable(flow.value), color=colour, label="total δ")
            upper.plot(
                rows, _drawable(flow.local_norm), color=INK, ls=(0, (3, 1.5)), lw=1, label="local ε"
            )
            upper.plot(
                rows, _drawable(flow.carried_norm), color=MUTED, ls=":", lw=1.4, label="carried"
            )
            upper.set_title(subject.name)
            lower.axhline(1.0, color=INK, linewidth=0.8)
            lower.plot(rows[:-1], flow.step_gain, color=colour, linewidth=1.2)
            lower.set_xlabel("row t")
        decades(grid[0, 0], most=5)
        grid[0, 0].set_ylabel("norm")
        grid[1, 0].set_ylabel("step gain")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        first = shown[0].quantities["gradient_flow"]
        middle = len(first.value) // 2
        columns = ("run", f"total at t = {middle}", f"carried/local at t = {middle}", "step gain")
        table = [_flow_numbers(subject) for subject in shown]
        svg = inline(figure, "gradient-flow", "Total and local gradient", spoken(columns, table))
    return Picture(
        name="gradient-flow",
        heading="Total against local gradient",
        svg=svg,
        shows=(
            "Norm of the loss gradient at the state of every step. Each step's own loss adds the "
            "local part ε; the rest is carried back from later steps. A total that looks healthy "
            "at every t can hide vanishing, because every step adds afresh: the picture above "
            "asks one step alone. Below: the factor of one step back, "
            "‖carried‖ / ‖δ of the next row‖; 1 keeps a gradient. One step's factor says little "
            "about forty: in a gated cell most of what just entered by h is lost at once, and the "
            "rest lives on in slow units."
        ),
        columns=columns,
        rows=table,
        how=first.how,
        cost=total_cost(shown, "gradient_flow"),
    )


def _thresholds(axes: Axes, shown: Sequence[Subject]) -> None:
    """Draw the lines at which rules speak, and the rounding unit, if the axes reaches them."""
    gains = [subject.quantities["lag_gain"] for subject in shown]
    values = np.concatenate([gain.value for gain in gains])
    positive = values[np.isfinite(values) & (values > 0)]
    lowest = max(positive.min(initial=1.0), 1e-16) / 3
    highest = min(positive.max(initial=1.0), 1e16) * 3
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
            axes.annotate(
                label,
                (1.01, level),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=INK,
                annotation_clip=False,
            )
    axes.axhline(1.0, color=GRID, linewidth=1.0)
    axes.set_ylim(lowest, highest)


def _missing(shown: Sequence[Subject]) -> str:
    """Explain a line that cannot be seen."""
    gone = [s.name for s in shown if np.all(s.quantities["lag_gain"].value[3:] == 0)]
    return f" No line: {', '.join(gone)} loses everything within three steps." if gone else ""


def _reach(subject: Subject, lag: int) -> list[str]:
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


def _drawable(values: np.ndarray) -> np.ndarray:
    """Leave out what a logarithmic axis cannot show."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
