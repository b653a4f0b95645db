"""Plots of growth with T, B and H, and of memory with T."""

import importlib.util
from pathlib import Path
from typing import Any

from bench.results import Results

LINES = (("minirnn", "#1b6ca8", "o"), ("torch", "#c8553d", "s"), ("jax", "#6a8d3a", "^"))
# letter -> (what is divided by, label of the axis)
AXES = {
    "T": ("T", "microseconds per step"),
    "B": ("", "milliseconds"),
    "H": ("", "milliseconds"),
}


def said() -> str:
    """Return the words and links of the results page."""
    return (
        "LSTM, T=50 B=16 I=H=128 but for the one that grows. Time per step must not grow with T; "
        "memory grows in a straight line.\n\n![time](growth.svg)\n\n![memory](memory.svg)"
    )


def write(found: Results, folder: Path) -> None:
    """Write growth.svg and memory.svg, if matplotlib is installed and something was measured."""
    if importlib.util.find_spec("matplotlib") is None:
        print("bench: no plots, matplotlib is not installed")
        return
    import matplotlib

    matplotlib.use("svg")
    # The same file for the same numbers; letters stay letters.
    matplotlib.rcParams.update({"svg.hashsalt": "minirnn", "svg.fonttype": "none"})
    if found.select("growth"):
        _save(_growth(found), folder / "growth.svg")
    if found.select("memory", series="T"):
        _save(_memory(found), folder / "memory.svg")


def _save(figure: Any, file: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _growth(found: Results) -> Any:
    from matplotlib import pyplot

    counts = sorted({e["threads"] for e in found.select("growth")})
    figure, axes = pyplot.subplots(
        len(counts), len(AXES), figsize=(11, 3.2 * len(counts)), squeeze=False, layout="constrained"
    )
    for row, threads in zip(axes, counts, strict=True):
        for axis, (letter, (divisor, unit)) in zip(row, AXES.items(), strict=True):
            for library, colour, marker in LINES:
                facts = {"series": letter, "library": library, "threads": threads}
                points = sorted(
                    (e[letter], e.median / e[divisor] * 1e6 if divisor else e.median * 1e3)
                    for e in found.select("growth", **facts)
                )
                if points:
                    axis.plot(*zip(*points, strict=True), color=colour, marker=marker,
                              markersize=4, label=library)  # fmt: skip
            axis.set_xscale("log")
            axis.set_yscale("linear" if divisor else "log")
            axis.set_ylim(bottom=0 if divisor else None)
            axis.set_xlabel(f"{letter}, {threads} thread{'s' if threads > 1 else ''}")
            axis.set_ylabel(unit)
            axis.grid(alpha=0.3)
    axes[0][0].legend(frameon=False)
    return figure


def _memory(found: Results) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for library, colour, marker in LINES:
        entries = found.select("memory", series="T", library=library)
        points = sorted((e["T"], e["MB"]) for e in entries)
        if points:
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker, label=library)
    axis.set_xlabel("T, B=16 I=H=128")
    axis.set_ylabel("MB that a training step adds")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure
