"""`python -m diagnostics figure CODE` and `python -m diagnostics gallery`."""

import argparse
import sys
from typing import Any

from diagnostics.gallery import FIGURES
from diagnostics.outputs import WRITERS, check_ending


def add_commands(commands: Any) -> None:
    """Describe both commands to the parser."""
    figure = commands.add_parser(
        "figure",
        help="one figure of the lecture notes, computed anew",
        description="Compute and draw a figure of the lecture notes.",
        epilog="\n".join(f"{code:<5}{entry.heading}" for code, entry in FIGURES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    figure.add_argument("code", choices=list(FIGURES), metavar="CODE", help="see below")
    figure.add_argument(
        "--out", metavar="PATH", help=".html, .svg, .png, .csv or .txt; default: CODE.html"
    )
    gallery = commands.add_parser(
        "gallery",
        help="all figures of the lecture notes on one page",
        description="Compute and draw all figures of the lecture notes on one page.",
    )
    gallery.add_argument(
        "--out", metavar="PATH", default="gallery.html", help="default %(default)s"
    )


def run(options: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    return _figure(options) if options.command == "figure" else _gallery(options)


def _figure(options: argparse.Namespace) -> int:
    from diagnostics.files import write_whole
    from diagnostics.gallery.outputs import check_target, content

    out = options.out or f"{options.code.lower()}.html"
    suffix = check_target(out)
    write_whole(out, content(options.code, suffix))
    print(f"figure {options.code}: {out}")
    return 0


def _gallery(options: argparse.Namespace) -> int:
    from diagnostics.files import check_writable, write_whole
    from diagnostics.gallery.page import render
    from diagnostics.gallery.recipe import recipe, show

    check_writable(options.out)
    one = "figure CODE writes a single one as .svg, .png, .csv or .txt"
    check_ending("out", options.out, dict.fromkeys((*WRITERS, ".csv"), one))
    shown = []
    for code in FIGURES:
        made = recipe(code)
        print(f"{code} {FIGURES[code].heading}", file=sys.stderr)
        shown.append(show(code, made, made.numbers()))
    write_whole(options.out, render(shown))
    print(f"gallery: {options.out}")
    return 0
