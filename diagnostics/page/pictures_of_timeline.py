"""The picture of a monitored run: gradient norm by training step and row, and strips below it."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import Picture, decades, having, legend
from diagnostics.page.pictures_of_training import running_mean
from diagnostics.page.svg import FAIL, INK, MUTED, SERIES, WARN
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.timeline import Course
from diagnostics.report import Report, Subject
from diagnostics.rules import CLIPPED_FAIL, CLIPPED_WARN, TABLE

MOST = 3  # maps; the rest is in the table
MAP_HEIGHT, STRIP_HEIGHT = 1.35, 0.8  # inches
RUNNING = 50  # training steps of the running fraction of clipped ones

Strip = Callable[[Axes], None]


def timeline(report: Report) -> Picture | None:
    """Draw when a run broke: the norm of delta over training, rate, clipping, updates, loss."""
    layers = having(report.subjects, "timeline")
    runs = having(report.subjects, "course")
    if not layers or not runs:
        return None
    shown, course = layers[:MOST], runs[0].quantities["course"]
    strips = _strips(runs[0], shown)
    heights = [MAP_HEIGHT] * len(shown) + [STRIP_HEIGHT] * len(strips)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(
            len(heights), 1, sharex=True, squeeze=False, height_ratios=heights
        )[:, 0]  # fmt: skip
        _maps(figure, list(grid[: len(shown)]), shown)
        for axes, draw in zip(grid[len(shown) :], strips, strict=True):
            draw(axes)
        for axes in grid:
            for step in course.breaks:
                axes.axvline(step, color=FAIL, linewidth=1.0, linestyle=(0, (3, 1.5)))
        grid[-1].set_xlabel("training step")
        if len(shown) > 1:  # below the strips, which are too low for names among the lines
            legend(figure, [grid[len(shown)]], len(shown))

    left_out = "" if len(layers) == len(shown) else f" The first {MOST} of {len(layers)} layers."
    return Picture(
        name="timeline",
        heading="Timeline of training",
        height=(0.6 if len(shown) == 1 else 1.0) + sum(heights),
        paint=paint,
        shows=(
            "Top: each column is a measured training step, each row a time step of its sequences; "
            "bright is large. A column that is bright above and dark below has a gradient that "
            "dies on its way back. Strips: decay rate per step back (1 keeps everything); "
            f"{_exponents_said(shown)}fraction of the last {RUNNING} steps that were clipped; "
            "update over parameter, from the smallest to the largest of the parameters; loss. A "
            f"dashed line over all: there something broke first.{left_out}"
        ),
        columns=("layer", "decay rate at the end", "first row / last row", "vanished", "measured"),
        rows=[_numbers(subject) for subject in layers],
        how=shown[0].quantities["timeline"].how,
        cost="one sweep for the decay rate at each measured step; the rest is by-products",
    )


def _exponents_said(shown: Sequence[Subject]) -> str:
    measured = any(np.isfinite(s.quantities["timeline"].exponent).any() for s in shown)
    return "the first Lyapunov exponent λ₁, above 0 where nearby states part; " if measured else ""


def _maps(figure: Figure, grid: Sequence[Axes], shown: Sequence[Subject]) -> None:
    """Draw one map per layer, all on one scale."""
    maps = [_log(subject.quantities["timeline"].flow) for subject in shown]
    finite = np.concatenate([m[np.isfinite(m)] for m in maps])
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    for axes, subject, values in zip(grid, shown, maps, strict=True):
        edges = _edges(subject.quantities["timeline"].steps)
        rows = np.arange(values.shape[1] + 1)
        image = axes.pcolorfast(
            edges, rows, values.T, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9)
        )
        axes.set_title(subject.name)
        axes.set_ylabel("row t")
        axes.grid(False)
    bar = figure.colorbar(image, ax=grid, location="right", aspect=14, pad=0.01)
    bar.set_label("log₁₀ of ‖δ‖")


def _edges(steps: np.ndarray) -> Floats:
    """Where columns begin and end: each lasts until the next."""
    width = np.median(np.diff(steps)) if len(steps) > 1 else 1.0
    return np.append(steps, steps[-1] + width).astype(np.float64)


def _strips(run: Subject, shown: Sequence[Subject]) -> list[Strip]:
    """Return what is drawn below the maps: strips that have data."""
    course = run.quantities["course"]
    strips: list[Strip] = [lambda axes: _rates(axes, shown)]
    if _exponents_said(shown):
        strips.append(lambda axes: _exponents(axes, shown))
    if "clipping" in run.quantities:
        strips.append(lambda axes: _clipped(axes, run.quantities["clipping"].clipped, course))
    if np.isfinite(course.update_ratio).any():
        strips.append(lambda axes: _updates(axes, course))
    if np.isfinite(course.loss).any():
        strips.append(lambda axes: _loss(axes, course))
    return strips


def _rates(axes: Axes, shown: Sequence[Subject]) -> None:
    for subject, colour in zip(shown, SERIES, strict=False):
        line = subject.quantities["timeline"]
        rho = np.where(np.isfinite(line.rho), line.rho, np.nan)
        axes.plot(line.steps, rho, color=colour, marker=".", markersize=3, label=subject.name)
        if np.isfinite(line.rho_ci).any():
            axes.fill_between(line.steps, *line.rho_ci.T, color=colour, alpha=0.25, linewidth=0)
    axes.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
    axes.set_ylabel("rate")


def _exponents(axes: Axes, shown: Sequence[Subject]) -> None:
    for subject, colour in zip(shown, SERIES, strict=False):
        line = subject.quantities["timeline"]
        first = np.where(np.isfinite(line.exponent), line.exponent, np.nan)
        axes.plot(line.steps, first, color=colour, marker=".", markersize=3)
    axes.axhline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
    axes.set_ylabel("λ₁")


def _clipped(axes: Axes, clipped: np.ndarray, course: Course) -> None:
    steps = course.steps[-len(clipped) :]
    axes.plot(steps, running_mean(clipped.astype(float), RUNNING), color=INK, linewidth=1.2)
    for level, line in ((CLIPPED_WARN, WARN), (CLIPPED_FAIL, FAIL)):
        axes.axhline(level, color=line, linewidth=1.0, linestyle=(0, (1, 1.5)))
    axes.set_ylim(-0.05, 1.05)
    axes.set_ylabel("clipped")


def _updates(axes: Axes, course: Course) -> None:
    known = np.isfinite(course.update_ratio).any(axis=1)
    ratios = np.where(course.update_ratio > 0, course.update_ratio, np.nan)[known]
    known_steps = course.measured[known]
    middle = np.array([_middle(row) for row in ratios])
    ends = np.array([(_least(row), -_least(-row)) for row in ratios])
    axes.fill_between(known_steps, ends[:, 0], ends[:, 1], color=INK, alpha=0.2, linewidth=0)
    axes.plot(known_steps, middle, color=INK, marker=".", markersize=3, linewidth=1.2)
    axes.set_yscale("log")
    rule = TABLE["R13"]
    for limit in (rule.warn, (rule.above or (np.nan,))[0]):
        axes.axhline(limit, color=WARN, linewidth=1.0, linestyle=(0, (1, 1.5)))
    decades(axes, most=4)
    axes.set_ylabel("update")


def _loss(axes: Axes, course: Course) -> None:
    loss = np.where(np.isfinite(course.loss), course.loss, np.nan)
    axes.plot(course.steps, loss, color=INK, linewidth=0.9)
    axes.set_ylabel("loss")


def _middle(row: Floats) -> float:
    known = row[np.isfinite(row)]
    return float(np.median(known)) if len(known) else float("nan")


def _least(row: Floats) -> float:
    known = row[np.isfinite(row)]
    return float(known.min()) if len(known) else float("nan")


def _numbers(subject: Subject) -> list[str]:
    line = subject.quantities["timeline"]
    flow = line.flow[-1][np.isfinite(line.flow[-1])]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flow[0] / flow[-1] if len(flow) else np.float64("nan")
    return [
        subject.name,
        with_interval(line.value, line.ci, 3),
        short(float(ratio)),
        f"{line.vanished[-1]:.0%}" if np.isfinite(line.vanished[-1]) else "",
        f"{len(line.steps)} steps",
    ]


def _log(values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    return np.where(np.isfinite(logs), logs, np.nan)
