"""D4: gradient descent at a wall of the error surface, without and with clipping.

The network of one unit of Pascanu, Mikolov and Bengio (2013, figure 6): x_t = w s(x_{t-1}) + b with
the logistic function s, x_0 = 1/2, 50 steps, E = (s(x_50) - 0.7)^2.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import MINUS, short
from diagnostics.page.picture import decades
from diagnostics.page.svg import SERIES

Floats = NDArray[np.float64]
Frame = tuple[float, float, float, float]
STEPS, START, TARGET = 50, 0.5, 0.7
SLOPE = math.exp(-START) / (1 + math.exp(-START)) ** 2  # s'(1/2) = 0.235
RATE, THRESHOLD, UPDATES, FROM = 0.03, 0.3, 400, (5.0, -2.0)
FRAME, CLOSE = (3.6, 7.8, -3.4, 2.6), (4.35, 5.1, -2.6, -1.93)  # w and b that are drawn


def error(w: Any, b: Any) -> tuple[Floats, Floats, Floats]:
    """Return E and its derivatives by w and b; w and b broadcast.

    Forward mode: dx_t/dw = s(x_{t-1}) + w s'(x_{t-1}) dx_{t-1}/dw, and so for b.
    """
    w, b = np.broadcast_arrays(np.asarray(w, np.float64), np.asarray(b, np.float64))
    x, by_w, by_b = np.full(w.shape, START), np.zeros(w.shape), np.zeros(w.shape)
    for _ in range(STEPS):
        s = 1.0 / (1.0 + np.exp(-x))
        factor = w * s * (1.0 - s)
        by_w, by_b, x = s + factor * by_w, 1.0 + factor * by_b, w * s + b
    s = 1.0 / (1.0 + np.exp(-x))
    outer = 2.0 * (s - TARGET) * s * (1.0 - s)
    return (s - TARGET) ** 2, outer * by_w, outer * by_b


def descend(rate: float, threshold: float, updates: int, start: tuple[float, float]) -> Floats:
    """Follow the gradient.  Returns the points (w, b) from the start on, (updates + 1, 2)."""
    path = np.empty((updates + 1, 2))
    path[0] = start
    for k in range(updates):
        gradient = np.array(error(*path[k])[1:])
        norm = float(np.linalg.norm(gradient))
        if norm > threshold:
            gradient *= threshold / norm
        path[k + 1] = path[k] - rate * gradient
    return path


def steepest(w: float) -> tuple[float, float]:
    """Find the steepest point along b at a given w: (b, |dE/db|), by a search that narrows."""
    low, high = -5.0, 1.0
    while high - low > 1e-12:
        grid = np.linspace(low, high, 2001)
        best = int(np.argmax(np.abs(error(w, grid)[2])))
        width = (high - low) / 2000
        low, high = grid[best] - 2 * width, grid[best] + 2 * width
    b = (low + high) / 2
    return b, float(abs(error(w, b)[2]))


def wall_at(w: Any) -> Any:
    """Return the b at which x_0 is a fixed point: unstable, and so the wall, where w s' > 1."""
    return START - np.asarray(w) / (1 + math.exp(-START))


@dataclass(frozen=True)
class Wall:
    """Numbers of the surface and of two descents.

    largest, median, rare: of the gradient's norm on the grid; at: (w, b) of the largest.
    walls: rows (w, b, |dE/db|).  plain, clipped: (N + 1, 2), points (w, b).
    """

    largest: float
    at: tuple[float, float]
    median: float
    rare: float
    walls: list[tuple[float, float, float]]
    plain: Floats
    clipped: Floats

    @property
    def jumps(self) -> tuple[float, float]:
        """Longest step without and with clipping."""
        plain, clipped = (
            float(np.linalg.norm(np.diff(p, axis=0), axis=1).max())
            for p in (self.plain, self.clipped)
        )
        return plain, clipped


def numbers() -> Wall:
    """Measure the surface on the grid of the notes' protocol, and descend twice."""
    w, b = np.meshgrid(np.linspace(0, 8, 801), np.linspace(-5, 1, 601))
    norm = np.hypot(*error(w, b)[1:])
    where = np.unravel_index(int(norm.argmax()), norm.shape)
    return Wall(
        largest=float(norm[where]),
        at=(float(w[where]), float(b[where])),
        median=float(np.median(norm)),
        rare=float(np.quantile(norm, 0.999)),
        walls=[(value, *steepest(value)) for value in (4.5, 5.0, 5.5, 7.0)],
        plain=descend(RATE, math.inf, UPDATES, FROM),
        clipped=descend(RATE, THRESHOLD, UPDATES, FROM),
    )


