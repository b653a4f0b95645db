"""The gallery's page, or that of one figure: one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from diagnostics.gallery.recipe import Shown
from diagnostics.numbers import spelled

TITLE = "The figures of the notes"
ABOUT = (
    "What lecture notes on recurrent networks draw, name or link, computed anew: every number "
    "below was measured for this page, and says how. Codes are those of the notes' table."
)
_HERE = Path(__file__).parent
_STYLES = (_HERE.parent / "page" / "style.css", _HERE / "gallery.css")


def render(figures: Sequence[Shown]) -> str:
    """Make the page.  The same figures give the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    alone = len(figures) == 1
    return environment.get_template("page.html").render(
        title=figures[0].heading if alone else TITLE,
        about=f"Figure {figures[0].code} of the notes." if alone else ABOUT,
        style="".join(path.read_text(encoding="utf-8") for path in _STYLES),
        figures=figures,
        sentence=_sentence,
        spelled=spelled,
    )


def _sentence(text: str) -> str:
    """Begin with a capital, end with a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."
