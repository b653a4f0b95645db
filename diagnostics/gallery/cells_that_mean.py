"""D10: cells that mean something, after Karpathy (2015): text coloured by one unit's activation.

A search looks for the unit that goes with a property of the text; below every character stand the
five that the model expected next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import minirnn
from diagnostics.gallery import quoted_text
from diagnostics.gallery.character_model import (
    Training,
    train,
    trained_on_the_library,
    unseen_library,
)
from diagnostics.gallery.recipe import Caption, Recipe
from diagnostics.numbers import MINUS, short
from diagnostics.page.svg import INK, MUTED, SERIES

Values = NDArray[np.float64]
CELL, HIDDEN, UPDATES = "lstm", 24, 2000
LEAST, MOST, ENOUGH = 2, 8, 0.9  # networks to train, and the correlation to go on for
TRAINED, UNSEEN, SHOWN, TOP = 150_000, 4000, 150, 5
LEVELS = 8  # shades of a colour, each way


@dataclass(frozen=True)
class Found:
    """A unit that goes with a property.

    r: correlation over the unseen text.  activation: (N,), tanh of its cell state after each
    character.  wanted: (N,), the property.
    """

    what: str
    model: int
    unit: int
    r: float
    activation: Values
    wanted: Values


@dataclass(frozen=True)
class Reading:
    """The unseen text, the units found, and what one model expected.

    in_programs: what the same search finds in a network that read Python.  expected: (N, 5) ids of
    the likeliest next characters, chance: (N, 5) their probabilities.
    """

    text: str
    found: list[Found]
    in_programs: list[Found]
    characters: str
    expected: NDArray[np.int64]
    chance: Values
    loss: list[float]


def correlations(activations: Any, wanted: Any) -> Values:
    """Correlate units with a property.  activations: (N, H), wanted: (N,).  Returns (H,).

    A unit that never changes has correlation 0.
    """
    a = np.asarray(activations, np.float64)
    a = a - a.mean(axis=0)
    w = np.asarray(wanted, np.float64) - np.mean(wanted)
    size = np.sqrt((a * a).sum(axis=0) * (w @ w))
    return np.divide(w @ a, size, out=np.zeros(a.shape[1]), where=size > 0)


def search(what: str, activations: Sequence[Any], wanted: Values) -> Found:
    """Find the unit of any model that goes with a property best.  activations: of (N, H) each."""
    rows = np.stack([correlations(a, wanted) for a in activations])
    model, unit = divmod(int(np.abs(rows).argmax()), rows.shape[1])
    chosen = np.asarray(activations[model][:, unit], np.float64)
    return Found(what, model, unit, float(rows[model, unit]), chosen, wanted)


def activations_of(run: Training, ids: Any) -> tuple[Any, Any]:
    """Return tanh of all levels' cell states after each character, (N, L*H), and scores (N, V)."""
    layer = run.model.recurrent
    with minirnn.no_grad(), minirnn.watch(layer) as seen:
        scores, _ = run.model(ids[:, None])
    states = [seen[level, 0].states["c"][1:, 0] for level in range(layer.num_layers)]
    return np.tanh(np.concatenate(states, axis=1)), scores.numpy()[:, 0]


def search_in_programs() -> list[Found]:
    """Search the network of figures D11 and D13 on source that it has not read."""
    run = trained_on_the_library("lstm")
    ids = unseen_library(run)[:UNSEEN]
    activations, _ = activations_of(run, ids)
    text = run.vocabulary.decode(ids)
    rules = quoted_text.OF_PROGRAMS.items()
    return [search(what, [activations], rule(text)) for what, rule in rules]


def trained(text: str, shown: Any, wanted: Values) -> list[Training]:
    """Train network after network, until a unit of one goes with a property well enough."""
    runs: list[Training] = []
    best = 0.0
    while len(runs) < LEAST or (best < ENOUGH and len(runs) < MOST):
        runs.append(train(text, CELL, HIDDEN, UPDATES, seed=10 * len(runs)))
        activations, _ = activations_of(runs[-1], runs[-1].vocabulary.encode(shown))
        best = max(best, float(np.abs(correlations(activations, wanted)).max()))
    return runs


