"""Pictures of training: gradient norms on the way, what changed with them, how the loss went."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullLocator

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import (
    Look,
    Picture,
    drawable,
    entitle,
    having,
    is_main,
    kind,
    legend,
    logs,
    looks,
)
from diagnostics.page.svg import MUTED
from diagnostics.report import Report, Subject

RUNNING = 25  # training steps of the running fraction and the running mean of the loss
STRIPS = {"rho": "ρ", "clipped": "clipped", "update": "update"}


def timeline(report: Report) -> Picture | None:
    """P12, gradient norm by training step and time step; below it what changed meanwhile."""
    subjects = report.subjects
    shown = [s for s in having(subjects, "training") if s.quantities["training"].flow.size]
    if not shown:
        return None
    kinds = list(dict.fromkeys(kind(subject) for subject in shown))
    columns = len(kinds) if len(kinds) < len(shown) <= 3 * len(kinds) else min(3, len(shown))
    columns = min(columns, 3)
    if columns == len(kinds) < len(shown):  # a column per cell, its variants below each other
        shown.sort(key=lambda s: (not is_main(s, subjects), kinds.index(kind(s))))
    lines = -(-len(shown) // columns)
    strips = [name for name in STRIPS if any(_strip(s, name) is not None for s in shown)]
    styles = looks(subjects)

    def paint(figure: Figure) -> None:
        high = 1 + len(strips)
        grid = figure.subplots(
            lines * high, columns, sharex=True, sharey="row", squeeze=False,
            height_ratios=(3, *(1 for _ in strips)) * lines,
        )  # fmt: skip
        low, top = _range(shown)
        image = None
        for place in range(lines * columns):
            line, column = divmod(place, columns)
            block = grid[line * high : (line + 1) * high, column]
            if place >= len(shown):
                for axes in block:
                    axes.set_axis_off()
                continue
            subject = shown[place]
            image = _map(block[0], subject, low, top)
            entitle(block[0], subject.name, columns)
            for axes, name in zip(block[1:], strips, strict=True):
                _draw_strip(axes, subject, name, styles[subject.name])
            if column == 0:
                for axes, label in zip(block, ("row t", *(STRIPS[n] for n in strips)), strict=True):
                    axes.set_ylabel(label, fontsize=9)
        if "update" in strips:
            for row in grid[high - 1 :: high]:
                _two_ticks(row)
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        if image is not None:
            bar = figure.colorbar(image, ax=grid, location="bottom", aspect=45, shrink=0.8)
            bar.set_label("log₁₀ of the norm of δ at row t")

    return Picture(
        name="timeline",
        heading="Gradient norm over training and time",
        height=1.0 + lines * (1.4 + 0.55 * len(strips)),
        paint=paint,
        shows=(
            "Each column is one training step, each row a time step of its sequences; bright is "
            "large. Bright stripes are steps at which the gradient blew up. A flat column is no "
            "proof of memory: with a loss at every step the local parts keep the total level."
            + _strip_words(strips)
        ),
        columns=("run", "first row / last row at the start", "at the end",
                 *(f"{STRIPS[name]} at the end" for name in strips)),
        rows=[_timeline_numbers(subject, strips) for subject in shown],
        how=(
            "median over sequences of the norm of δ at each row, before any clipping, recorded "
            f"at {len(shown[0].quantities['training'].flow_steps)} training steps; recorded, so "
            "without interval"
        ),
        cost="a by-product of the backward pass; ρ takes one more pullback where it is recorded",
    )  # fmt: skip


def _range(shown: Sequence[Subject]) -> tuple[float, float]:
    """Pick the ends of the colour scale: outliers do not decide it."""
    maps = [logs(subject.quantities["training"].flow) for subject in shown]
    finite = np.concatenate([m[np.isfinite(m)] for m in maps])
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def _map(axes: Axes, subject: Subject, low: float, high: float) -> AxesImage:
    training = subject.quantities["training"]
    axes.grid(False)
    return axes.imshow(
        logs(training.flow).T,
        origin="lower",
        aspect="auto",
        interpolation="none",
        cmap="viridis",
        vmin=low,
        vmax=high,
        extent=(0, int(training.flow_steps[-1]) + 1, 0, training.flow.shape[1]),
    )


def _strip(subject: Subject, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return training steps and values of what is drawn below the map, where it was recorded."""
    training, clip = subject.quantities["training"], subject.quantities.get("clipping")
    if name == "clipped":
        if clip is None or clip.max_norm is None:
            return None
        fraction = running_mean(clip.clipped.astype(float))
        return np.arange(len(fraction)), fraction
    if name not in training.strips:
        return None
    return np.asarray(training.flow_steps), np.asarray(training.strips[name], np.float64)


