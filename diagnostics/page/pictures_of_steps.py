"""Pictures of what single steps do: which loss reaches which row, what each Jacobian can do."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import (
    Picture,
    decades,
    drawable,
    entitle,
    having,
    legend,
    lines_of,
    logs,
    outer_labels,
    panels,
    total_cost,
)
from diagnostics.page.svg import INK, MUTED, SERIES
from diagnostics.report import Report, Subject

DEPTH = 8  # decades below the largest that the influence map's colours tell apart
LEFT = 1e-3  # of a gradient; what is less counts as gone
LN10 = float(np.log(10.0))


def influence(report: Report) -> Picture | None:
    """P3, influence map: how much the loss of a step speaks to every earlier row."""
    shown = having(report.subjects, "influence")
    shown = [s for s in shown if len(s.quantities["influence"].value)]
    if not shown:
        return None
    maps = [logs(_reachable(subject)) for subject in shown]
    top = max((float(np.nanmax(m)) for m in maps if np.isfinite(m).any()), default=0.0)
    lines = lines_of(len(shown), 2)

    def paint(figure: Figure) -> None:
        drawn = panels(figure, len(shown), 2)
        image = None
        for axes, subject, values in zip(drawn, shown, maps, strict=True):
            image = _map(axes, subject, values, top)
            entitle(axes, subject.name, min(2, len(shown)))
        outer_labels(drawn, "row t that is reached", "row s of the loss", 2)
        if image is not None:
            bar = figure.colorbar(image, ax=drawn, location="bottom", aspect=45, shrink=0.8)
            bar.set_label("log₁₀ ‖∂ℓₛ/∂sₜ‖")

    return Picture(
        name="influence",
        heading="Which loss speaks to which step",
        height=0.9 + 2.2 * lines,
        paint=paint,
        shows=(
            "Each line is the loss of one step s, carried back alone: the gradient that it sends "
            "to every row t before it. A band along the diagonal means that a loss reaches only "
            "its neighbours; stripes from top to bottom are steps at which the memory was "
            f"overwritten. Colours span {DEPTH} decades; the darkest: that much less, or more."
        ),
        columns=("run", "losses carried back", "1/1000 left after", "gain at half the steps"),
        rows=[_influence_numbers(subject) for subject in shown],
        how=shown[0].quantities["influence"].how + "; counted, so without interval",
        cost=total_cost(shown, "influence"),
    )


def _reachable(subject: Subject) -> np.ndarray:
    """Values (S, T+1), NaN for the rows after the source, which no gradient can reach."""
    found = subject.quantities["influence"]
    rows = np.arange(found.value.shape[1])
    return np.where(rows[None, :] <= np.asarray(found.sources)[:, None], found.value, np.nan)


def _map(axes: Axes, subject: Subject, values: np.ndarray, top: float) -> AxesImage:
    sources = np.asarray(subject.quantities["influence"].sources)
    image = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        interpolation="none",
        cmap="viridis",
        vmin=top - DEPTH,
        vmax=top,
        extent=(-0.5, values.shape[1] - 0.5, -0.5, len(sources) - 0.5),
    )
    places = np.unique(np.round(np.linspace(0, len(sources) - 1, min(5, len(sources)))).astype(int))
    axes.set_yticks(places, [str(sources[place]) for place in places])
    axes.grid(False)
    return image


def _influence_numbers(subject: Subject) -> list[str]:
    found = subject.quantities["influence"]
    known = np.flatnonzero(np.isfinite(found.gain) & (found.gain >= LEFT))
    reach = f"{known[-1]} steps" if len(known) else "at once"
    if len(known) and known[-1] == len(found.gain) - 1:
        reach = f"more than {known[-1]} steps"
    half = (len(found.gain) - 1) // 2
    return [subject.name, str(len(found.sources)), reach, short(float(found.gain[half]))]


def jacobians(report: Report) -> Picture | None:
    """P4, singular values of the step Jacobians, and the bound of their product."""
    shown = having(report.subjects, "singular_values")
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(shown), 2, squeeze=False)
        for (left, right), subject in zip(grid, shown, strict=True):
            _singular(left, subject)
            _products(right, subject)
        for place, label in enumerate(("step t", "lag k")):
            grid[-1, place].set_xlabel(label)
        legend(figure, grid[0], 3)

    return Picture(
        name="jacobians",
        heading="What each step can do to a gradient",
        height=0.75 + 2.0 * len(shown),
        paint=paint,
        shows=(
            "Left: the largest, the median and the smallest singular value of the Jacobian of "
            "every step looked at. A step multiplies a gradient by something between the largest "
            "and the smallest. Where the largest is below 1 at every step, gradients must vanish; "
            "where it is above, they may explode. Right: over k steps, the bound that the product "
            "of the largest gives, beside the largest gain that is really there, the norm of the "
            "product of the matrices: directions turn, so the truth lies below the bound, often "
            "far below. The smallest may leave at the bottom; it ends where a Jacobian is singular."
        ),
        columns=("run", "largest σ, median step", "largest of all", "bound", "true"),
        rows=[_jacobian_numbers(subject) for subject in shown],
        how=shown[0].quantities["singular_values"].how,
        cost=total_cost(shown, "singular_values"),
    )


def _singular(axes: Axes, subject: Subject) -> None:
    found = subject.quantities["singular_values"]
    axes.set_yscale("log")
    axes.axhline(1.0, color=INK, linewidth=0.8)
    names = ("largest σ", "median σ", "smallest σ")
    for values, colour, name in zip(np.transpose(found.spread), SERIES, names, strict=False):
        axes.plot(found.steps, drawable(values), color=colour, linewidth=1.2, label=name)
    positive = found.spread[np.isfinite(found.spread) & (found.spread > 0)]
    # Below rounding a singular value is zero: the axis stops where float64 does.
    low = max(float(positive.min(initial=1.0)), 1e-12)
    axes.set_ylim(low / 2, 2 * max(1.0, float(positive.max(initial=1.0))))
    entitle(axes, subject.name, 2)
    axes.set_ylabel("σ of J at step t")
    decades(axes, most=6)


def _products(axes: Axes, subject: Subject) -> None:
    bound = subject.quantities.get("product_bound")
    if bound is None:
        axes.set_axis_off()
        return
    lags = np.arange(len(bound.value))
    curves = (
        ("bound", bound.bound, SERIES[0], (0, (3, 1.5))),
        ("true largest", bound.value, SERIES[1], "-"),
        ("smallest", bound.smallest, MUTED, (0, (1, 1))),
    )
    axes.axhline(0.0, color=INK, linewidth=0.8)
    lowest = -1.0
    for name, curve, colour, dashes in curves:
        values = np.asarray(curve, np.float64) / LN10
        values = np.where(np.isfinite(values) & (values > -40), values, np.nan)
        axes.plot(lags, values, color=colour, linestyle=dashes, linewidth=1.4, label=name)
        if curve is not bound.smallest:  # it leaves at the bottom, and leaves the others the room
            lowest = min(lowest, float(np.nanmin(values, initial=0.0)))
    axes.set_ylim(bottom=1.25 * lowest)
    axes.set_ylabel("log₁₀ of the gain")


def _jacobian_numbers(subject: Subject) -> list[str]:
    found, bound = subject.quantities["singular_values"], subject.quantities.get("product_bound")
    middle = int(np.argsort(found.value)[len(found.value) // 2])
    ci = None if found.ci is None else found.ci[middle]
    row = [subject.name, with_interval(found.value[middle], ci, 3), short(found.largest, 3)]
    if bound is None:
        return [*row, "", ""]
    lag = len(bound.value) - 1
    ends = None if bound.ci is None else [_power(end) for end in bound.ci[lag]]
    true = _power(bound.value[lag])
    spelled = true if ends is None or "NaN" in ends else f"{true} [{ends[0]}, {ends[1]}]"
    return [*row, f"{_power(bound.bound[lag])} over {lag} steps", spelled]


def _power(natural: float) -> str:
    """Spell exp(natural) where it may lie outside of what a float holds."""
    tens = float(natural) / LN10
    if not np.isfinite(tens):
        return short(0.0 if tens < 0 else tens)
    if abs(tens) < 300:
        return short(10.0**tens)
    return f"10^{tens:.0f}"
