"""What every command of reports can write: the page, JSON, Markdown, figures, an exit code."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

ENDINGS = {"out": (".html", ".htm"), "markdown": (".md", ".markdown", ".txt")}
# What writes a file whose name ends so; other ends, and none, say nothing and are all right.
WRITERS = {
    **dict.fromkeys((".html", ".htm"), "--out writes the page"),
    **dict.fromkeys((".md", ".markdown"), "--markdown writes Markdown"),
    **dict.fromkeys((".json", ".jsonl"), "--json prints JSON on standard output"),
    ".pdf": "--figures writes the figures as PDF",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".svg"), "--figures FOLDER writes them as PNG"),
    ".txt": "the summary as text is what is printed",
}


def add_outputs(command: argparse.ArgumentParser, page: str) -> None:
    """Describe the options to a command's parser.  page: where the page goes by default."""
    command.add_argument("--out", metavar="PATH", default=page, help="default %(default)s")
    command.add_argument("--json", action="store_true", help="print JSON on standard output")
    command.add_argument("--markdown", metavar="PATH", help="write a page for a pull request too")
    command.add_argument(
        "--figures",
        metavar="PLACE",
        help="write the figures too: a name that ends with .pdf, or a folder for PNG",
    )
    command.add_argument(
        "--fail-on",
        metavar="WHAT",
        help="exit with 1 on these: warn, fail, or rules such as R1,R9",
    )


def check_outputs(options: argparse.Namespace, read: Sequence[str | None]) -> None:
    """Raise OSError or ValueError now for what could not be written after an hour's work.

    read: the files that the command reads, which must not be written over.
    """
    from diagnostics.files import check_apart, check_folder, check_writable
    from diagnostics.rules import selected

    if options.fail_on is not None:
        selected([], options.fail_on)  # a wrong name is an error
    check_writable(options.out)
    if options.markdown is not None:
        check_writable(options.markdown)
    if options.figures is not None:
        check = check_writable if _is_pdf(options) else check_folder
        check(options.figures)
    for path in (options.out, options.markdown, options.figures):
        if path is not None:
            check_apart(path, read)
    _check_distinct(options)
    for name in ("out", "markdown"):
        check_ending(name, getattr(options, name), WRITERS)


def check_ending(name: str, path: str | None, writers: Mapping[str, str]) -> None:
    """Raise ValueError where a name's end promises what the option of that name does not write.

    writers: by such an end, what does write it.
    """
    suffix = "" if path is None else os.path.splitext(path)[1].lower()
    if suffix in writers and suffix not in ENDINGS[name]:
        raise ValueError(
            f"{name}: {path} must end in {' or '.join(ENDINGS[name])}, got {suffix}; "
            + writers[suffix]
        )


def _check_distinct(options: argparse.Namespace) -> None:
    """Raise ValueError where two options name one place: what is written first would be lost."""
    from diagnostics.files import is_device

    taken: dict[str, str] = {}
    for name in ("out", "markdown", "figures"):
        path = getattr(options, name)
        if path is None or is_device(path):
            continue
        other = taken.setdefault(os.path.realpath(path), name)
        if other != name:
            raise ValueError(
                f"{name}: {path} is what --{other} names too, and one would be lost; name another"
            )


def write_outputs(made: Any, options: argparse.Namespace) -> int:
    """Write what was asked for of a report or a comparison; returns the exit code."""
    made.to_html(options.out)
    if options.markdown is not None:
        made.to_markdown(options.markdown)
    if options.figures is not None:
        write = made.to_pdf if _is_pdf(options) else made.to_png
        write(options.figures)
    if options.json:
        sys.stdout.write(made.json())
    last = sys.stderr if options.json else sys.stdout
    print(made, file=last)
    for kind, path in (("markdown", options.markdown), ("figures", options.figures)):
        if path is not None:
            print(f"{kind}: {path}", file=last)
    print(f"report: {options.out}", file=last)
    return 0 if options.fail_on is None else int(made.exit_code(options.fail_on))


def _is_pdf(options: argparse.Namespace) -> bool:
    return str(options.figures).lower().endswith(".pdf")
