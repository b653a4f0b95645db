"""One figure as a file: a page, a picture, its numbers as CSV, or words."""

import csv
import io
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnostics.files import check_writable
from diagnostics.gallery import FIGURES
from diagnostics.gallery.page import render
from diagnostics.gallery.paper import png, standalone_svg
from diagnostics.gallery.recipe import Recipe, recipe, show
from diagnostics.numbers import spelled

WIDTH = 78  # of a text file


def _html(code: str, made: Recipe, numbers: Any) -> str:
    return render([show(code, made, numbers)])


def _csv(code: str, made: Recipe, numbers: Any) -> str:
    names, rows = made.series(numbers)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_spell(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _spell(cell: Any) -> str:
    """Spell a number with the digits that a reader may rely on."""
    return f"{cell:.8g}" if isinstance(cell, float) else str(cell)


def _text(code: str, made: Recipe, numbers: Any) -> str:
    caption = made.caption(numbers)
    table = [list(caption.columns), *(list(row) for row in caption.rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in table]
    words = [caption.shows, *([caption.notes] if caption.notes else []), f"How: {caption.how}."]
    paragraphs = [textwrap.fill(spelled(text), WIDTH) for text in words]
    rule = "  ".join("-" * w for w in widths)
    body = [line.rstrip() for line in (lines[0], rule, *lines[1:])]
    heading = f"{code} {FIGURES[code].heading}"
    picture = [] if made.plain is None else [made.plain(numbers)]
    parts = [heading, *picture, paragraphs[0], "\n".join(body), *paragraphs[1:]]
    return "\n\n".join(parts) + "\n"


WRITERS: dict[str, Callable[[str, Recipe, Any], str | bytes]] = {
    ".html": _html,
    ".svg": standalone_svg,
    ".png": png,
    ".csv": _csv,
    ".txt": _text,
}


def check_target(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a file that can be written and whose kind is known."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(
            f"out: the name of the file must end with one of {', '.join(WRITERS)}, "
            f"got {os.fspath(path)}"
        )
    check_writable(path)
    return suffix


def content(code: str, suffix: str) -> str | bytes:
    """Compute a figure and return what a file of that kind holds."""
    made = recipe(code)
    return WRITERS[suffix](code, made, made.numbers())
