"""Pictures of the recurrence as a dynamical system: Lyapunov exponents, eigenvalues."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagnostics.numbers import short, with_interval
from diagnostics.page.picture import (
    Picture,
    across,
    entitle,
    having,
    judged_lag,
    legend,
    lines_of,
    looks,
    outer_labels,
    panels,
    total_cost,
)
from diagnostics.page.svg import FAIL, INK, MUTED, SERIES, WARN
from diagnostics.report import Report, Subject
from diagnostics.rules import TABLE

MOST = 2
WIDEST = 2.0  # half the width of the complex plane that is drawn


def lyapunov(report: Report) -> Picture | None:
    """P5, the Lyapunov spectrum of all subjects, and how the first exponent settled."""
    shown = having(report.subjects, "lyapunov")
    if not shown:
        return None
    styles = looks(report.subjects)
    lags = sorted({lag for s in shown if (lag := judged_lag(report, s))})

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=False)
        for subject in shown:
            look = styles[subject.name]
            _spectrum(left, subject, look.colour, look.dashes)
            found = subject.quantities["lyapunov"]
            right.plot(
                found.convergence_steps, found.convergence[:, 0],
                color=look.colour, linestyle=look.dashes, linewidth=look.width,
            )  # fmt: skip
        for axes in (left, right):
            axes.axhline(0.0, color=INK, linewidth=0.8)
        for lag in lags:
            for sign in (-1, 1):
                for limit, colour in ((TABLE["R5"].warn, WARN), (TABLE["R5"].fail, FAIL)):
                    left.axhline(sign * limit / lag, color=colour, linewidth=1.0,
                                 linestyle=(0, (1, 1.5)))  # fmt: skip
        left.set_xlabel("exponent i, largest first")
        left.set_ylabel("λᵢ, per step")
        right.set_xlabel("steps counted")
        right.set_ylabel("λ₁ so far")
        legend(figure, [left], 2 if len(shown) > 1 else 1)

    return Picture(
        name="lyapunov",
        heading="How fast nearby states part",
        height=2.9 + 0.17 * -(-len(shown) // 2),
        paint=paint,
        shows=(
            "Lyapunov exponents of the full state, natural logarithm per step: above 0 nearby "
            "states part and gradients grow, below 0 they meet and gradients shrink, direction by "
            "direction. The distance from the first to the last is how much faster one direction "
            "is lost than another. "
            + (
                "Dotted: ±ln(1000)/L, beyond which rule R5 warns, and twice that, where it fails"
                f" (L = {' or '.join(str(lag) for lag in lags)}). "
                if lags
                else ""
            )
            + "Bars and brackets: 95% intervals. Right: the first exponent as more steps were "
            "counted; a curve that still slopes has not settled." + _singular(shown)
        ),
        columns=(
            "run",
            "λ₁ per step",
            "last one measured",
            "exponents",
            "dimension",
            "sum − log det",
        ),
        rows=[_spectrum_numbers(subject) for subject in shown],
        how=shown[0].quantities["lyapunov"].how,
        cost=total_cost(shown, "lyapunov"),
    )


def _spectrum(axes: Axes, subject: Subject, colour: str, dashes: Any) -> None:
    found = subject.quantities["lyapunov"]
    place = np.arange(1, len(found.value) + 1)
    finite = np.isfinite(found.value)
    axes.plot(
        place[finite], found.value[finite], color=colour, linestyle=dashes,
        marker="o", markersize=3.5, linewidth=1.1, label=subject.name,
    )  # fmt: skip
    if found.ci is not None:
        known = finite & np.isfinite(found.ci).all(axis=1)
        axes.vlines(place[known], found.ci[known, 0], found.ci[known, 1], color=colour)


def _singular(shown: list[Subject]) -> str:
    """Say which exponents cannot be drawn."""
    some = [s.name for s in shown if not np.isfinite(s.quantities["lyapunov"].value).all()]
    lost = "; ".join(some)
    return f" Exponents of −∞ (a direction lost in one step) are not drawn: {lost}." if some else ""


def _spectrum_numbers(subject: Subject) -> list[str]:
    found = subject.quantities["lyapunov"]
    ci = None if found.ci is None else found.ci[0]
    last = short(float(found.value[-1]), 3)
    residual = found.residual
    return [
        subject.name,
        with_interval(float(found.value[0]), ci, 3),
        last,
        f"{len(found.value)} of {found.size}",
        short(found.kaplan_yorke, 3) if np.isfinite(found.kaplan_yorke) else "not reached",
        "not all measured" if found.log_det is None else "singular"
        if residual is None else short(residual, 1),
    ]  # fmt: skip


def eigenvalues(report: Report) -> Picture | None:
    """P6, eigenvalues of the recurrent blocks and of the mean Jacobian, with the unit circle."""
    shown = having(report.subjects, "linearisation")
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        drawn = panels(figure, len(shown), MOST)
        half = min(WIDEST, max(1.1, 1.05 * max(_largest(subject) for subject in shown)))
        for axes, subject in zip(drawn, shown, strict=True):
            _plane(axes, subject)
            axes.set(xlim=(-half, half), ylim=(-half, half))
            entitle(axes, subject.name, across(len(shown), MOST))
        outer_labels(drawn, "real part", "imaginary part", MOST)
        legend(figure, drawn, 2)

    return Picture(
        name="eigenvalues",
        heading="Eigenvalues of the recurrence",
        height=1.0 + 2.3 * lines_of(len(shown), MOST),
        paint=paint,
        shows=(
            "Crosses: eigenvalues of the mean Jacobian of a step, full state; circles: those of "
            "the blocks of the recurrent matrix alone. Inside the unit circle a direction dies "
            "out, outside it grows, on it it lasts. A matrix far from normal (Henrici's number "
            "near 1) may let a gradient grow first although all its eigenvalues lie inside: the "
            "largest growth of its powers says how far." + _outside(shown)
        ),
        columns=("run", "radius, mean J", "Henrici", "largest growth", "radius of blocks"),
        rows=[_eigen_numbers(subject) for subject in shown],
        how=shown[0].quantities["linearisation"].how + "; computed, so without interval",
        cost=total_cost(shown, "linearisation"),
    )


def _moduli(subject: Subject) -> np.ndarray:
    found = subject.quantities["linearisation"]
    every = np.concatenate([np.asarray(v) for v in (found.eigenvalues, *found.weights.values())])
    moduli = np.hypot(*every.T)
    return np.asarray(moduli[np.isfinite(moduli)])


def _largest(subject: Subject) -> float:
    return float(_moduli(subject).max(initial=0.0))


def _outside(shown: list[Subject]) -> str:
    """Say how many eigenvalues lie beyond the part of the plane that is drawn."""
    counts = {s.name: int((_moduli(s) > WIDEST).sum()) for s in shown}
    said = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return f" Of modulus above {WIDEST:g}, perhaps outside the picture: {said}." if said else ""


def _plane(axes: Axes, subject: Subject) -> None:
    found = subject.quantities["linearisation"]
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turn), np.sin(turn), color=MUTED, linewidth=1.0)
    for place, (name, values) in enumerate(found.weights.items()):
        colour, (x, y) = SERIES[place % len(SERIES)], np.transpose(values)
        axes.plot(x, y, "o", color=colour, markersize=3, markerfacecolor="none",
                  markeredgewidth=0.7, label=f"block {name}")  # fmt: skip
    x, y = np.transpose(found.eigenvalues)
    axes.plot(x, y, "x", color=INK, markersize=3.5, markeredgewidth=0.9, label="mean Jacobian")
    axes.set_aspect("equal")


def _eigen_numbers(subject: Subject) -> list[str]:
    found = subject.quantities["linearisation"]
    blocks = ", ".join(f"{k} {short(radius, 3)}" for k, radius in found.weight_radius.items())
    return [
        subject.name,
        short(float(found.value), 3),
        short(found.henrici),
        f"{short(found.peak, 3)} after {found.peak_step}",
        blocks or "none",
    ]
