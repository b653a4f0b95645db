"""A report as plain text (at most 25 lines) and as Markdown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnostics.numbers import short, with_interval
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


def markdown(report: "Report") -> str:
    """Verdicts as a table, then every quantity with its interval, how and cost."""
    lines = [
        f"# {report.title}",
        "",
        "| rule | subject | level | value | threshold | evidence | remedy |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for v in report.verdicts:
        cells = (
            v.title,
            v.subject,
            f"**{v.level}**",
            with_interval(v.value, v.ci),
            short(v.threshold),
            v.evidence,
            v.remedy,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for subject in report.subjects:
        lines += ["", f"## {subject.name}", ""]
        lines += [f"* {key}: {value}" for key, value in subject.settings.items()]
        for name, quantity in subject.quantities.items():
            lines.append(
                f"* **{name}**: {headline(name, quantity)}. {quantity.how}. Cost: {quantity.cost}."
            )
    for heading, table in (("Settings", report.settings), ("Machine", report.machine)):
        lines += ["", f"## {heading}", ""] + [f"* {key}: {value}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def headline(name: str, quantity: Any) -> str:
    """Spell the one number of a quantity, with its interval."""
    value, ci = quantity.value, quantity.ci
    if getattr(value, "ndim", 0) > 1 or np.size(value) == 0:
        return f"{' by '.join(str(n) for n in np.shape(value))} numbers"
    if getattr(value, "ndim", 0) == 1:
        where = -1 if name == "lag_gain" else 0
        at = f"G({len(value) - 1})" if name == "lag_gain" else "first row"
        return f"{at} = {with_interval(value[where], None if ci is None else ci[where])}"
    return with_interval(float(value), ci)


def _line(verdict: Verdict) -> str:
    subject = f" [{verdict.subject}]" if verdict.subject else ""
    return f"{verdict.level.upper():<13}{verdict.title}{subject}: {verdict.evidence}"
