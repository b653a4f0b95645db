"""D5: the bifurcation diagram of one unit, x_t = w s(x_{t-1}) + b with w = 5.

Doya (1993) and Pascanu, Mikolov and Bengio (2013, figure 3): where two attractors meet, a small
change of b sends the state elsewhere for good, and the gradient explodes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import MINUS
from diagnostics.page.svg import INK, MUTED, SERIES

Floats = NDArray[np.float64]
WEIGHT = 5.0
APART = 0.1  # two limits farther apart than this are two attractors
SPAN = (-4.0, -1.0)  # of b, drawn


def logistic(x: Any) -> Any:
    """Return s(x)."""
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def folds(w: float) -> list[tuple[float, float]]:
    """Return (b, x) where two fixed points meet: w s'(x) = 1.  None for w < 4.

    With s (1 - s) = 1/w: s = (1 +- sqrt(1 - 4/w)) / 2, x = log(s / (1 - s)), b = x - w s.
    """
    if w < 4:
        return []
    root = math.sqrt(1 - 4 / w)
    values = [(1 + root) / 2, (1 - root) / 2]
    points = [(math.log(s / (1 - s)), s) for s in values]
    return sorted((x - w * s, x) for x, s in points)


def limits(b: Floats, steps: int = 4000) -> tuple[Floats, Floats]:
    """Follow the unit from far below and far above.  b: (N,).  Returns both limits, (N,) each."""
    low, high = np.full(b.shape, -10.0), np.full(b.shape, 10.0)
    for _ in range(steps):
        low, high = WEIGHT * logistic(low) + b, WEIGHT * logistic(high) + b
    return low, high


def measured_folds(points: int = 401) -> tuple[float, float]:
    """Find the ends of the interval of b with two attractors, by running the unit."""
    ends = []
    low, high = limits(np.linspace(*SPAN, points))
    two = np.flatnonzero(high - low > APART)
    grid = np.linspace(*SPAN, points)
    step = grid[1] - grid[0]
    for inside, outside in ((grid[two[0]], -step), (grid[two[-1]], step)):
        fine = np.linspace(inside, inside + outside, points)
        low, high = limits(fine)
        ends.append(float(fine[np.flatnonzero(high - low > APART)[-1]]))
    return ends[0], ends[1]


@dataclass(frozen=True)
class Bifurcation:
    """Fixed points and limits over b.

    branch: x, the fixed points' b and whether they are stable, (N,) each.  b, low, high: where the
    unit ends from far below and above, (M,) each.  folds: closed form, (b, x).  measured: (b, b).
    """

    branch: tuple[Floats, Floats, NDArray[np.bool_]]
    b: Floats
    low: Floats
    high: Floats
    folds: list[tuple[float, float]]
    measured: tuple[float, float]


def numbers() -> Bifurcation:
    """Compute the branches in closed form, and run the unit."""
    x = np.linspace(-4.5, 4.5, 901)
    s = logistic(x)
    b = np.linspace(*SPAN, 121)
    low, high = limits(b)
    stable = WEIGHT * s * (1 - s) < 1
    return Bifurcation((x, x - WEIGHT * s, stable), b, low, high, folds(WEIGHT), measured_folds())


def paint(figure: Figure, found: Bifurcation) -> None:
    """Draw fixed points over b, and where runs of the unit end."""
    axes = figure.subplots()
    x, b, stable = found.branch
    (left, upper), (right, lower) = found.folds
    axes.axvspan(left, right, color=MUTED, alpha=0.15, linewidth=0)
    for part, style, label in ((stable, "-", "stable"), (~stable, (0, (3, 1.5)), "unstable")):
        axes.plot(np.where(part, b, np.nan), x, color=INK, linestyle=style, label=label, lw=1.4)
    axes.plot(found.b, found.low, ".", color=SERIES[1], markersize=4.5, label="end, from far below")
    axes.plot(
        found.b, found.high, ".", color=SERIES[0], markersize=2.5, label="end, from far above"
    )
    for place, point, words, at in (
        (left, upper, "fold", (-10, 12)),
        (right, lower, "fold", (8, -14)),
    ):
        axes.plot(place, point, "o", color=INK, markersize=5, markerfacecolor="none")
        text = f"{words}\nb = {place:.4f}".replace("-", MINUS)
        axes.annotate(
            text, (place, point), xytext=at, textcoords="offset points", fontsize=9,
            ha="right" if at[0] < 0 else "left", va="center",
        )  # fmt: skip
    axes.set(xlim=SPAN, ylim=(-4.5, 4.5), xlabel="bias b", ylabel="state x after many steps")
    figure.legend(loc="outside lower center", ncols=2)


def caption(found: Bifurcation) -> Caption:
    """Put the numbers into words."""
    rows = []
    for (b, x), seen, name in zip(found.folds, found.measured, ("left", "right"), strict=True):
        cells = [f"{value:.4f}".replace("-", MINUS) for value in (b, x, seen)]
        rows.append([f"{name} fold", *cells])
    return Caption(
        shows=(
            f"Fixed points of one unit with w = {WEIGHT:g} over its bias. In the shaded interval "
            "there are two attractors with an unstable point between them. At a fold the attractor "
            "that the state sits in disappears: however small the change of b, the state moves to "
            "the other one. A loss on a late state then jumps, which is the wall of figure D4."
        ),
        columns=("", "b, closed form", "x there", "b, found by running"),
        rows=rows,
        how=(
            "closed form: w s(1 - s) = 1, so s = (1 +- sqrt(1 - 4/w)) / 2; dots: 4000 steps from "
            "x = -10 and x = 10; the measured ends are the last b of a grid of 1.9e-05 at which "
            "the two ends differ by more than 0.1"
        ),
    )


def series(found: Bifurcation) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List where runs end."""
    rows = zip(found.b.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return ("b", "end from below", "end from above"), rows


FIGURE = Recipe(3.6, numbers, paint, caption, series)
