"""P11, pictures of clipping: how often and how hard, and what it did to the direction."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import (
    Picture,
    across,
    decades,
    drawable,
    entitle,
    having,
    kind,
    legend,
    lines_of,
    looks,
    outer_labels,
    panels,
    total_cost,
)
from diagnostics.page.pictures_of_training import RUNNING, running_mean
from diagnostics.page.svg import FAIL, INK, MUTED, SERIES, WARN
from diagnostics.quantities.clipping import Clipping
from diagnostics.report import Report, Subject
from diagnostics.rules import CLIPPED_FAIL, CLIPPED_WARN

MOST = 3


def clipping(report: Report) -> Picture | None:
    """P11 a to c, gradient norm before and after clipping, its histogram, the running fraction."""
    subjects = report.subjects
    measured = having(subjects, "clipping")
    clipped = [s for s in measured if s.quantities["clipping"].max_norm is not None]
    if not clipped:
        return None
    styles = looks(subjects)
    lines = lines_of(len(clipped), MOST)

    def paint(figure: Figure) -> None:
        columns = across(len(clipped), MOST)
        grid = figure.subplots(3 * lines, columns, sharey="row", squeeze=False)
        for place in range(lines * columns):
            line, column = divmod(place, columns)
            block = grid[3 * line : 3 * line + 3, column]
            if place >= len(clipped):
                for axes in block:
                    axes.set_axis_off()
                continue
            subject = clipped[place]
            others = [s for s in measured if kind(s) == kind(subject) and s is not subject]
            _norms(block[0], subject, others, styles[subject.name].colour)
            entitle(block[0], subject.name, columns)
            clip, colour = subject.quantities["clipping"], styles[subject.name].colour
            _histogram(block[1], clip, colour)
            _fraction(block[2], clip, colour)
            if column == 0:
                for axes, label in zip(block, ("norm", "steps", "clipped"), strict=True):
                    axes.set_ylabel(label)
        for norms in grid[::3, 0]:  # now that the whole row is drawn
            decades(norms)
        legend(figure, [grid[0, 0]], 3)

    return Picture(
        name="clipping",
        heading="What clipping did",
        height=0.4 + 4.6 * lines,
        paint=paint,
        shows=(
            "Top: norm of all gradients together at every training step; the dashed line is the "
            "threshold, ticks at the bottom mark the steps that were clipped. Middle: histogram of "
            "the norm before clipping, ticks at P50, P90 and P99. "
            f"Bottom: fraction of the last {RUNNING} steps that were clipped; rule R9 warns above "
            f"{CLIPPED_WARN:.0%} and fails above {CLIPPED_FAIL:.0%}, where the threshold rather "
            "than the learning rate sets the step size." + _kept_direction(clipped)
        ),
        columns=("run", "P50", "P90", "P99", "clipped", "not finite", "loss on unseen text"),
        rows=[_clip_numbers(subject) for subject in measured],
        how=clipped[0].quantities["clipping"].how + "; counted, so without interval",
        cost="no extra sweep: the norms are what clipping needs anyway",
    )


def _norms(axes: Axes, subject: Subject, others: list[Subject], colour: str) -> None:
    clip = subject.quantities["clipping"]
    for other in others:
        _norm_line(axes, other.quantities["clipping"].pre, MUTED, "without clipping", 0.8)
    _norm_line(axes, clip.pre, colour, "before clipping", 1.0)
    _norm_line(axes, clip.post, INK, "after clipping", 0.8)
    axes.axhline(clip.max_norm, color=FAIL, linewidth=0.9, linestyle=(0, (3, 1.5)))
    axes.set_yscale("log")
    axes.vlines(np.flatnonzero(clip.clipped), 0.0, 0.04, color=INK, linewidth=0.4,
                transform=axes.get_xaxis_transform())  # fmt: skip


def _kept_direction(clipped: list[Subject]) -> str:
    """Say what the recorded cosines between before and after are (P11 d)."""
    known = {
        s.name: np.asarray(s.quantities["training"].strips["cosine"], np.float64)
        for s in clipped
        if "training" in s.quantities and "cosine" in s.quantities["training"].strips
    }
    lowest = [(name, v[np.isfinite(v)].min()) for name, v in known.items() if np.isfinite(v).any()]
    if not lowest:
        return ""
    said = ", ".join(f"{name} {least:.6f}" for name, least in lowest)
    return (
        " The direction was kept: smallest cosine between the gradient before and after, at the "
        f"steps recorded: {said}."
    )


def _norm_line(axes: Axes, norms: np.ndarray, colour: str, label: str, width: float) -> None:
    axes.plot(np.arange(len(norms)), drawable(norms), color=colour, linewidth=width, label=label)


def _histogram(axes: Axes, clip: Clipping, colour: str) -> None:
    logs = np.log10(clip.pre[np.isfinite(clip.pre) & (clip.pre > 0)])
    if not len(logs):
        return
    axes.hist(
        10.0**logs,
        bins=list(10.0 ** np.linspace(logs.min(), logs.max() + 1e-9, 25)),
        color=colour,
        alpha=0.6,
    )
    axes.set_xscale("log")
    axes.axvline(clip.max_norm or np.nan, color=FAIL, linewidth=0.9, linestyle=(0, (3, 1.5)))
    for percentile in clip.percentiles:
        axes.axvline(percentile, ymax=0.12, color=INK, linewidth=1.2)
    decades(axes, "x", most=4)
    axes.set_xlabel("norm before")


def _fraction(axes: Axes, clip: Clipping, colour: str) -> None:
    axes.plot(running_mean(clip.clipped.astype(float)), color=colour, linewidth=1.2)
    for level, line in ((CLIPPED_WARN, WARN), (CLIPPED_FAIL, FAIL)):
        axes.axhline(level, color=line, linewidth=1.0, linestyle=(0, (1, 1.5)))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("training step")


def _clip_numbers(subject: Subject) -> list[str]:
    clip = subject.quantities["clipping"]
    percentiles = [short(float(p)) for p in clip.percentiles]
    clipped = "off" if clip.max_norm is None else f"{clip.value:.1%}"
    training = subject.quantities.get("training")
    unseen = "" if training is None else with_interval(training.value, training.ci, 3)
    return [subject.name, *percentiles, clipped, str(clip.nonfinite_steps), unseen]


def direction(report: Report) -> Picture | None:
    """P11 d, what one act of clipping did: its cosine, and whose the norm was."""
    shown = having(report.subjects, "clip_direction")
    if not shown:
        return None
    names = list(dict.fromkeys(k for s in shown for k in s.quantities["clip_direction"].share))
    styles = looks(report.subjects)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        height = 0.8 / len(shown)
        for place, subject in enumerate(shown):
            share = subject.quantities["clip_direction"].share
            at = np.arange(len(names))[::-1] + 0.4 - (place + 0.5) * height
            axes.barh(at, np.nan_to_num([share.get(n, 0.0) for n in names], posinf=0.0), height,
                      color=styles[subject.name].colour, label=subject.name)  # fmt: skip
        axes.set_yticks(np.arange(len(names))[::-1], [textwrap.fill(n, 24) for n in names])
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the squared norm before clipping")
        legend(figure, [axes], 2 if len(shown) > 1 else 1)

    return Picture(
        name="clip-direction",
        heading="Whose norm is clipped",
        height=1.1 + 0.25 * len(names) * max(1.0, 0.6 * len(shown)),
        paint=paint,
        shows=(
            "Which parameters the norm that clipping looks at comes from. Clipping the norm of all "
            "gradients together keeps their direction (cosine 1); clipping single values turns it."
        ),
        columns=("run", "cosine", "norm before", "after", "entries changed"),
        rows=[_direction_numbers(subject) for subject in shown],
        how=shown[0].quantities["clip_direction"].how + "; one act, so without interval",
        cost=total_cost(shown, "clip_direction"),
    )


def in_graph(report: Report) -> Picture | None:
    """P11 e, the gradient over the rows with and without clipping inside the graph."""
    shown = having(report.subjects, "graph_clipping")
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        drawn = panels(figure, len(shown), MOST, sharex=True, sharey=True)
        for axes, subject in zip(drawn, shown, strict=True):
            found = subject.quantities["graph_clipping"]
            rows = np.arange(len(found.total_norm))
            axes.set_yscale("log")
            axes.plot(rows, drawable(found.total_norm), color=SERIES[0], label="as it is")
            axes.plot(rows, drawable(found.clipped_norm), color=SERIES[1], lw=1.2,
                      linestyle=(0, (3, 1.5)), label="clipped at every step back")  # fmt: skip
            axes.axhline(found.clip, color=FAIL, linewidth=0.9, linestyle=(0, (1, 1.5)))
            entitle(axes, subject.name, across(len(shown), MOST))
        decades(drawn[0], most=5)
        outer_labels(drawn, "row t", "norm of δ", MOST)
        legend(figure, [drawn[0]], 2)

    return Picture(
        name="graph-clipping",
        heading="Clipping inside the graph",
        height=0.9 + 1.8 * lines_of(len(shown), MOST),
        paint=paint,
        shows=(
            "Norm of δ at every row, and what it would be if each sequence's δ were scaled down to "
            "the dotted line before every step back. Unlike clipping the sum, this changes the "
            "direction of the parameters' gradient: the cosine says by how much (1: not at all)."
        ),
        columns=("run", "threshold", "steps scaled", "cosine"),
        rows=[
            [s.name, short(q.clip), f"{q.fraction:.0%}", f"{q.value:.3f}"]
            for s in shown
            for q in [s.quantities["graph_clipping"]]
        ],
        how=shown[0].quantities["graph_clipping"].how + "; computed, so without interval",
        cost=total_cost(shown, "graph_clipping"),
    )


def _direction_numbers(subject: Subject) -> list[str]:
    found = subject.quantities["clip_direction"]
    norms = short(found.pre), short(found.post)
    return [subject.name, f"{found.value:.4f}", *norms, f"{found.changed:.0%}"]
