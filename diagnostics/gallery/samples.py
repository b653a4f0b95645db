"""D13: what a character model writes while it learns, after Karpathy's samples of 2015."""

import keyword
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diagnostics.gallery.character_model import (
    HIDDEN,
    LEVELS,
    LIBRARY,
    PROMPT,
    TEMPERATURE,
    UPDATES,
    Training,
    trained_on_the_library,
)
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import short
from diagnostics.page.svg import INK, MUTED, SERIES

AROUND = 10  # updates that a loss is the mean of


def numbers() -> Training:
    """Train the LSTM."""
    return trained_on_the_library("lstm")


def loss_around(run: Training, update: int) -> float:
    """Return the mean loss of the updates up to this one."""
    return float(np.mean(run.loss[max(0, update - AROUND) : update]))


def paint(figure: Figure, run: Training) -> None:
    """Draw the loss, with marks where the samples were taken."""
    axes = figure.subplots()
    axes.plot(np.arange(1, len(run.loss) + 1), run.loss, color=MUTED, linewidth=0.7)
    losses = [loss_around(run, update) for update in run.seen]
    axes.plot(list(run.seen), losses, "o", color=SERIES[0], markersize=5, label="sample below")
    chance = float(np.log(len(run.vocabulary)))
    axes.axhline(chance, color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
    axes.annotate("chance", (1.01, chance), xycoords=("axes fraction", "data"), va="center",
                  fontsize=9, annotation_clip=False)  # fmt: skip
    axes.set(xlabel="update", ylabel="loss, nats per character", ylim=(0, chance * 1.05))
    axes.legend(loc="upper right")


def extra(run: Training) -> str:
    """Put the samples below each other."""
    parts = []
    for update, text in run.seen.items():
        words = (
            f"after {update} update{'s' if update > 1 else ''}, loss {loss_around(run, update):.2f}"
        )
        parts.append(
            f'<div class="run"><h3>{words}</h3>\n'
            f"<pre><b>{escape(PROMPT)}</b>{escape(text)}</pre></div>"
        )
    return "\n".join(parts)


def caption(run: Training) -> Caption:
    """Put the numbers into words."""
    rows = [
        [str(update), f"{loss_around(run, update):.2f}", short(_share(text, " "), 2),
         short(_words(text), 2)]
        for update, text in run.seen.items()
    ]  # fmt: skip
    return Caption(
        shows=(
            "A model learns to continue Python's own source, character by character. First it "
            "learns which characters are frequent, spaces above all, then short words and how "
            "lines are indented, then names, brackets and the look of whole statements. Each "
            "sample begins with the same words (grey) and the same random numbers."
        ),
        columns=("update", "loss", "share of spaces", "share of keywords"),
        rows=rows,
        how=(
            f"LSTM of {LEVELS} levels of {HIDDEN} units, the first {LIBRARY:,} characters of the "
            f"standard library, {UPDATES} updates of 32 sequences of 64 characters, Adam; loss: "
            f"mean over the last {AROUND} updates; samples at temperature {TEMPERATURE:g}; "
            "keywords: share of the sample's words that are Python's"
        ),
    )


def _share(text: str, character: str) -> float:
    return text.count(character) / len(text)


def _words(text: str) -> float:
    """Return the share of words that are keywords of Python."""
    words = re.findall(r"[A-Za-z_]+", text)
    return sum(keyword.iskeyword(word) for word in words) / max(1, len(words))


def series(run: Training) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the loss, and the samples where there is one."""
    rows = [(k + 1, loss, run.seen.get(k + 1, "")) for k, loss in enumerate(run.loss)]
    return ("update", "loss", "sample"), rows


FIGURE = Recipe(2.2, numbers, paint, caption, series, extra)