def _draw_strip(axes: Axes, subject: Subject, name: str, look: Look) -> None:
    found = _strip(subject, name)
    if name == "clipped":
        axes.set(ylim=(-0.05, 1.05), yticks=(0, 1))
    if name == "rho":
        axes.axhline(1.0, color=MUTED, linewidth=0.8)
    if found is None:
        return
    steps, values = found
    if name == "update":
        axes.set_yscale("log")
        values = drawable(values)
    axes.plot(steps, values, color=look.colour, linewidth=1.1)


def _two_ticks(row: Sequence[Axes]) -> None:
    """Label the lowest and the highest value of a row: a strip has no room for more."""
    lines = [np.asarray(line.get_ydata()) for axes in row for line in axes.get_lines()]
    values = np.concatenate([v[np.isfinite(v)] for v in lines] or [np.empty(0)])
    if values.size:
        ends = float(values.min()), float(values.max())
        row[0].set_yticks(ends, [short(end, 1) for end in ends])
        row[0].yaxis.set_minor_locator(NullLocator())


def _strip_words(strips: Sequence[str]) -> str:
    words = {
        "rho": "ρ: factor per step of a random gradient put on the last row, over the second half "
        "of its way back",
        "clipped": f"clipped: fraction of the last {RUNNING} steps",
        "update": "update: its norm over the norm of the parameters",
    }
    said = "; ".join(words[name] for name in strips)
    return f" Below: {said}." if said else ""


def _timeline_numbers(subject: Subject, strips: Sequence[str]) -> list[str]:
    flow = subject.quantities["training"].flow
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flow[:, 1] / flow[:, -1]
    row = [subject.name, short(float(ratio[0])), short(float(ratio[-1]))]
    for name in strips:
        found = _strip(subject, name)
        row.append("–" if found is None else short(float(found[1][-1]), 3))
    return row


def loss(report: Report) -> Picture | None:
    """Training loss of all runs in one axes."""
    subjects = report.subjects
    shown = having(subjects, "training")
    if not shown:
        return None
    styles = looks(subjects)
    columns: tuple[str, ...] = ("run", "last training loss", "loss on unseen text", "note")
    rows = [_loss_numbers(subject) for subject in shown]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        draw_losses(axes, [(subject, styles[subject.name]) for subject in shown])
        legend(figure, [axes], 2 if len(shown) > 1 else 1)

    return Picture(
        name="loss",
        heading="Loss",
        height=2.9 + 0.17 * -(-len(shown) // 2),
        paint=paint,
        shows=(
            f"Training loss, running mean over {RUNNING} steps. "
            "Runs that leave the picture at the top diverged."
        ),
        columns=columns,
        rows=rows,
        how=shown[0].quantities["training"].how,
        cost=str(shown[0].quantities["training"].cost),
    )


def draw_losses(axes: Axes, shown: Sequence[tuple[Subject, Look]]) -> None:
    """Draw the running means of training losses in one axes."""
    means = [running_mean(subject.quantities["training"].loss) for subject, _ in shown]
    for (_, look), mean in zip(shown, means, strict=True):
        axes.plot(
            np.arange(len(mean)),
            mean,
            color=look.colour,
            linestyle=look.dashes,
            linewidth=look.width,
            label=look.label,
        )
    first = np.concatenate([s.quantities["training"].loss[:1] for s, _ in shown])
    start = float(np.max(first[np.isfinite(first)], initial=0.0)) or 1.0
    every = np.concatenate(means)
    low = float(np.min(every[np.isfinite(every)], initial=np.inf))
    if 0.9 * low < 1.2 * start:
        axes.set_ylim(0.9 * low, 1.2 * start)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss, nats per character")


def running_mean(values: np.ndarray, window: int = RUNNING) -> np.ndarray:
    """Mean over the last `window` values at every place; at the start over those there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    with np.errstate(invalid="ignore"):  # from an infinite value on there is no mean
        return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _loss_numbers(subject: Subject) -> list[str]:
    training = subject.quantities["training"]
    last = short(float(running_mean(training.loss)[-1]), 3)
    unseen = with_interval(training.value, training.ci, 3)
    return [subject.name, last, unseen, training.stopped]
