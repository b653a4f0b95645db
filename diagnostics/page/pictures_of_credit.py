"""Pictures of where the gradient of the parameters comes from, and what truncation leaves out."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.numbers import short
from diagnostics.page.picture import (
    Picture,
    across,
    decades,
    drawable,
    entitle,
    having,
    legend,
    lines_of,
    looks,
    total_cost,
)
from diagnostics.page.svg import INK, MUTED, SERIES
from diagnostics.quantities.credit import SHARE
from diagnostics.report import Report, Subject

MOST = 3
SMALL = 0.1  # an error of the gradient that a reader may call small


def credit(report: Report) -> Picture | None:
    """P9, the norm of each step's share, split by gate, and the share of the last steps."""
    shown = [s for s in having(report.subjects, "credit") if np.any(s.quantities["credit"].value)]
    if not shown:
        return None
    gates = list(dict.fromkeys(k for s in shown for k in s.quantities["credit"].gates))
    colours = {gate: SERIES[place % len(SERIES)] for place, gate in enumerate(gates)}
    lines = lines_of(len(shown), MOST)

    def paint(figure: Figure) -> None:
        columns = across(len(shown), MOST)
        grid = figure.subplots(
            2 * lines, columns, sharex=True, squeeze=False, height_ratios=(2, 1) * lines
        )
        for place in range(lines * columns):
            line, column = divmod(place, columns)
            upper, lower = grid[2 * line : 2 * line + 2, column]
            if place >= len(shown):
                upper.set_axis_off()
                lower.set_axis_off()
                continue
            _stack(upper, shown[place], colours)
            entitle(upper, shown[place].name, columns)
            _cumulated(lower, shown[place])
            if column == 0:
                upper.set_ylabel("‖g at step t‖")
                lower.set_ylabel("share")
        legend(figure, grid[::2].flat, 4)

    return Picture(
        name="credit",
        heading="Which steps and gates learn",
        height=0.6 + 2.9 * lines,
        paint=paint,
        shows=(
            "The gradient of the parameters is a sum over steps. Above: the norm of each step's "
            "share, split among the gates in proportion to their squares. Below: the share of the "
            f"credit that lies at or after t; the dotted line is {SHARE:.0%}. Coherence is the "
            "norm of the sum over the sum of the norms: 1 where all steps agree, near 0 where "
            "they cancel."
        ),
        columns=("run", "coherence", f"{SHARE:.0%} of the credit lies in", "gate with most"),
        rows=[_credit_numbers(subject) for subject in shown],
        how=shown[0].quantities["credit"].how,
        cost=total_cost(shown, "credit"),
    )


def _stack(axes: Axes, subject: Subject, colours: dict[str, str]) -> None:
    found = subject.quantities["credit"]
    squares = {k: np.square(drawable(v)) for k, v in found.gates.items()}
    squares = {k: np.nan_to_num(square) for k, square in squares.items()}
    whole = np.sum(list(squares.values()), axis=0)
    value = np.nan_to_num(drawable(found.value))  # what is not finite leaves a gap
    scale = np.divide(value, whole, out=np.zeros_like(whole), where=whole > 0)
    steps, low = np.arange(len(found.value)), np.zeros(len(found.value))
    for gate, square in squares.items():
        high = low + square * scale
        axes.fill_between(steps, low, high, color=colours[gate], alpha=0.8, linewidth=0, label=gate)
        low = high
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)


def _cumulated(axes: Axes, subject: Subject) -> None:
    value = np.asarray(subject.quantities["credit"].value, np.float64)
    with np.errstate(invalid="ignore"):  # no shares of an infinite sum
        later = np.cumsum(value[::-1])[::-1] / value.sum()
    axes.plot(np.arange(len(value)), later, color=INK, linewidth=1.3)
    axes.axhline(SHARE, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)))
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("step t")


def _credit_numbers(subject: Subject) -> list[str]:
    found = subject.quantities["credit"]
    ends = found.reach_ci
    reach = f"the last {found.reach:.0%} of steps" if np.isfinite(found.reach) else "no step"
    if ends is not None and np.isfinite(ends).all():
        reach += f" [{ends[0]:.0%}, {ends[1]:.0%}]"
    sizes = {gate: float(np.sum(np.square(v))) for gate, v in found.gates.items()}
    most = max(sizes, key=lambda gate: sizes[gate])
    return [subject.name, short(found.coherence, 2), reach, f"{most} ({_part(sizes, most)})"]


def _part(sizes: dict[str, float], gate: str) -> str:
    whole = sum(sizes.values())
    return f"{sizes[gate] / whole:.0%} of squares" if whole > 0 else "none"


def truncation(report: Report) -> Picture | None:
    """P10, the error of truncated backpropagation by chunk length."""
    shown = having(report.subjects, "tbptt_error")
    if not shown:
        return None
    styles = looks(report.subjects)

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharex=True)
        for subject in shown:
            found, look = subject.quantities["tbptt_error"], styles[subject.name]
            for axes, values in ((left, found.value), (right, 1 - found.cosine)):
                axes.plot(
                    found.chunks, drawable(values), color=look.colour, linestyle=look.dashes,
                    linewidth=look.width, marker="o", markersize=3.5, label=look.label,
                )  # fmt: skip
        for axes, label in ((left, "‖gₖ − g‖ / ‖g‖"), (right, "1 − cos(gₖ, g)")):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xlabel("steps per chunk k")
            axes.set_ylabel(label)
            decades(axes, most=5)
        left.axhline(SMALL, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)))
        legend(figure, [left], 2 if len(shown) > 1 else 1)

    return Picture(
        name="truncation",
        heading="What truncation leaves out",
        height=2.9 + 0.17 * -(-len(shown) // 2),
        paint=paint,
        shows=(
            "Truncated backpropagation cuts the history every k steps. Left: the relative error of "
            f"its gradient (dotted: {SMALL:.0%}); right: how far its direction is off. With the "
            "whole sequence in one chunk there is no error, and no point on a logarithmic axis. "
            "Where the curve is flat, longer chunks buy nothing."
        ),
        columns=("run", *(f"k = {k}" for k in _some_chunks(shown[0])),
                 f"error below {SMALL:.0%} from"),
        rows=[_truncation_numbers(subject, _some_chunks(shown[0])) for subject in shown],
        how="gradient of all parameters of the model with the states detached every k steps, "
        "against the gradient with the whole history; exact on this batch, so without interval",
        cost=total_cost(shown, "tbptt_error"),
    )  # fmt: skip


def _some_chunks(subject: Subject) -> list[int]:
    """Pick a few chunk lengths for the table: the first, two in between."""
    chunks = [int(k) for k in subject.quantities["tbptt_error"].chunks]
    return sorted({chunks[0], chunks[len(chunks) // 3], chunks[2 * len(chunks) // 3]})


def _truncation_numbers(subject: Subject, at: list[int]) -> list[str]:
    found = subject.quantities["tbptt_error"]
    errors = dict(zip((int(k) for k in found.chunks), found.value, strict=True))
    small = [k for k, error in errors.items() if error < SMALL]
    spelled = [short(float(errors[k])) if k in errors else "" for k in at]
    return [subject.name, *spelled, f"{min(small)} steps" if small else "never"]
