"""A report as plain text, at most 25 lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diagnostics.rules import Verdict

if TYPE_CHECKING:
    from diagnostics.report import Report

SEVERITY = ("fail", "warn", "inconclusive", "info", "ok")
MAX_LINES = 25


def summary(report: "Report") -> str:
    """Title, count by level, one line per verdict, the worst first, then a remedy per rule."""
    ranked = by_severity(report.verdicts)
    remedies = {verdict.title: verdict.remedy for verdict in ranked if verdict.remedy}
    ways_out = [f"way out of {title}: {remedy}" for title, remedy in remedies.items()]
    lines = [report.title, tally(report.verdicts)]
    room = MAX_LINES - len(lines) - len(ways_out)
    if len(ranked) > room:
        left_out = len(ranked) - room + 1
        ways_out.insert(0, f"... and {left_out} more: report.verdicts has them all")
        ranked = ranked[: room - 1]
    return "\n".join(lines + [_line(verdict) for verdict in ranked] + ways_out)


def by_severity(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Sort verdicts, the worst first."""
    return sorted(verdicts, key=lambda verdict: SEVERITY.index(verdict.level))


def tally(verdicts: Sequence[Verdict]) -> str:
    """Count the verdicts by level: '2 fail, 4 ok'."""
    levels = [verdict.level for verdict in verdicts]
    counts = [f"{levels.count(level)} {level}" for level in SEVERITY if level in levels]
    return ", ".join(counts) or "no verdicts"


def _line(verdict: Verdict) -> str:
    subject = f" [{verdict.subject}]" if verdict.subject else ""
    return f"{verdict.level.upper():<13}{verdict.title}{subject}: {verdict.evidence}"
