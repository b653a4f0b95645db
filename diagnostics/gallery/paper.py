"""A figure without a page around it: SVG with colours of its own, or PNG on white."""

from typing import Any

from diagnostics.gallery.recipe import Recipe, show
from diagnostics.page import paper


def standalone_svg(code: str, made: Recipe, numbers: Any) -> str:
    """Return a picture that a browser shows by itself, in light and dark."""
    variables = paper.STYLE[: paper.STYLE.index("@media print")]
    drawn = show(code, made, numbers).svg
    style = f"<style>{variables}.plot {{ color: var(--ink); font-family: sans-serif; }}</style>"
    end = drawn.index("</desc>") + len("</desc>")
    return f"{drawn[:end]}\n{style}{drawn[end:]}\n"


def png(code: str, made: Recipe, numbers: Any) -> bytes:
    """Return a picture on white, in the colours of the light page."""
    return paper.png(made.height, lambda figure: made.paint(figure, numbers))
