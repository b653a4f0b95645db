"""A report as Markdown for a pull request: verdicts with remedies first, then the main numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diagnostics.main_numbers import main_numbers
from diagnostics.numbers import spelled
from diagnostics.rules import TABLE, Verdict
from diagnostics.text import SEVERITY, by_severity, tally

if TYPE_CHECKING:
    from diagnostics.report import Report

MOST_RUNS = 7  # of the table of numbers, and of the names in a cell
MOST_WRONG = 16  # rows of the table of verdicts, beside one for what is fine at each level
MAX_LINES = 40  # a screen


def markdown(report: "Report") -> str:
    """Verdicts grouped by rule and level, the worst first; then a line of numbers per subject."""
    lines = [f"## {report.title}", "", f"Verdicts: {tally(report.verdicts)}.", ""]
    lines += table(
        ("verdict", "rule", "way out", "runs", "evidence, of the worst"), _judged(report)
    )
    numbers = main_numbers(report)
    if numbers:
        lines += ["", *table(numbers[0], numbers[1 : 1 + MOST_RUNS])]
    if len(numbers) > 1 + MOST_RUNS:
        lines.append(f"\n{len(numbers) - 1 - MOST_RUNS} more are in the report.")
    settings = "; ".join(f"{key}: {value}" for key, value in report.settings.items())
    lines += ["", f"In brackets: 95% intervals. {settings}".strip()]
    return "\n".join(lines) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a table of Markdown; a bar inside a cell does not end it."""
    body = [list(columns), ["---"] * len(columns), *(list(row) for row in rows)]
    return [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in body]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _judged(report: "Report") -> list[list[str]]:
    """Return a row per rule and level for what is wrong, one for the rest by level."""
    ranked = by_severity(report.verdicts)
    wrong: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in ranked:
        if verdict.level not in ("ok", "info"):
            wrong.setdefault((verdict.level, verdict.title), []).append(verdict)
    rows = []
    for (level, title), found in wrong.items():
        worst = _worst(found)
        way_out = worst.remedy or "none: measure more"
        rows.append([f"**{level}**", title, way_out, _names(found), spelled(worst.evidence)])
    if len(rows) > MOST_WRONG:
        rest = f"{len(rows) - MOST_WRONG + 1} more in the report"
        rows = [*rows[: MOST_WRONG - 1], ["...", rest, "", "", ""]]
    for level in SEVERITY[-2:]:
        fine = [v for v in ranked if v.level == level]
        titles = list(dict.fromkeys(v.title for v in fine))
        if fine:
            rows.append([level, ", ".join(titles), "", f"{len(fine)} verdicts", ""])
    return rows


def _worst(found: Sequence[Verdict]) -> Verdict:
    """Return the verdict farthest on the bad side; the first where numbers do not say."""
    sign = 1 if TABLE[found[0].rule].small_is_bad else -1
    return min(found, key=lambda v: sign * v.value if v.value == v.value else float("inf"))


def _names(found: Sequence[Verdict]) -> str:
    names = [v.subject for v in found if v.subject]
    more = f" and {len(names) - MOST_RUNS} more" if len(names) > MOST_RUNS else ""
    return "; ".join(names[:MOST_RUNS]) + more
