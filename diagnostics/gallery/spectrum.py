"""D18: Lyapunov spectra: tanh networks of growing gain, and gated cells over their full state."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import minirnn
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import MINUS, short
from diagnostics.page.svg import INK, MUTED, SERIES
from diagnostics.quantities.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from diagnostics.quantities.statistics import Floats

UNITS, GATED_UNITS, INPUTS = 64, 32, 8
STEPS, TRANSIENT, TURNING = 800, 400, 100
GAINS = (0.6, 1.0, 1.5, 3.0)
SMALL, BLOCK = 1e-7, 10  # size of a perturbation, and steps until it is scaled back


@dataclass(frozen=True)
class Spectrum:
    """One network.

    found: the quantity.  apart: the first exponent from two trajectories.  known: (S,), the
    exponents that a closed form gives, or None.
    """

    name: str
    found: LyapunovSpectrum
    apart: float
    known: Floats | None = None


def gaussian(gain: float, units: int = UNITS, seed: int = 0) -> Any:
    """Make a tanh network without biases whose weights are N(0, gain^2 / units)."""
    init = {"weight_hh": minirnn.init.normal(0.0, gain / math.sqrt(units))}
    return minirnn.RNN(1, units, bias=False, dtype="float64", seed=seed, init=init)


def two_trajectories(layer: Any, x: Any, state: Any, seed: int = 0) -> float:
    """Return how fast two nearby trajectories part: the logarithm per step.

    x: (T, 1, I).  state: where both begin, a tuple of (1, 1, H).  After every few steps the
    distance is scaled back to what it was.
    """
    rng = np.random.default_rng(seed)
    apart = [rng.standard_normal(s.shape) for s in state]
    total, counted = 0.0, 0
    for begin in range(0, len(x) - BLOCK + 1, BLOCK):
        size = math.sqrt(sum(float((d * d).sum()) for d in apart))
        near = [s + d * (SMALL / size) for s, d in zip(state, apart, strict=True)]
        ends = [_run(layer, x[begin : begin + BLOCK], s) for s in (state, near)]
        apart = [b - a for a, b in zip(*ends, strict=True)]
        state = ends[0]
        if begin >= TURNING:
            size = math.sqrt(sum(float((d * d).sum()) for d in apart))
            total += math.log(size / SMALL)
            counted += BLOCK
    return total / counted


def _run(layer: Any, x: Any, state: Any) -> list[Any]:
    """Run a piece.  Returns the last states as arrays (1, 1, H)."""
    with minirnn.no_grad():
        last = layer(x, state[0] if len(state) == 1 else tuple(state))[1]
    return [s.numpy() for s in (last if isinstance(last, tuple) else (last,))]


def measure(name: str, layer: Any, x: Any, start: Any, known: Floats | None = None) -> Spectrum:
    """Measure a network after it has left its start behind.  x: (T, 1, I); start: of the states."""
    state = _run(layer, x[:TRANSIENT], start)
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x[TRANSIENT:], state[0] if len(state) == 1 else tuple(state))
    found = lyapunov_spectrum(seen.step_jacobians(), warmup=TURNING)
    return Spectrum(name, found, two_trajectories(layer, x[TRANSIENT:], state), known)


def numbers() -> list[Spectrum]:
    """Measure tanh networks without inputs, and gated ones driven by noise."""
    rng = np.random.default_rng(0)
    still, noise = np.zeros((STEPS, 1, 1)), rng.standard_normal((STEPS, 1, INPUTS))
    found = []
    for gain in GAINS:
        layer = gaussian(gain)
        known = None
        if gain < 1:  # the state goes to 0, where the Jacobian is the matrix itself
            weight = layer.weight_hh_l0.numpy()
            known = np.sort(np.log(np.abs(np.linalg.eigvals(weight))))[::-1]
        start = [0.5 * rng.standard_normal((1, 1, UNITS))]
        found.append(measure(f"RNN, gain {gain:g}", layer, still, start, known))
    init = {"bias": minirnn.init.forget_bias(3.0)}
    gated = {
        "GRU": minirnn.GRU(INPUTS, GATED_UNITS, dtype="float64", seed=0),
        "LSTM": minirnn.LSTM(INPUTS, GATED_UNITS, dtype="float64", seed=0),
        "LSTM, forget bias 3": minirnn.LSTM(
            INPUTS, GATED_UNITS, dtype="float64", seed=0, init=init
        ),
    }
    for name, layer in gated.items():
        start = [np.zeros((1, 1, GATED_UNITS)) for _ in layer.cell.state]
        found.append(measure(name, layer, noise, start))
    return found


def paint(figure: Figure, spectra: list[Spectrum]) -> None:
    """Draw the spectra of both kinds, each with the line of no change."""
    groups = (spectra[: len(GAINS)], spectra[len(GAINS) :])
    titles = ("tanh networks, no input", "gated cells, noise")
    grid = figure.subplots(1, 2)
    for axes, group, title in zip(grid, groups, titles, strict=True):
        axes.axhline(0, color=INK, linewidth=0.8)
        for one, colour in zip(group, SERIES, strict=False):
            value, ci = one.found.value, one.found.ci
            place = np.arange(1, len(value) + 1)
            finite = np.isfinite(value)
            axes.fill_between(place[finite], ci[finite, 0], ci[finite, 1], color=colour,
                              alpha=0.25, linewidth=0)  # fmt: skip
            if one.known is not None:
                axes.plot(place, one.known, color=MUTED, linewidth=4, alpha=0.5,
                          label="log |eigenvalues|")  # fmt: skip
            axes.plot(place[finite], value[finite], color=colour, label=one.name, linewidth=1.3)
        axes.set(xlabel="exponent", title=title, ylim=(-5.2, 0.8))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9)  # below: no curve
    grid[0].set_ylabel("λ, per step")


def caption(spectra: list[Spectrum]) -> Caption:
    """Put the numbers into words."""
    rows = []
    for one in spectra:
        value, ci = one.found.value[0], one.found.ci[0]
        first = f"{value:.3f} [{ci[0]:.3f}, {ci[1]:.3f}]".replace("-", MINUS)
        residual = one.found.residual
        rows.append(
            [
                one.name,
                first,
                f"{one.apart:.3f}".replace("-", MINUS),
                str(int((one.found.value > 0).sum())),
                f"{one.found.kaplan_yorke:.1f}",
                "singular" if residual is None else short(residual, 1),
            ]
        )
    return Caption(
        shows=(
            "How fast nearby states part (above 0) or meet (below), direction by direction. A tanh "
            "network of gain below 1 falls to 0, where its exponents are the logarithms of the "
            "matrix's eigenvalues (grey); well above 1 it is chaotic, the more so the larger the "
            "gain. What holds for states forward in time holds for gradients backward: a first "
            "exponent below 0 is the rate at which they vanish, above 0 at which they explode. An "
            "LSTM has two exponents per unit, because its state is h and c."
        ),
        columns=("network", "first exponent", "two trajectories", "above 0", "dimension",
                 "sum - log det"),
        rows=rows,
        how=(
            f"{UNITS} units, or {GATED_UNITS} of gated cells, float64; {STEPS - TRANSIENT} steps "
            f"after {TRANSIENT} of transient, QR of exact Jacobians every step, {TURNING} steps to "
            "turn, 95% intervals over blocks of steps; two trajectories 1e-07 apart, scaled back "
            f"every {BLOCK} steps; dimension after Kaplan and Yorke; last column: sum of all "
            "exponents minus the mean logarithm of the determinants"
        ),
    )  # fmt: skip


def series(spectra: list[Spectrum]) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List all exponents with their intervals."""
    rows = []
    for one in spectra:
        both = zip(one.found.value.tolist(), one.found.ci.tolist(), strict=True)
        rows += [(one.name, k + 1, value, *ci) for k, (value, ci) in enumerate(both)]
    return ("network", "exponent", "value", "low", "high"), rows


FIGURE = Recipe(3.3, numbers, paint, caption, series)
