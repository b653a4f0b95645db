"""A figure without a page around it: SVG with colours of its own, or PNG on white."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure

from diagnostics.gallery.recipe import Recipe, show
from diagnostics.page import svg as inline_svg
from diagnostics.page.svg import canvas

_STYLE = (Path(__file__).parent.parent / "page" / "style.css").read_text(encoding="utf-8")
_DOTS = 160  # per inch
_KINDS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def standalone_svg(code: str, made: Recipe, numbers: Any) -> str:
    """Return a picture that a browser shows by itself, in light and dark."""
    variables = _STYLE[: _STYLE.index("@media print")]
    drawn = show(code, made, numbers).svg
    style = f"<style>{variables}.plot {{ color: var(--ink); font-family: sans-serif; }}</style>"
    end = drawn.index("</desc>") + len("</desc>")
    return f"{drawn[:end]}\n{style}{drawn[end:]}\n"


def png(code: str, made: Recipe, numbers: Any) -> bytes:
    """Return a picture on white, in the colours of the light page."""
    buffer = io.BytesIO()
    with canvas(made.height) as figure:
        made.paint(figure, numbers)
        figure.draw_without_rendering()  # ticks and legends are made now
        _colour(figure)
        figure.savefig(
            buffer, format="png", dpi=_DOTS, facecolor="white", metadata={"Software": None}
        )
    return buffer.getvalue()


def _colour(figure: Figure) -> None:
    """Put the page's light colours where the drawing has sentinels for them."""
    names = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", _STYLE[: _STYLE.index("}")]))
    names["currentColor"] = names["ink"]
    real = {}
    for sentinel, css in inline_svg._CSS.items():
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
