"""What a figure consists of, and how it becomes part of a page."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from diagnostics.gallery import FIGURES
from diagnostics.page.picture import spoken
from diagnostics.page.svg import canvas, inline


@dataclass(frozen=True)
class Caption:
    """What stands below a figure.

    shows: what is drawn and what to see in it.  columns, rows: the numbers.  how: how they were
    computed.  notes: where the notes are wrong or the numbers differ, or "".
    """

    shows: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    how: str
    notes: str = ""


@dataclass(frozen=True)
class Recipe:
    """A figure before it is computed.

    height: of the drawing, in inches.  numbers: computes all that is shown;
    no arguments, same result every time.  paint: draws them.  caption: puts them into words.
    series: names of columns, and rows, of what is drawn: for CSV.  extra: more HTML below the
    drawing.  plain: the drawing in characters, for a text file.
    """

    height: float
    numbers: Callable[[], Any]
    paint: Callable[[Figure, Any], None]
    caption: Callable[[Any], Caption]
    series: Callable[[Any], tuple[Sequence[str], Iterable[Sequence[Any]]]]
    extra: Callable[[Any], str] | None = None
    plain: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class Shown:
    """A figure computed and drawn: its inline SVG, what else belongs to it, and its words."""

    code: str
    heading: str
    svg: str
    extra: str
    caption: Caption


def recipe(code: str) -> Recipe:
    """Return a figure's recipe by its code, such as "D4"."""
    if code not in FIGURES:
        raise ValueError(f"figure: {code!r} is none of {', '.join(FIGURES)}")
    found: Recipe = importlib.import_module(f"diagnostics.gallery.{FIGURES[code].module}").FIGURE
    return found


def show(code: str, made: Recipe, numbers: Any) -> Shown:
    """Draw a figure for a page."""
    caption, heading = made.caption(numbers), FIGURES[code].heading
    with canvas(made.height) as figure:
        made.paint(figure, numbers)
        said = spoken(caption.columns, caption.rows)
        svg = inline(figure, code.lower(), heading, f"{caption.shows} {said}")
    extra = "" if made.extra is None else made.extra(numbers)
    return Shown(code, heading, svg, extra, caption)
