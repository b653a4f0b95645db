"""D7: "understanding gradient flow", the twelve lines of CS231n, and what they do not say.

A ReLU network without inputs, H = 5, T = 50: its gradient is multiplied by W^T at every step, with
the rows of silent units struck out.  Explodes if the largest eigenvalue is above 1, vanishes if it
is below, says the slide: of which matrix?
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import minirnn
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import short
from diagnostics.page.picture import decades
from diagnostics.page.svg import GRID, INK, MUTED, SERIES, WARN

Floats = NDArray[np.float64]
HIDDEN, STEPS, DRAWS = 5, 50, 200
RADII = (0.7, 0.9, 1.0, 1.1, 1.3)
RHO = "\N{GREEK SMALL LETTER RHO}"
FIRST, LAST = 10, 40  # steps back between which growth is read


def gradients(weight: Floats, h0: Floats, d_last: Floats) -> tuple[Floats, Floats]:
    """Run the demo.  weight: (H, H); h0, d_last: (H,).  Returns hs and dhs, (T + 1, H).

    Row 0 of both is the initial state.
    """
    size = len(weight)
    layer = minirnn.RNN(1, size, nonlinearity="relu", bias=False, dtype="float64")
    layer.weight_hh_l0.assign(weight)
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(np.zeros((STEPS, 1, 1)), h0[None, None])
    back = seen.pullback(d_state=d_last[None])
    return seen.states["h"][:, 0], back.state_grads["h"][:, 0]


def radius(matrix: Floats) -> float:
    """Return the spectral radius."""
    return float(np.abs(np.linalg.eigvals(matrix)).max())


@dataclass(frozen=True)
class Powers:
    """Gradient norms of one matrix at several scales, and rates of many matrices.

    norms: radius -> (T + 1,), row k is k steps back.  rates: rows (radius of W, radius of the
    part of W between the active units, growth per step); NaN where the active units do not settle,
    or the gradient is exactly 0.
    """

    norms: dict[float, Floats]
    rates: Floats

    @property
    def dead(self) -> int:
        """How many draws have a gradient of exactly 0 after all steps."""
        return int(np.isnan(self.rates[:, 2]).sum())

    def misjudged(self, column: int) -> int:
        """Count the draws whose gradient does not do what that radius says."""
        known = self.known(column)
        return int(((known[:, column] > 1) != (known[:, 2] > 1)).sum())

    def known(self, column: int) -> Floats:
        """Return the draws for which that radius and the growth are known."""
        return self.rates[~np.isnan(self.rates[:, [column, 2]]).any(axis=1)]


def measure(weight: Floats, h0: Floats, d_last: Floats) -> tuple[float, float, float]:
    """Return the radius of W, of the part of W between active units, and the growth per step."""
    hs, dhs = gradients(weight, h0, d_last)
    active = hs[STEPS - LAST :] > 0
    inner = float("nan")
    if (active == active[-1]).all():
        part = weight[np.ix_(active[-1], active[-1])]
        inner = radius(part) if part.size else 0.0
    norm = np.linalg.norm(dhs, axis=1)[::-1]
    growth = float("nan")
    if norm[-1] > 0:
        growth = float((norm[LAST] / norm[FIRST]) ** (1 / (LAST - FIRST)))
    return radius(weight), inner, growth


def numbers() -> Powers:
    """Take one matrix at five scales, and 200 matrices of normal entries."""
    rng = np.random.default_rng(0)
    weight, h0 = np.abs(rng.standard_normal((HIDDEN, HIDDEN))), np.abs(rng.standard_normal(HIDDEN))
    d_last = rng.standard_normal(HIDDEN)
    norms = {}
    for value in RADII:
        dhs = gradients(weight * value / radius(weight), h0, d_last)[1]
        norms[value] = np.linalg.norm(dhs, axis=1)[::-1]
    rates = []
    for _ in range(DRAWS):
        draw = rng.standard_normal((HIDDEN, HIDDEN)) * rng.uniform(0.3, 1.0)
        rates.append(measure(draw, rng.standard_normal(HIDDEN), rng.standard_normal(HIDDEN)))
    return Powers(norms, np.array(rates))


def paint(figure: Figure, powers: Powers) -> None:
    """Draw norms over steps back on the left, growth over radius on the right."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    for value, norm in powers.norms.items():
        colour = WARN if value > 1 else INK if value == 1 else SERIES[1]
        left.plot(norm / norm[0], color=colour, linewidth=1.3)
        left.annotate(
            f"{value:g}", (STEPS, norm[-1] / norm[0]), xytext=(3, 0), textcoords="offset points",
            fontsize=9, va="center", annotation_clip=False,
        )  # fmt: skip
    left.set(yscale="log", xlabel="steps back", ylabel="norm of dh, relative", xlim=(0, STEPS))
    left.set_title(f"one W, scaled to {RHO}")
    decades(left)
    right.axhline(1, color=GRID, linewidth=1)
    right.axvline(1, color=GRID, linewidth=1)
    right.plot([0, 3], [0, 3], color=INK, linewidth=0.8)
    for column, marker, colour, label in (
        (0, "o", MUTED, "of W"),
        (1, ".", SERIES[0], "of its active part"),
    ):
        known = powers.known(column)
        right.plot(
            known[:, column], known[:, 2], marker, color=colour, label=label, markersize=5,
            markerfacecolor="none" if marker == "o" else colour, markeredgewidth=0.8,
        )  # fmt: skip
    right.set(xlim=(0, 3), ylim=(0, 3), xlabel=f"spectral radius {RHO}", ylabel="growth per step")
    right.set_title(f"{DRAWS} draws of W")
    right.grid(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)


def caption(powers: Powers) -> Caption:
    """Put the numbers into words."""
    rows = [
        [f"{RHO} = {value:g}: norm after {STEPS} steps", short(float(norm[-1] / norm[0]))]
        for value, norm in powers.norms.items()
    ]
    judged = [f"{powers.misjudged(k)} of {len(powers.known(k))}" for k in (0, 1)]
    rows += [
        ["draws whose gradient dies (all units silent)", f"{powers.dead} of {len(powers.rates)}"],
        [f"of the others, {RHO} of W on the wrong side of 1", judged[0]],
        [f"active units settle; {RHO} of their part on the wrong side", judged[1]],
    ]
    return Caption(
        shows=(
            "The demo of CS231n: a ReLU network of five units without inputs, a random gradient at "
            "the last of 50 steps. Left: one matrix with positive entries, so that no unit falls "
            "silent, scaled; the slide's rule holds. Right: matrices of normal entries. Units fall "
            "silent, and what the gradient is multiplied by is the part of W between those that "
            "are not: that part's radius says how it goes, the radius of W itself does not."
        ),
        columns=("what", "number"),
        rows=rows,
        how=(
            f"minirnn's ReLU layer in float64, backward from the last state; growth: "
            f"over {FIRST} to {LAST} steps back; active: units above 0, settled if they are the "
            f"same at the last {LAST} steps"
        ),
        notes=(
            "The largest eigenvalue of W decides for a linear network. With ReLU silent units are "
            "struck out of W first."
        ),
    )


def series(powers: Powers) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the norms of the scaled matrix."""
    rows = [(r, k, float(v)) for r, norm in powers.norms.items() for k, v in enumerate(norm)]
    return ("spectral radius", "steps back", "norm"), rows


FIGURE = Recipe(3.2, numbers, paint, caption, series)
