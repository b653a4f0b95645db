"""D17: a slice through the loss of a whole network, along its gradient and across.

Figure D4 is the surface of a network with two parameters; of a larger one a plane is drawn.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import minirnn
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.gallery.temporal_order import RATE, THRESHOLD, Network, train
from diagnostics.numbers import short
from diagnostics.page.svg import FAIL, INK, SERIES

Floats = NDArray[np.float64]
AWAY, ACROSS, FINE = 81, 41, 241


def slice_of(
    loss: Callable[[Floats], float], at: Floats, along: Floats, across: Floats, a: Floats, b: Floats
) -> Floats:
    """Compute the loss at ``at + a along + b across``.

    loss: of a vector of parameters (P,).  at, along, across: (P,).  a: (M,), b: (N,).
    Returns (N, M).
    """
    return np.array([[loss(at + u * along + v * across) for u in a] for v in b])


def directions(gradient: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """Return unit vectors: against the gradient, and a random one at a right angle.  (P,) each."""
    along = -gradient / np.linalg.norm(gradient)
    across = np.random.default_rng(seed).standard_normal(len(gradient))
    across -= (across @ along) * along
    return along, across / np.linalg.norm(across)


class Loss:
    """A model's loss as a function of one vector of all its parameters."""

    def __init__(self, model: Any, loss: Callable[[Any], Any]) -> None:
        self.model, self.loss = model, loss
        self.parameters = list(model.parameters())

    def here(self) -> Floats:
        """Return the parameters as they are, (P,)."""
        return np.concatenate([p.numpy().ravel() for p in self.parameters]).astype(np.float64)

    def gradient(self) -> Floats:
        """Return the gradient at the parameters as they are, (P,)."""
        self.model.zero_grad()
        self.loss(self.model).backward()
        return np.concatenate([p.grad.ravel() for p in self.parameters]).astype(np.float64)

    def __call__(self, vector: Floats) -> float:
        """Return the loss at other parameters, which the model keeps."""
        begin = 0
        for p in self.parameters:
            size = math.prod(p.shape)
            p.assign(vector[begin : begin + size].reshape(p.shape).astype(p.dtype))
            begin += size
        with minirnn.no_grad():
            return float(self.loss(self.model).item())


@dataclass(frozen=True)
class Landscape:
    """A slice.

    a: (M,) and b: (N,), places along and across; plane: (N, M).  fine: (K,) places along, and
    profile: (K,).  norm: of the gradient.  here, plain, clipped: the loss now, and after a step.
    """

    update: int
    norm: float
    count: int
    a: Floats
    b: Floats
    plane: Floats
    fine: Floats
    profile: Floats
    here: float
    plain: float
    clipped: float


def numbers() -> Landscape:
    """Slice the loss where the plain run of figure D16 met its largest gradient."""
    _, worst = train("SGD")
    network = Network(0)
    network.load_state_dict(worst.parameters)
    loss = Loss(network, lambda model: minirnn.cross_entropy(model(worst.x), worst.y))
    at, gradient = loss.here(), loss.gradient()
    norm = float(np.linalg.norm(gradient))
    along, across = directions(gradient)
    reach = 1.25 * RATE * norm
    a, b = np.linspace(-0.25 * reach, reach, AWAY), np.linspace(-reach / 2, reach / 2, ACROSS)
    fine = np.linspace(-0.25 * reach, reach, FINE)
    return Landscape(
        update=worst.update,
        norm=norm,
        count=len(at),
        a=a,
        b=b,
        plane=slice_of(loss, at, along, across, a, b),
        fine=fine,
        profile=np.array([loss(at + u * along) for u in fine]),
        here=loss(at),
        plain=loss(at + RATE * norm * along),
        clipped=loss(at + RATE * min(norm, THRESHOLD) * along),
    )


def paint(figure: Figure, found: Landscape) -> None:
    """Draw the plane and the profile with both steps in them."""
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    a, b = found.a, found.b
    half = ((a[1] - a[0]) / 2, (b[1] - b[0]) / 2)
    frame = (a[0] - half[0], a[-1] + half[0], b[0] - half[1], b[-1] + half[1])
    image = left.imshow(found.plane, origin="lower", aspect="auto", interpolation="none",
                        cmap="viridis", extent=frame)  # fmt: skip
    left.grid(False)
    left.set(xlabel="against the gradient", ylabel="across, at random")
    bar = figure.colorbar(image, ax=left, location="top", aspect=30)
    bar.set_label("loss")
    right.plot(found.fine, found.profile, color=SERIES[1])
    steps = (
        (RATE * found.norm, found.plain, "plain", FAIL, "o"),
        (RATE * min(found.norm, THRESHOLD), found.clipped, "clipped", SERIES[2], "s"),
    )
    for place, value, name, colour, marker in steps:
        left.plot(place, 0, marker, color="white", markeredgecolor="black", markersize=6)
        right.plot(place, value, marker, color=colour, label=f"{name} step", markersize=6)
    left.plot(0, 0, "x", color="white", markersize=7, markeredgewidth=2)
    right.plot(0, found.here, "x", color=INK, label="here", markersize=7, markeredgewidth=2)
    slope = -found.norm * found.fine
    low, high = found.profile.min(), found.profile.max()
    room = 0.08 * (high - low)
    right.plot(
        found.fine,
        found.here + slope,
        color=INK,
        linewidth=0.8,
        linestyle=(0, (3, 1.5)),
        label="what the gradient says",
    )
    right.set(ylim=(low - room, high + room), xlabel="against the gradient", ylabel="loss")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  columnspacing=1.0, handlelength=1.4)  # fmt: skip


def caption(found: Landscape) -> Caption:
    """Put the numbers into words."""
    rows = [
        ["loss here", short(found.here, 3), ""],
        ["after the plain step", short(found.plain, 3), short(RATE * found.norm, 3)],
        ["after the clipped step", short(found.clipped, 3),
         short(RATE * min(found.norm, THRESHOLD), 3)],
        ["least on the profile", short(float(found.profile.min()), 3),
         short(float(found.fine[found.profile.argmin()]), 3)],
    ]  # fmt: skip
    return Caption(
        shows=(
            f"The loss of a network with {found.count:,} parameters on one batch, at update "
            f"{found.update} of the plain run of figure D16, where its gradient was largest. Left: "
            "a plane through the parameters. Right: along the gradient alone. The gradient is "
            "right about the direction, but only very close by: the dashed line is what it "
            "promises. The plain step passes the valley; the clipped one goes downhill."
        ),
        columns=("where", "loss", "length of the step"),
        rows=rows,
        how=(
            f"float32 forward passes at {AWAY} by {ACROSS} points of the plane and {FINE} of the "
            f"profile; rate {RATE:g}, clipped at norm {THRESHOLD:g}; the gradient's norm is "
            f"{found.norm:.3g}"
        ),
    )


def series(found: Landscape) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the profile."""
    return ("along", "loss"), zip(found.fine.tolist(), found.profile.tolist(), strict=True)


FIGURE = Recipe(3.4, numbers, paint, caption, series)
