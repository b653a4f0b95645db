"""The page of a comparison: one HTML file that needs nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING

from diagnostics.comparing.pictures import look_of, pictures
from diagnostics.comparing.text import agreed, meaning, noteworthy, rows_of, ways_out
from diagnostics.page.html import NOTE, STYLE, Overview, embedded, environment, shown_number
from diagnostics.rules import RULES

if TYPE_CHECKING:
    from diagnostics.comparing.comparison import Comparison

_HERE = Path(__file__).parent


def render(comparison: "Comparison") -> str:
    """Make the page.  The same reports give the same bytes."""
    names = [run.name for run in comparison.runs]
    groups = []
    for group, verdicts, lines in zip(
        comparison.groups, comparison.verdicts, comparison.numbers, strict=True
    ):
        rules = noteworthy(verdicts)
        table = Overview("rule", names, [(f"{r} {RULES[r]}", verdicts[r]) for r in rules])
        passed = [f"{rule} {RULES[rule]}" for rule in agreed(verdicts)]
        groups.append((group.title, table if rules else None, passed, rows_of(lines)))
    return (
        environment(_HERE)
        .get_template("comparison.html")
        .render(
            title=comparison.title,
            style=STYLE,
            names=names,
            runs=[(run, look_of(comparison, place)) for place, run in enumerate(comparison.runs)],
            settings=[[key, *values] for key, values in comparison.settings],
            groups=groups,
            remedies=ways_out(comparison),
            pictures=pictures(comparison),
            note=NOTE,
            meaning=meaning(names[0]),
            data=embedded(comparison.json()),
            judged=shown_number,
        )
    )
