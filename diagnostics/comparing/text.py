"""A comparison as plain text, at most 25 lines, and as Markdown for a pull request."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diagnostics.comparing.changes import NOTHING, UNCLEAR, Cell, Line
from diagnostics.markdown import table
from diagnostics.rules import RULES, Verdict
from diagnostics.text import MAX_LINES

if TYPE_CHECKING:
    from diagnostics.comparing.comparison import Comparison

SHOWN = 4  # numbers of the only group in the summary


def summary(comparison: "Comparison") -> str:
    """Title, what differs in the settings, then verdicts and numbers of each group.

    Of several groups only the verdicts that differ, and what is left of a gradient.
    """
    names = [run.name for run in comparison.runs]
    lines = [comparison.title]
    for key, values in comparison.settings:
        said = "; ".join(f"{n}: {v}" for n, v in zip(names, values, strict=True))
        lines.append(f"setting {key}: {said}")
    for group, numbers, verdicts in zip(
        comparison.groups, comparison.numbers, comparison.verdicts, strict=True
    ):
        lines += [group.title] if group.title else []
        indent = "  " if group.title else ""
        for rule in noteworthy(verdicts):
            levels = [NOTHING if v is None else v.level for v in verdicts[rule]]
            if not group.title or len(set(levels)) > 1:
                lines.append(f"{indent}{rule} {RULES[rule]}: {' | '.join(levels)}")
        for line in numbers[: 1 if group.title else SHOWN]:
            lines.append(f"{indent}{line.name}: {' | '.join(spelled(c) for c in line.cells)}")
    if len(lines) > MAX_LINES:
        left_out = len(lines) - MAX_LINES + 1
        lines = [*lines[: MAX_LINES - 1], f"... and {left_out} more lines: the page has them all"]
    return "\n".join(lines)


def markdown(comparison: "Comparison") -> str:
    """Return a table per group, verdicts first, with a column per run."""
    names = [run.name for run in comparison.runs]
    lines = [f"## {comparison.title}", ""]
    if comparison.settings:
        rows = [[key, *values] for key, values in comparison.settings]
        lines += [*table(("setting", *names), rows), ""]
    for group, numbers, verdicts in zip(
        comparison.groups, comparison.numbers, comparison.verdicts, strict=True
    ):
        lines += [f"### {group.title}", ""] if group.title else []
        rows = [
            [f"{rule} {RULES[rule]}", *(NOTHING if v is None else v.level for v in verdicts[rule])]
            for rule in noteworthy(verdicts)
        ]
        rows += [[line.name, *(spelled(cell) for cell in line.cells)] for line in numbers]
        lines += [*table(("", *names), rows), ""]
    lines += [f"* Way out of {title}: {remedy}." for title, remedy in ways_out(comparison)]
    lines += ["", f"In brackets: 95% intervals; {meaning(names[0])}."]
    return "\n".join(lines) + "\n"


def noteworthy(verdicts: dict[str, list[Verdict | None]]) -> list[str]:
    """Return the rules that object to some run, or do not say the same of all."""
    return [
        rule
        for rule in sorted(verdicts, key=list(RULES).index)
        if {v.level for v in verdicts[rule] if v is not None} - {"ok", "info"}
        or len({v.level for v in verdicts[rule] if v is not None}) > 1
    ]


def ways_out(comparison: "Comparison") -> list[tuple[str, str]]:
    """Return each rule that warns or fails in some run, with its remedy."""
    every = [v for found in comparison.verdicts for vs in found.values() for v in vs if v]
    remedies = {v.rule: (v.title, v.remedy) for v in every if v.remedy}
    return [remedies[rule] for rule in RULES if rule in remedies]


def agreed(verdicts: dict[str, list[Verdict | None]]) -> list[str]:
    """Return the rules that every run passes."""
    return [
        rule for rule in sorted(verdicts, key=list(RULES).index) if rule not in noteworthy(verdicts)
    ]


def spelled(cell: Cell | None) -> str:
    """Spell a number with its interval and how it stands to that of the first run."""
    if cell is None:
        return NOTHING
    return f"{cell.spelled}, {cell.change}" if cell.change else cell.spelled


def meaning(first: str) -> str:
    """Say what the words behind the numbers mean."""
    return (
        f"higher and lower: than {first}, with intervals that do not meet; {UNCLEAR}: they do meet"
    )


def rows_of(lines: Sequence[Line]) -> list[list[str]]:
    """Lay out numbers as rows of a table."""
    return [[line.name, *(spelled(cell) for cell in line.cells)] for line in lines]
