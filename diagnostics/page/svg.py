"""Figures as inline SVG whose colours, fonts and ids belong to the page.

matplotlib draws with sentinel colours; afterwards each is replaced by a CSS variable, so that one
drawing serves light, dark and print.  Same figure, same bytes: fixed salt, no date.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

WIDTH = 4.5  # inches: at 72 units per inch one unit is about one CSS pixel on a phone

INK, MUTED, GRID = "#010203", "#010204", "#010205"
SERIES = ("#010210", "#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
WARN, FAIL = "#010220", "#010221"
DASHED: tuple[Any, ...] = ((0, (3, 1.5)), (0, (1, 1)), (0, (5, 1.2, 1, 1.2)))
SENTINELS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    WARN: "var(--warn)",
    FAIL: "var(--fail)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(SERIES)},
}
_RC: dict[Any, Any] = {
    "svg.hashsalt": "minirnn",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout on every machine
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
}


@contextmanager
def canvas(height: float) -> Iterator[Figure]:
    """Give a figure of the page's width and styles to draw on, without pyplot."""
    with rc_context():
        import matplotlib as mpl

        mpl.rcParams.update(mpl.rcParamsDefault | _RC)
        yield Figure(figsize=(WIDTH, height))


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """Draw a figure as an SVG element for a page; call it inside `canvas`.

    name: prefix of every id.  title and description: what a screen reader says.
    """
    buffer = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=empty)
    return themed(buffer.getvalue(), name, title, description)


def themed(svg: str, name: str, title: str, description: str) -> str:
    """Make matplotlib's SVG part of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for sentinel, css in SENTINELS.items():
        svg = svg.replace(sentinel, css)
    svg = compact(svg)
    view_box = re.search(r'viewBox="([^"]*)"', svg)
    assert view_box is not None  # matplotlib always writes one
    head = (
        f'<svg class="plot" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'viewBox="{view_box[1]}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">\n'
        f'<title id="{name}-title">{escape(title)}</title>\n'
        f'<desc id="{name}-desc">{escape(description)}</desc>\n'
    )
    return head + svg[svg.index(">") + 1 :].strip()


_USE = r' *<use xlink:href="[^"]*" x="[^"]*" y="[^"]*"'
_ALIKE = re.compile(rf'{_USE} style="([^"]*)"/>\n(?:{_USE} style="\1"/>\n)+')


def compact(svg: str) -> str:
    """Shorten a drawing: a hundredth of a unit is finer than a screen, and dots share a style."""
    svg = re.sub(r' (d|x|y)="([^"]*)"', lambda m: f' {m[1]}="{_rounded(m[2])}"', svg)
    return _ALIKE.sub(
        lambda m: f'<g style="{m[1]}">\n' + m[0].replace(f' style="{m[1]}"', "") + "</g>\n", svg
    )


def _rounded(numbers: str) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", numbers)