def numbers() -> Reading:
    """Train a few small networks on quoted text and search all their units."""
    text = quoted_text.write(np.random.default_rng(0), TRAINED + UNSEEN)
    shown = text[TRAINED:]
    wanted = {what: rule(text)[TRAINED:] for what, rule in quoted_text.PREDICATES.items()}
    runs = trained(text[:TRAINED], shown, next(iter(wanted.values())))
    ids = runs[0].vocabulary.encode(shown)
    looked = [activations_of(run, ids) for run in runs]
    found = [search(what, [a for a, _ in looked], w) for what, w in wanted.items()]
    scores = looked[found[0].model][1].astype(np.float64)
    chance = np.exp(scores - scores.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    top = np.argsort(-chance, axis=1, kind="stable")[:, :TOP]
    return Reading(
        shown,
        found,
        search_in_programs(),
        runs[0].vocabulary.characters,
        top,
        np.take_along_axis(chance, top, axis=1),
        [float(np.mean(run.loss[-50:])) for run in runs],
    )


def paint(figure: Figure, reading: Reading) -> None:
    """Draw each found unit over the characters, with the property behind it."""
    grid = figure.subplots(len(reading.found), 1, sharex=True)
    place = np.arange(2 * SHOWN)
    for axes, one, colour in zip(np.atleast_1d(grid), reading.found, SERIES, strict=False):
        wanted = one.wanted[: len(place)]
        share = wanted / max(one.wanted.max(), 1e-9)
        axes.fill_between(place, -1, 2 * share - 1, step="post", color=MUTED, alpha=0.25,
                          linewidth=0)  # fmt: skip
        axes.plot(place, one.activation[: len(place)], color=colour, linewidth=1.0)
        axes.axhline(0, color=INK, linewidth=0.6)
        r = f"{one.r:.3f}".replace("-", MINUS)
        axes.set_title(f"unit {one.unit} of network {one.model + 1}: {one.what}, r = {r}")
        axes.set(ylim=(-1.05, 1.05), ylabel="tanh c", xlim=(0, len(place) - 1))
    np.atleast_1d(grid)[-1].set_xlabel("character of the unseen text")


def extra(reading: Reading) -> str:
    """Colour the text by each unit, then show what was expected below each character."""
    parts = []
    for one in reading.found:
        spans = [
            _span(c, a) for c, a in zip(reading.text[: 3 * SHOWN], one.activation, strict=False)
        ]
        parts.append(
            f'<div class="run"><h3>{escape(one.what)}: unit {one.unit} of network '
            f'{one.model + 1}</h3>\n<pre class="shaded">{"".join(spans)}</pre></div>'
        )
    first = reading.found[0]
    parts.append(
        f'<div class="run"><h3>what network {first.model + 1} expected next, from the likeliest '
        f'down</h3>\n<div class="columns" aria-hidden="true">{_columns(reading, first)}</div></div>'
    )
    return "\n".join(parts)


def _span(character: str, activation: float) -> str:
    """Shade a character: red for plus, blue for minus."""
    level = round(LEVELS * min(1.0, abs(float(activation))))
    shown = "↵\n" if character == "\n" else escape(character)
    sign = "p" if activation > 0 else "m"
    return f'<span class="{sign}{level}">{shown}</span>' if level else shown


def _columns(reading: Reading, first: Found) -> str:
    """One column per character: itself, then the five expected after it."""
    made = []
    for k in range(SHOWN):
        level = round(LEVELS * min(1.0, abs(float(first.activation[k]))))
        sign = "p" if first.activation[k] > 0 else "m"
        cells = [f'<b class="{sign}{level}">{_visible(reading.text[k])}</b>']
        for character, chance in zip(reading.expected[k], reading.chance[k], strict=True):
            shade = round(LEVELS * float(chance))
            shown = _visible(reading.characters[character])
            cells.append(f'<i class="q{shade}">{shown}</i>')
        made.append(f"<span>{''.join(cells)}</span>")
    return "".join(made)


def _visible(character: str) -> str:
    return {"\n": "↵", " ": "␣"}.get(character, escape(character))


def caption(reading: Reading) -> Caption:
    """Put the numbers into words."""
    rows = [
        [one.what, f"{one.unit} of network {one.model + 1}", f"{one.r:.3f}".replace("-", MINUS)]
        for one in reading.found
    ]
    rows += [
        [f"{one.what}, in Python source", f"{one.unit} of the network of D13",
         f"{one.r:.3f}".replace("-", MINUS)]
        for one in reading.in_programs
    ]  # fmt: skip
    following = [reading.characters.index(c) for c in reading.text[1:]]
    hits = [(reading.expected[:-1, k] == following).mean() for k in range(TOP)]
    rows.append(["next character is the likeliest", "", f"{hits[0]:.1%}"])
    rows.append([f"is among the {TOP} likeliest", "", f"{sum(hits):.1%}"])
    return Caption(
        shows=(
            "A text is coloured by the activation of one unit, red for plus, blue for minus: the "
            "units were found by a search for the one that goes with a property of the text "
            "(grey: the property). Nobody told the network of quotations or lines; predicting the "
            "next character needs both. Further down, below every character, the five that the "
            "model expected after it, the greener the likelier. In a network that read real text "
            "for a short time the same search finds weaker units: what a property needs is spread."
        ),
        columns=("property", "unit", "correlation or share"),
        rows=rows,
        how=(
            f"{len(reading.loss)} LSTMs of {HIDDEN} units, trained until one had a unit with "
            f"|r| > {ENOUGH:g} for the quotes, but at least {LEAST}; {UPDATES} updates each on "
            f"{TRAINED:,} characters of made-up text: random words, vowels moved on by one inside "
            f"quotes, lines that end after {quoted_text.WIDTH} characters; searched: tanh of all "
            f"cell states over {UNSEEN} unseen characters; loss "
            f"{', '.join(short(value, 3) for value in reading.loss)} nats per character"
        ),
    )


def series(reading: Reading) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """List the text with the units found."""
    names = ("character", *(f"{one.what}: {w}" for one in reading.found for w in ("unit", "true")))
    rows = [
        (c, *(float(v) for one in reading.found for v in (one.activation[k], one.wanted[k])))
        for k, c in enumerate(reading.text)
    ]
    return names, rows


FIGURE = Recipe(3.2, numbers, paint, caption, series, extra)
