"""D16: what Pascanu, Mikolov and Bengio's code records while it trains, for three methods."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.gallery.temporal_order import (
    ALPHA,
    BATCH,
    EVERY,
    HIDDEN,
    LENGTHS,
    METHODS,
    RATE,
    THRESHOLD,
    UPDATES,
    Record,
    train,
)
from diagnostics.numbers import short
from diagnostics.page.picture import decades
from diagnostics.page.svg import MUTED, SERIES

RADIUS = "radius; norm dotted"
LATE = 10  # checks that "in the end" is the mean of
BINS = 24
RUNNING = 25  # updates in a running mean or median
Records = dict[str, Record]


def numbers() -> Records:
    """Train by each method from the same start on the same sequences."""
    return {method: train(method)[0] for method in METHODS}


def running(values: Any, length: int = RUNNING) -> Any:
    """Return the mean of each piece of so many updates.  (N,) -> (N // length,)."""
    whole = len(values) // length * length
    return np.asarray(values)[:whole].reshape(-1, length).mean(axis=1)


def paint(figure: Figure, records: Records) -> None:
    """Draw error, gradient norm, spectral radius, Omega, saturation, and gradients by step."""
    parts = figure.subfigures(3, 1, height_ratios=(2.35, 1, 0.95), squeeze=False)[:, 0]
    top, maps, histograms = parts
    grid = top.subplots(3, 2, sharex=True)
    updates = EVERY * np.arange(1, UPDATES // EVERY + 1)
    for (name, record), colour in zip(records.items(), SERIES, strict=False):
        lines = (
            running(record.train_nll),
            record.valid_error,
            running(record.gradient_norm),
            record.rho_Whh,
            running(record.Omega),
            record.open_units,
        )
        for axes, values in zip(grid.flat, lines, strict=True):
            axes.plot(updates, values, color=colour, linewidth=1.2, label=name)
        grid[1, 1].plot(updates, record.sigma_Whh, color=colour, linewidth=1.0, linestyle=":")
    grid[0, 0].axhline(math.log(4), color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
    titles = ("training loss", "wrong of unseen, %", "gradient norm", RADIUS,
              "Omega", "mean of 1 - |h|")  # fmt: skip
    for axes, title in zip(grid.flat, titles, strict=True):
        axes.set_title(title)
    for axes in (grid[1, 0], grid[2, 0]):
        axes.set_yscale("log")
        decades(axes, most=4)
    for axes in grid[-1]:
        axes.set_xlabel("update")
    _maps(maps, records)
    _histograms(histograms, records)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  columnspacing=1.0)  # fmt: skip


def _maps(figure: Any, records: Records) -> None:
    """Draw the gradient's norm by update and step, one map per method."""
    grid = figure.subplots(1, len(records), sharey=True)
    logs = _logs(records)
    every = np.concatenate([values.ravel() for values in logs.values()])
    low, high = np.percentile(every, [1, 99.5])
    for axes, (name, values) in zip(grid, logs.items(), strict=True):
        image = axes.imshow(
            values.T, origin="lower", aspect="auto", interpolation="none", cmap="viridis",
            vmin=low, vmax=high, extent=(0, UPDATES, 0, values.shape[1]),
        )  # fmt: skip
        axes.grid(False)
        axes.set_title(_short(name))
        axes.set_xlabel("update")
        axes.set_xticks([0, UPDATES // 2, UPDATES])
    grid[0].set_ylabel("step t")
    bar = figure.colorbar(image, ax=list(grid), aspect=12)
    bar.set_label("log₁₀ ‖∂E/∂h‖")


def histogram(values: Any, edges: Any) -> Any:
    """Return the share of steps whose gradient lies in each bin.  values: (checks, T + 1)."""
    inside = np.clip(values, edges[0], edges[-1])  # what lies beyond counts in the last bin
    counts, _ = np.histogram(inside, edges)
    return counts / inside.size


def _histograms(figure: Any, records: Records) -> None:
    """Draw how the gradients of all steps were spread, early and late in training."""
    grid = figure.subplots(1, len(records), sharex=True, sharey=True)
    logs = _logs(records)
    every = np.concatenate([values.ravel() for values in logs.values()])
    low, high = np.percentile(every, [0.5, 99.5])
    edges = np.linspace(low, high, BINS + 1)
    for axes, (name, values) in zip(grid, logs.items(), strict=True):
        quarter = max(1, len(values) // 4)
        axes.stairs(histogram(values[:quarter], edges), edges, color=MUTED, label="first quarter")
        axes.stairs(
            histogram(values[-quarter:], edges), edges, color=SERIES[0], label="last quarter"
        )
        axes.set_title(_short(name))
        axes.set_xlabel("log₁₀ ‖∂E/∂h‖")
    grid[0].set_ylabel("share of steps")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def _logs(records: Records) -> dict[str, Any]:
    """Return log10 of the gradient's norm by check and step, (M, T + 1), of each method."""
    return {name: np.log10(np.maximum(r.norm_by_step, 1e-30)) for name, r in records.items()}


def _short(name: str) -> str:
    return name.replace("SGD + clipping", "+ clipping").replace(" + Omega", " + Ω")


def caption(records: Records) -> Caption:
    """Put the numbers into words."""
    rows = []
    for name, record in records.items():
        solved = f"{record.solved:.0f} updates" if math.isfinite(record.solved) else "never"
        late = f"{record.valid_error[-LATE:].mean():.1f}%"
        rows.append(
            [
                name,
                solved,
                late,
                short(float(record.gradient_norm.max()), 3),
                short(float(record.rho_Whh[-1]), 3),
                short(float(record.Omega[-RUNNING:].mean())),
            ]
        )
    return Caption(
        shows=(
            f"The temporal order task, sequences of {LENGTHS[0]} to {LENGTHS[1] - 1} symbols, "
            f"learned by gradient descent three times from the same start: plain, with the norm "
            f"clipped at {THRESHOLD:g}, and with {ALPHA:g} Omega added before the clipping. The "
            "loss stays at log 4 (dotted) as long as nothing from the middle of the sequence "
            "reaches the end of it; when the spectral radius passes 1 the gradient does, and soon "
            "explodes. Omega brings that moment forward. Below: gradients by step on unseen "
            "sequences, and how many steps have a gradient of which size, early and late in "
            "training; the ends count what lies beyond them."
        ),
        columns=("method", "below 1% wrong after", "wrong in the end", "largest norm",
                 "radius in the end", "Omega in the end"),
        rows=rows,
        how=(
            f"{HIDDEN} tanh units, all weights N(0, 0.01), rate {RATE:g}, batches of {BATCH}, one "
            f"seed; error on 1000 unseen sequences of {LENGTHS[1] - 1}; curves of single updates: "
            f"means over {RUNNING}; in the end: over the last {LATE * EVERY} "
            "updates"
        ),
        notes=(
            "One seed shows what the quantities do, not how often a method succeeds: the paper's "
            "rates are of five seeds and up to 5 million updates at lengths of 50 to 200."
        ),
    )  # fmt: skip


def series(records: Records) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the record under the names of the published code."""
    names = ("train_nll", "gradient_norm", "Omega", "valid_error", "rho_Whh", "sigma_Whh",
             "open_units")  # fmt: skip
    rows: list[Sequence[Any]] = []
    for method, r in records.items():
        for k in range(len(r.train_nll)):
            now = (k + 1) % EVERY == 0
            cells: list[Any] = [float(getattr(r, n)[k]) for n in names[:3]]
            at = (k + 1) // EVERY - 1
            cells += [float(getattr(r, n)[at]) if now else "" for n in names[3:]]
            rows.append((method, k + 1, *cells))
    return ("method", "update", *names), rows


FIGURE = Recipe(8.0, numbers, paint, caption, series)
