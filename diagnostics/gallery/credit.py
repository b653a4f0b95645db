"""D19: the gradient taken apart into the terms of who caused what when.

dE/dW is the sum over t and k <= t of dE_t/dh_t dh_t/dh_k d+h_k/dW (Pascanu, Mikolov and Bengio
2013, equation 4): step t's loss, what step k did with W.  Terms with k near t are short-term.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import minirnn
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import short
from diagnostics.page.picture import decades
from diagnostics.page.svg import MUTED, SERIES
from diagnostics.quantities.statistics import Floats

STEPS, BATCH, INPUTS, HIDDEN = 40, 8, 6, 24
GAIN = 4.0  # of normal weights: chaos
LONG = 10  # lags from which on a term is long-term
LEAST = 1e-9  # of the largest term: what the map still shows


def terms(layer: Any, x: Any, d_output: Any) -> Floats:
    """Return every term of dE/dW_hh, (T, T, P*H, H); [t, k] is 0 for k > t.

    x: (T, B, I).  d_output: (T, B, H), the derivative of E_t by the output of step t.
    """
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        layer(x)
    steps = len(d_output)
    found = []
    for t in range(steps):
        alone = np.zeros_like(d_output)
        alone[t] = d_output[t]
        grads = seen.pullback(alone).recurrent_gate_grads
        blocks = [np.einsum("kbi,kbj->kij", grads[n], seen.operands[n]) for n in grads]
        found.append(np.concatenate(blocks, axis=1))
    return np.asarray(found, np.float64)


@dataclass(frozen=True)
class Credit:
    """One network.

    size: (T, T), norm of the term of loss t and step k.  by_lag: (T,), norm of the sum of all
    terms with t - k = lag.  apart, together: norm of the sum of the long-term and of all terms.
    residual: largest difference of the sum of all terms from the gradient, relative to it.
    """

    name: str
    size: Floats
    by_lag: Floats
    long: float
    total: float
    residual: float


def measure(name: str, layer: Any, x: Any, d_output: Any) -> Credit:
    """Take the gradient of a network apart and put it together again."""
    every = terms(layer, x, d_output)
    output, _ = layer(x)
    layer.zero_grad()
    output.backward(d_output)
    gradient = layer.weight_hh_l0.grad
    steps = len(every)
    t, k = np.mgrid[:steps, :steps]
    by_lag = [np.linalg.norm(every[t - k == lag].sum(axis=0)) for lag in range(steps)]
    return Credit(
        name=name,
        size=np.linalg.norm(every, axis=(2, 3)),
        by_lag=np.asarray(by_lag),
        long=float(np.linalg.norm(every[t - k >= LONG].sum(axis=0))),
        total=float(np.linalg.norm(gradient)),
        residual=float(np.abs(every.sum(axis=(0, 1)) - gradient).max() / np.abs(gradient).max()),
    )


def numbers() -> list[Credit]:
    """Take three networks apart: one that forgets, one that explodes, one that remembers."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((STEPS, BATCH, INPUTS))
    d_output = rng.standard_normal((STEPS, BATCH, HIDDEN)) / (STEPS * BATCH)
    chaotic = {"weight_hh": minirnn.init.normal(0.0, GAIN / HIDDEN**0.5)}
    open_gate = {"bias": minirnn.init.forget_bias(3.0)}
    networks = {
        "RNN": minirnn.RNN(INPUTS, HIDDEN, dtype="float64", seed=0),
        f"RNN, gain {GAIN:g}": minirnn.RNN(INPUTS, HIDDEN, dtype="float64", seed=0, init=chaotic),
        "LSTM, forget bias 3": minirnn.LSTM(
            INPUTS, HIDDEN, dtype="float64", seed=0, init=open_gate
        ),
    }
    return [measure(name, layer, x, d_output) for name, layer in networks.items()]


def paint(figure: Figure, found: list[Credit]) -> None:
    """Draw the terms as maps, and their sums by lag below."""
    grid = figure.subplots(2, len(found), sharey="row", height_ratios=(1.5, 1))
    for (upper, lower), one, colour in zip(grid.T, found, SERIES, strict=False):
        with np.errstate(divide="ignore"):
            logs = np.log10(one.size / one.size.max())
        logs = np.where(logs > np.log10(LEAST), logs, np.nan)
        image = upper.imshow(
            logs.T, origin="lower", interpolation="none", cmap="viridis", vmin=np.log10(LEAST),
            vmax=0.0, extent=(0, STEPS, 0, STEPS), aspect="auto",
        )  # fmt: skip
        upper.grid(False)
        upper.set_title(one.name.replace(", ", "\n"))
        upper.set_xlabel("loss at t")
        lags = one.by_lag[:-1]  # of the last lag there is none: the initial state is 0
        lower.plot(lags / lags.max(), color=colour)
        lower.axvspan(LONG, STEPS - 2, color=MUTED, alpha=0.12, linewidth=0)
        lower.set(yscale="log", ylim=(LEAST, 3), xlabel="lag t - k", xlim=(0, STEPS - 2))
    decades(grid[1, 0], most=5)
    grid[0, 0].set_ylabel("step k")
    grid[1, 0].set_ylabel("sum of terms")
    bar = figure.colorbar(image, ax=list(grid[0]), aspect=15)
    bar.set_label("log₁₀, relative")


def caption(found: list[Credit]) -> Caption:
    """Put the numbers into words."""
    rows = [
        [
            one.name,
            short(one.long / one.total, 2),
            short(float(one.by_lag[LONG] / one.by_lag[0])),
            short(one.residual),
        ]
        for one in found
    ]
    return Caption(
        shows=(
            "Each square is one term of the gradient by the recurrent matrix: how the loss at step "
            "t asks for a change of what step k did. The diagonal is short-term. Where gradients "
            "vanish the terms far from the diagonal are there, but many times smaller; where they "
            "explode, those far away drown the rest. Below: the norm of the sum of all terms of "
            f"one lag; shaded: lags of {LONG} and more, the long-term part."
        ),
        columns=("network", "long-term part of the whole", f"lag {LONG} / lag 0",
                 "sum - gradient"),
        rows=rows,
        how=(
            f"H = {HIDDEN}, {STEPS} steps, {BATCH} sequences of noise, a loss at every step that "
            f"is linear in the output; PyTorch's start, or N(0, {GAIN:g}²/H); float64, one "
            "backward pass per step's loss; norms are of "
            "matrices summed over the batch; the last column: largest difference between the sum "
            "of all terms and the gradient of one backward pass, relative to its largest entry"
        ),
    )  # fmt: skip


def series(found: list[Credit]) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the sizes of the terms."""
    rows = [
        (one.name, t, k, float(one.size[t, k]))
        for one in found
        for t in range(STEPS)
        for k in range(t + 1)
    ]
    return ("network", "t", "k", "norm"), rows


FIGURE = Recipe(3.9, numbers, paint, caption, series)