def paint(figure: Figure, wall: Wall) -> None:
    """Draw both descents on the surface, and the error along them below."""
    top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1), squeeze=False)[:, 0]
    left, right = top.subplots(1, 2)
    _surface(left, wall.plain, FRAME, "without clipping")
    west, east, south, north = CLOSE
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    left.plot(*zip(*corners, strict=True), color="white", linewidth=0.8)
    left.set_ylabel("b")
    image = _surface(right, wall.clipped, CLOSE, f"clipped to norm {THRESHOLD:g}, closer")
    bar = top.colorbar(image, ax=[left, right], aspect=25)
    bar.set_label("error E")
    below = bottom.subplots()
    for path, colour, label in (
        (wall.plain, SERIES[0], "without clipping"),
        (wall.clipped, SERIES[1], "clipped"),
    ):
        lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
        below.plot(np.arange(1, UPDATES + 1), lengths, color=colour, linewidth=1.1, label=label)
    below.set(yscale="log", xlabel="update", ylabel="step length", ylim=(1e-6, 30))
    decades(below, most=5)
    below.legend(loc="upper left")


def _surface(axes: Axes, path: Floats, frame: Frame, title: str) -> Any:
    """Draw a part of the surface and a path on it.  Returns the image, for a colour bar."""
    west, east, south, north = frame
    w, b = np.meshgrid(np.linspace(west, east, 421), np.linspace(south, north, 401))
    surface = error(w, b)[0]
    image = axes.imshow(
        surface, origin="lower", aspect="auto", interpolation="none", cmap="viridis",
        vmin=0.0, vmax=0.5, extent=frame,
    )  # fmt: skip
    _path(axes, path)
    axes.set(xlim=(west, east), ylim=(south, north), xlabel="w", title=title)
    axes.grid(False)
    return image


def _path(axes: Axes, path: Floats) -> None:
    """Draw a path: small steps as a line, long ones as arrows."""
    long = np.linalg.norm(np.diff(path, axis=0), axis=1) > 0.3
    begin = 0
    for k in [*np.flatnonzero(long).tolist(), len(long)]:
        piece = path[begin : k + 1]
        axes.plot(piece[:, 0], piece[:, 1], color="white", linewidth=2.0)
        axes.plot(piece[:, 0], piece[:, 1], color="#c8281e", linewidth=1.0)
        if k < len(long):
            axes.annotate(
                "", path[k + 1], path[k],
                arrowprops={"arrowstyle": "-|>", "color": "#ff7f6e", "linewidth": 1.4,
                            "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
        begin = k + 1
    axes.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=5)
    axes.plot(*path[-1], "s", color="white", markeredgecolor="black", markersize=5)


def caption(wall: Wall) -> Caption:
    """Put the numbers into words."""
    plain, clipped = wall.jumps
    ends = [float(error(*path.T)[0].min()) for path in (wall.plain, wall.clipped)]
    rows = [
        ["longest step, no clipping", short(plain, 3)],
        ["longest step, clipped", short(clipped, 3)],
        ["smallest error, no clipping", short(ends[0])],
        ["smallest error, clipped", short(ends[1])],
        ["largest gradient on the grid", f"{short(wall.largest, 3)} at w = {wall.at[0]:.2f}, "
         f"b = {wall.at[1]:.2f}".replace("-", MINUS)],
        ["median gradient; 99.9% quantile", f"{short(wall.median)}; {short(wall.rare, 3)}"],
    ]  # fmt: skip
    rows += [
        [f"wall at w = {w:g}: b; slope there", f"{b:.5f}; {short(slope)}".replace("-", MINUS)]
        for w, b, slope in wall.walls
    ]
    return Caption(
        shows=(
            "A network of one unit, 50 steps: its error over the weight w and the bias b. Most of "
            "the surface is flat, and a wall runs through it. Both descents start at the circle "
            f"and take {UPDATES} updates of rate {RATE:g} against the gradient; below, how far "
            "each went. At the wall the plain step is as long as the slope is steep, and throws "
            "the parameters onto a plateau from which nothing leads back. The clipped step has the "
            "same direction, stays in the valley and follows it downhill along the wall."
        ),
        columns=("what", "number"),
        rows=rows,
        how=(
            "gradient by forward mode in float64; grid of 801 by 601 points, w in 0 to 8, b in -5 "
            "to 1; the wall by a search along b that narrows to 1e-12"
        ),
        notes=(
            "A grid loses the wall as it gets thinner, which looks as if it ended near w = 7. It "
            "does not: it stands where the first state is an unstable fixed point, b = 1/2 - w "
            "s(1/2), for every w above 4.26, and its slope grows like (0.235 w) to the power of 50."
        ),
    )


def series(wall: Wall) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List both paths with the error on them."""
    rows = []
    for name, path in (("plain", wall.plain), ("clipped", wall.clipped)):
        errors = error(path[:, 0], path[:, 1])[0]
        rows += [
            (name, k, *point, e) for k, (point, e) in enumerate(zip(path, errors, strict=True))
        ]
    return ("path", "update", "w", "b", "error"), rows


FIGURE = Recipe(4.6, numbers, paint, caption, series)
