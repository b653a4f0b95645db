"""Pictures on paper: PNG and PDF on white, in the colours of the light page."""

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from diagnostics.files import check_folder, write_whole
from diagnostics.numbers import spelled
from diagnostics.page.picture import Picture
from diagnostics.page.svg import SENTINELS, canvas

DOTS = 160  # per inch
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
_KINDS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
A4 = (8.27, 11.69)  # inches
MARGIN = 0.1  # of the width
PER_LINE, LINE = 100, 0.17  # characters of a caption's line, and its height in inches


def png(height: float, paint: Callable[[Figure], None]) -> bytes:
    """Draw a picture as PNG.  The same picture gives the same bytes."""
    buffer = io.BytesIO()
    with canvas(height) as figure:
        paint(figure)
        in_light_colours(figure)
        nothing: dict[str, Any] = {"Software": None}  # no version of matplotlib in the file
        figure.savefig(buffer, format="png", dpi=DOTS, facecolor="white", metadata=nothing)
    return buffer.getvalue()


def write_pngs(folder: str | PathLike[str], pictures: Sequence[Picture]) -> list[Path]:
    """Write a PNG per picture into a folder, which is made if its parent exists."""
    target = check_folder(folder)
    drawn = {picture.name: png(picture.height, picture.paint) for picture in pictures}
    target.mkdir(exist_ok=True)
    for name, data in drawn.items():
        write_whole(target / f"{name}.png", data)
    return [target / f"{name}.png" for name in drawn]


def pdf(pictures: Sequence[Picture]) -> bytes:
    """Draw pictures as one PDF, a page each with its caption.  The same again gives the same."""
    buffer = io.BytesIO()
    nothing: dict[str, Any] = {"Creator": None, "Producer": None, "CreationDate": None}
    with PdfPages(buffer, metadata=nothing) as pages:
        for picture in pictures:
            with canvas(A4[1]) as page:
                page.set_size_inches(*A4)
                _fill(page, picture)
                in_light_colours(page)
                pages.savefig(page, facecolor="white")
    return buffer.getvalue()


def _fill(page: Figure, picture: Picture) -> None:
    """Put a picture on a page: heading, drawing, and as much room below as is left for words."""
    words = _caption(picture)
    tall = min(1.25 * picture.height, A4[1] - 2.2 - LINE * words.count("\n"))
    parts: Any = page.subfigures(3, 1, height_ratios=(1.0, tall, A4[1] - 1.0 - tall))
    head, middle, foot = parts
    head.text(MARGIN, 0.25, picture.heading, fontsize=14, weight="bold")
    # A picture draws on whatever has a figure's methods.
    picture.paint(middle.subfigures(1, 3, width_ratios=(1, 8, 1))[1])
    foot.text(MARGIN, 0.97, words, fontsize=9, va="top", linespacing=1.35)


def _caption(picture: Picture) -> str:
    """Spell a caption: what is shown, a line per row of numbers, how, and the cost."""
    numbers = [
        f"{row[0]}: "
        + ", ".join(
            f"{name} {cell}" for name, cell in zip(picture.columns[1:], row[1:], strict=True)
        )
        for row in picture.rows
    ]
    paragraphs = [picture.shows, *numbers, f"How: {picture.how}. Cost: {picture.cost}."]
    return "\n".join(textwrap.fill(spelled(text), PER_LINE) for text in paragraphs)


def in_light_colours(figure: Figure) -> None:
    """Put the page's light colours where the drawing has sentinels for them."""
    figure.draw_without_rendering()  # ticks and legends are made now
    names = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", STYLE[: STYLE.index("}")]))
    names["currentColor"] = names["ink"]
    real = {}
    for sentinel, css in SENTINELS.items():
        real[sentinel] = colors.to_rgb(names[css.removeprefix("var(--").removesuffix(")")])
    for artist in figure.findobj():
        for kind in _KINDS:
            get, put = (getattr(artist, f"{verb}_{kind}", None) for verb in ("get", "set"))
            if get is not None and put is not None:
                _replace(get(), put, real)


def _replace(given: Any, put: Any, real: dict[str, tuple[float, float, float]]) -> None:
    try:
        rgba = np.atleast_2d(colors.to_rgba_array(given))
    except (TypeError, ValueError):
        return  # "auto" and the like
    new = rgba.copy()
    for sentinel, colour in real.items():
        new[np.abs(rgba[:, :3] - colors.to_rgb(sentinel)).max(axis=1) < 1e-6, :3] = colour
    if not np.array_equal(new, rgba):
        put(new if len(new) > 1 else tuple(new[0]))
