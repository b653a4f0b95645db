"""Pictures of training: gradient norms on the way, what clipping did, how the loss went."""

import numpy as np
from matplotlib.axes import Axes

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import Picture, decades, having, is_main, kind, looks, spoken
from diagnostics.page.svg import FAIL, INK, MUTED, WARN, canvas, inline
from diagnostics.quantities.clipping import Clipping
from diagnostics.report import Report, Subject
from diagnostics.rules import CLIPPED_FAIL, CLIPPED_WARN

RUNNING = 25  # training steps of the running fraction and the running mean of the loss


def heat_map(report: Report) -> Picture | None:
    """Gradient norm by training step and time step, one map per run."""
    subjects = report.subjects
    shown = [s for s in having(subjects, "training") if s.quantities["training"].flow.size]
    if not shown:
        return None
    kinds = list(dict.fromkeys(kind(subject) for subject in shown))
    columns = len(kinds) if len(shown) > len(kinds) else min(3, len(shown))
    if len(shown) > len(kinds):  # a column per cell, its variants below each other
        shown.sort(key=lambda s: (not is_main(s, subjects), kinds.index(kind(s))))
    lines = -(-len(shown) // columns)
    maps = [_log(subject.quantities["training"].flow) for subject in shown]
    finite = np.concatenate([m[np.isfinite(m)] for m in maps])
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    with canvas(1.0 + 1.5 * lines) as figure:
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for axes, subject, values in zip(grid.flat, shown, maps, strict=False):
            steps = subject.quantities["training"].flow_steps
            image = axes.imshow(
                values.T,
                origin="lower",
                aspect="auto",
                interpolation="none",
                cmap="viridis",
                vmin=low,
                vmax=high,
                extent=(0, int(steps[-1]) + 1, 0, values.shape[1]),
            )
            axes.set_title(subject.name)
            axes.grid(False)
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        for axes in grid[:, 0]:
            axes.set_ylabel("row t")
        bar = figure.colorbar(image, ax=grid, location="bottom", aspect=45, shrink=0.8)
        bar.set_label("log₁₀ of the norm of δ at row t")
        header = ("run", "first row / last row at the start", "at the end")
        rows = [_heat_numbers(subject) for subject in shown]
        svg = inline(figure, "heat-map", "Gradient norm over training", spoken(header, rows))
    return Picture(
        name="heat-map",
        heading="Gradient norm over training and time",
        svg=svg,
        shows=(
            "Each column is one training step, each row a time step of its sequences; bright is "
            "large. Bright stripes are steps at which the gradient blew up. A flat column is no "
            "proof of memory: with a loss at every step the local parts keep the total level."
        ),
        columns=header,
        rows=rows,
        how=(
            "median over sequences of the norm of δ at each row, before any clipping, recorded "
            f"at {len(shown[0].quantities['training'].flow_steps)} training steps"
        ),
        cost="no extra sweep: a by-product of the backward pass",
    )


def clipping(report: Report) -> Picture | None:
    """Gradient norm before and after clipping, its histogram, and the running fraction."""
    subjects = report.subjects
    measured = having(subjects, "clipping")
    clipped = [s for s in measured if s.quantities["clipping"].max_norm is not None]
    if not clipped:
        return None
    styles = looks(subjects)
    with canvas(4.9) as figure:
        grid = figure.subplots(3, len(clipped), sharey="row", squeeze=False)
        for column, subject in enumerate(clipped):
            clip, colour = subject.quantities["clipping"], styles[subject.name].colour
            others = [s for s in measured if kind(s) == kind(subject) and s is not subject]
            norms, histogram, fraction = grid[:, column]
            for other in others:
                _norm_line(norms, other.quantities["clipping"].pre, MUTED, "without clipping", 0.8)
            _norm_line(norms, clip.pre, colour, "before clipping", 1.0)
            _norm_line(norms, clip.post, INK, "after clipping", 0.8)
            norms.axhline(clip.max_norm, color=FAIL, linewidth=0.9, linestyle=(0, (3, 1.5)))
            norms.set_yscale("log")
            norms.set_title(subject.name)
            _histogram(histogram, clip, colour)
            _fraction(fraction, clip, colour)
        decades(grid[0, 0])
        for axes, label in zip(grid[:, 0], ("norm", "steps", "fraction clipped"), strict=True):
            axes.set_ylabel(label)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        columns: tuple[str, ...] = (
            "run", "P50", "P90", "P99", "clipped", "not finite", "loss on unseen text",
        )  # fmt: skip
        rows = [_clip_numbers(subject) for subject in measured]
        if not having(subjects, "training"):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        svg = inline(figure, "clipping", "What clipping did", spoken(columns, rows))
    return Picture(
        name="clipping",
        heading="What clipping did",
        svg=svg,
        shows=(
            "Top: norm of all gradients together at every training step; the dashed line is the "
            "threshold. Middle: histogram of the norm before clipping, ticks at P50, P90 and P99. "
            f"Bottom: fraction of the last {RUNNING} steps that were clipped; rule R9 warns above "
            f"{CLIPPED_WARN:.0%} and fails above {CLIPPED_FAIL:.0%}, where the threshold rather "
            "than the learning rate sets the step size."
        ),
        columns=columns,
        rows=rows,
        how=clipped[0].quantities["clipping"].how + "; counted, so without interval",
        cost="no extra sweep: the norms are what clipping needs anyway",
    )


def loss(report: Report) -> Picture | None:
    """Training loss of all runs in one axes."""
    subjects = report.subjects
    shown = having(subjects, "training")
    if not shown:
        return None
    styles = looks(subjects)
    with canvas(3.2) as figure:
        axes = figure.add_subplot()
        for subject in shown:
            training, look = subject.quantities["training"], styles[subject.name]
            mean = running_mean(training.loss)
            axes.plot(
                np.arange(len(mean)),
                mean,
                color=look.colour,
                linestyle=look.dashes,
                linewidth=1.8 if look.dashes == "-" else 1.1,
                label=look.label,
            )
        first = np.concatenate([s.quantities["training"].loss[:1] for s in shown])
        start = float(np.nanmax(first)) if np.isfinite(first).any() else 1.0
        means = np.concatenate([running_mean(s.quantities["training"].loss) for s in shown])
        axes.set_ylim(0.9 * np.nanmin(means), 1.2 * start)
        axes.set_xlabel("training step")
        axes.set_ylabel("loss, nats per character")
        figure.legend(loc="outside lower center", ncols=2 if len(shown) > 1 else 1)
        columns: tuple[str, ...] = ("run", "last training loss", "loss on unseen text", "note")
        rows = [_loss_numbers(subject) for subject in shown]
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        svg = inline(figure, "loss", "Training loss", spoken(columns, rows))
    return Picture(
        name="loss",
        heading="Loss",
        svg=svg,
        shows=(
            f"Training loss, running mean over {RUNNING} steps. "
            "Runs that leave the picture at the top diverged."
        ),
        columns=columns,
        rows=rows,
        how=shown[0].quantities["training"].how,
        cost=str(shown[0].quantities["training"].cost),
    )


def running_mean(values: np.ndarray, window: int = RUNNING) -> np.ndarray:
    """Mean over the last `window` values at every place; at the start over those there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _norm_line(axes: Axes, norms: np.ndarray, colour: str, label: str, width: float) -> None:
    drawable = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    axes.plot(np.arange(len(norms)), drawable, color=colour, linewidth=width, label=label)


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


def _loss_numbers(subject: Subject) -> list[str]:
    training = subject.quantities["training"]
    last = short(float(running_mean(training.loss)[-1]), 3)
    unseen = with_interval(training.value, training.ci, 3)
    return [subject.name, last, unseen, training.stopped]


def _heat_numbers(subject: Subject) -> list[str]:
    flow = subject.quantities["training"].flow
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flow[:, 1] / flow[:, -1]
    return [subject.name, short(float(ratio[0])), short(float(ratio[-1]))]


def _log(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    return np.where(np.isfinite(logs), logs, np.nan)
