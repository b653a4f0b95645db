"""D6: noise put on the last step's gradient, and what arrives of it step by step back.

The film of CS231n ("cute backprop signal video"): the vanilla network forgets it at once, the LSTM
holds it for longer.  How much longer is a matter of its forget bias.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import minirnn
from diagnostics.gallery.film import film
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import short
from diagnostics.page.picture import decades
from diagnostics.page.svg import INK, MUTED, SERIES
from diagnostics.quantities.statistics import Floats, joint_norm

STEPS, BATCH, INPUTS, HIDDEN = 1500, 16, 16, 64
FRAMES = 65  # of the film: 0 to 64 steps back
GONE = 1e-3
BIASES = (0.0, 1.0, 3.0, 5.0)


@dataclass(frozen=True)
class Noise:
    """One network.

    norm: (T + 1,), median over sequences of the relative norm after k steps back, all states
    together.  gone: k at which it falls below 1/1000 for good, inf if it does not.  alone: the
    same for the forget gate alone, at its bias.  frames: state -> (F, H), of one sequence.
    """

    name: str
    norm: Floats
    gone: float
    alone: float
    frames: dict[str, Floats]


def gone_after(norm: Floats, threshold: float = GONE) -> float:
    """Return from which k on a norm is below the threshold; inf if it is not at the end."""
    above = np.flatnonzero(~(norm < threshold))
    last = int(above[-1]) + 1 if len(above) else 0
    return float(last) if last < len(norm) else math.inf


def forget_gate_alone(bias: float, threshold: float = GONE) -> float:
    """Return after how many steps s(bias)^k is below the threshold."""
    rate = 1.0 / (1.0 + math.exp(-bias))
    return float(math.floor(math.log(threshold) / math.log(rate)) + 1)


def networks() -> dict[str, tuple[Any, float]]:
    """Make the six networks; each with what the forget gate alone would do, NaN without one."""
    made: dict[str, tuple[Any, float]] = {
        "RNN": (minirnn.RNN(INPUTS, HIDDEN, seed=0), math.nan),
        "GRU": (minirnn.GRU(INPUTS, HIDDEN, seed=0), math.nan),
    }
    for bias in BIASES:
        init = {"bias": minirnn.init.forget_bias(bias)}
        layer = minirnn.LSTM(INPUTS, HIDDEN, seed=0, init=init)
        made[f"LSTM, forget bias {bias:g}"] = (layer, forget_gate_alone(bias))
    return made


def follow(name: str, layer: Any, x: Any, alone: float = math.nan) -> Noise:
    """Put noise on the last output and follow it back.  x: (T, B, I)."""
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        output, _ = layer(x)
    d_output = np.zeros(output.shape)
    d_output[-1] = np.random.default_rng(1).standard_normal(output.shape[1:])
    carried = seen.pullback(d_output).carried_grads
    norms = joint_norm(carried.values())[::-1]  # (T + 1, B)
    norm = np.median(norms / norms[0], axis=1)
    frames = {k: np.asarray(v[::-1][:FRAMES, 0], np.float64) for k, v in carried.items()}
    return Noise(name, norm, gone_after(norm), alone, frames)


def numbers() -> list[Noise]:
    """Follow the noise through all six."""
    x = np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
    return [follow(name, layer, x, alone) for name, (layer, alone) in networks().items()]


def paint(figure: Figure, found: list[Noise]) -> None:
    """Draw the norms over the steps back, from 1 on a logarithmic axis."""
    axes = figure.subplots()
    for one, colour in zip(found, SERIES, strict=False):
        lags = np.arange(1, len(one.norm))
        axes.plot(lags, one.norm[1:], color=colour, label=one.name)
        if math.isfinite(one.gone):
            axes.plot(one.gone, GONE, "o", color=colour, markersize=4)
    axes.axhline(GONE, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)))
    axes.annotate("1/1000", (1.01, GONE), xycoords=("axes fraction", "data"), va="center",
                  fontsize=9, color=INK, annotation_clip=False)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(1, STEPS), ylim=(1e-5, 30),
             xlabel="steps back", ylabel="norm, relative")  # fmt: skip
    decades(axes)
    decades(axes, "x")
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0)


def extra(found: list[Noise]) -> str:
    """Make the film."""
    reels = [(one.name, one.frames, one.norm[:FRAMES]) for one in found]
    said = "; ".join(f"{one.name}: {_steps(one.gone)}" for one in found)
    return film("d6-film", reels, GONE, f"Steps until less than 1/1000 is left: {said}.")


def _steps(count: float) -> str:
    if math.isnan(count):
        return "no such gate"
    return f"{count:.0f} steps" if math.isfinite(count) else f"more than {STEPS}"


def caption(found: list[Noise]) -> Caption:
    """Put the numbers into words."""
    rows = [
        [one.name, _steps(one.gone), _steps(one.alone), short(float(one.norm[FRAMES - 1]))]
        for one in found
    ]
    return Caption(
        shows=(
            "Random noise is put on the last step's gradient and carried back. Curves: its norm. "
            "Film: every square is a unit, red for plus and blue for minus, paler by the "
            "logarithm: a unit with less than 1/1000 of the largest at the start is blank. What "
            "lasts in an LSTM lies on c, and h has its share from there; how long it lasts is a "
            "matter of the forget gate."
        ),
        columns=("network", "below 1/1000 after", "forget gate alone", f"left after {FRAMES - 1}"),
        rows=rows,
        how=(
            f"H = {HIDDEN}, inputs N(0, 1), {STEPS} steps, {BATCH} sequences, weights as PyTorch "
            "starts them, other biases of the LSTM 0; norm over all states together, median over "
            "sequences; forget gate alone: s(bias) to the power of k"
        ),
        notes=(
            "That the LSTM has no vanishing gradients holds along c, where the forget gate is "
            "near 1: alone the gate halves every 2.2 steps with bias 1, every 103 with bias 5. The "
            "network holds more than its gate does: what c does to h comes back too, most of all "
            "from the first steps, where c is still small."
        ),
    )


def series(found: list[Noise]) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the norms."""
    rows = [(one.name, k, float(v)) for one in found for k, v in enumerate(one.norm)]
    return ("network", "steps back", "norm"), rows


FIGURE = Recipe(3.4, numbers, paint, caption, series, extra)
