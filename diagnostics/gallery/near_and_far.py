"""D3: how much of the last step's gradient arrives at the steps before it, near and far."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import minirnn
from diagnostics.gallery.plain import chart
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import MINUS, short, with_interval
from diagnostics.page.picture import decades
from diagnostics.page.svg import MUTED, SERIES
from diagnostics.quantities.decay_rate import rate_of
from diagnostics.quantities.statistics import Floats, interval, joint_norm, resamples

STEPS, BATCH, INPUTS, HIDDEN = 100, 32, 16, 64
NEAR, FAR = 5, 50  # lags that the caption compares


@dataclass(frozen=True)
class Reach:
    """One network.  gain: (T + 1,), what is left after k steps back.  rate, ci: per step."""

    name: str
    gain: Floats
    rate: float
    ci: tuple[float, float]


def networks() -> dict[str, Any]:
    """Make the networks of the figure: PyTorch's start, and one orthogonal for comparison."""
    orthogonal = {"weight_hh": minirnn.init.orthogonal}
    remembering = {"bias": minirnn.init.forget_bias(3.0)}
    return {
        "RNN": minirnn.RNN(INPUTS, HIDDEN, seed=0),
        "RNN, orthogonal": minirnn.RNN(INPUTS, HIDDEN, seed=0, init=orthogonal),
        "GRU": minirnn.GRU(INPUTS, HIDDEN, seed=0),
        "LSTM": minirnn.LSTM(INPUTS, HIDDEN, seed=0),
        "LSTM, forget bias 3": minirnn.LSTM(INPUTS, HIDDEN, seed=0, init=remembering),
    }


def reach(name: str, layer: Any, x: Any) -> Reach:
    """Follow a random unit vector on the last output of every sequence back to the first step."""
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        output, _ = layer(x)
    last = np.random.default_rng(0).standard_normal(output.shape[1:])
    d_output = np.zeros(output.shape)
    d_output[-1] = last / np.linalg.norm(last, axis=1, keepdims=True)
    norms = joint_norm(seen.pullback(d_output).carried_grads.values())[::-1]  # (T + 1, B)
    rates = [rate_of(np.median(norms[:, pick], axis=1)) for pick in resamples(norms.shape[1])]
    low, high = interval(np.asarray(rates))
    gain = np.median(norms, axis=1)
    return Reach(name, gain, rate_of(gain), (float(low), float(high)))


def numbers() -> list[Reach]:
    """Measure all networks on the same noise."""
    x = np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
    return [reach(name, layer, x) for name, layer in networks().items()]


def paint(figure: Figure, found: list[Reach]) -> None:
    """Draw the gains over the lag, with the fitted lines behind them."""
    axes = figure.subplots()
    for one, colour in zip(found, SERIES, strict=False):
        lags = np.arange(len(one.gain))
        middle = len(lags) // 2
        fitted = one.gain[-1] * one.rate ** (lags[middle:] - lags[-1])
        axes.plot(lags[middle:], fitted, color=MUTED, linewidth=3, alpha=0.35)
        axes.plot(lags, one.gain, color=colour, label=one.name)
    axes.axvspan(0, NEAR, color=MUTED, alpha=0.12, linewidth=0)
    axes.text(NEAR + 0.7, 4, "near", fontsize=9)
    axes.set(
        yscale="log", xlim=(0, STEPS), ylim=(1e-30, 100), xlabel="steps back from the loss, T - t",
        ylabel="norm of ∂E/∂(state), relative",
    )  # fmt: skip
    decades(axes, most=9)
    figure.legend(loc="outside lower center", ncols=3)


def caption(found: list[Reach]) -> Caption:
    """Put the numbers into words."""
    rows = [
        [
            one.name,
            short(float(one.gain[NEAR])),
            short(float(one.gain[FAR])),
            with_interval(one.rate, one.ci, 3),
            f"{np.log(one.rate):.3f}".replace("-", MINUS),
        ]
        for one in found
    ]
    return Caption(
        shows=(
            f"The loss is put on the last of {STEPS} steps alone, and its gradient followed back. "
            "What comes from far away is lost beside what comes from close by: not because it is "
            "0, but because it is smaller by powers of ten. A straight line is a constant factor "
            "per step; grey: the fit."
        ),
        columns=("network", f"left after {NEAR}", f"after {FAR}", "factor per step", "slope"),
        rows=rows,
        how=(
            f"H = {HIDDEN}, inputs N(0, 1), {BATCH} sequences, PyTorch's start unless named; a "
            "random unit vector on the last output, carried back; norm over all states together, "
            "median over sequences; factor: exp of the slope of log norm over the second half, "
            "with a 95% bootstrap interval over sequences"
        ),
    )


def series(found: list[Reach]) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the gains."""
    rows = [(one.name, k, float(v)) for one in found for k, v in enumerate(one.gain)]
    return ("network", "lag", "gain"), rows


def plain(found: list[Reach]) -> str:
    """Draw the curves in characters."""
    return chart({one.name: one.gain for one in found}, "steps back")


FIGURE = Recipe(3.5, numbers, paint, caption, series, plain=plain)
