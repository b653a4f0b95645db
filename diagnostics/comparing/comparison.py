"""compare: several reports beside each other, as data and as the files made from it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from diagnostics.comparing.changes import Line, numbers_of, settings_that_differ
from diagnostics.comparing.groups import MOST, Group, Run, groups_of, verdicts_of
from diagnostics.files import write_whole
from diagnostics.quantities.base import encode
from diagnostics.report import Report, load_report
from diagnostics.rules import Verdict, selected

SCHEMA, SCHEMA_VERSION = "minirnn.diagnostics.comparison", 1


@dataclass(frozen=True)
class Comparison:
    """Two to seven runs; numbers are held against those of the first.

    only: the one subject of each that is compared, or None for all.
    """

    runs: Sequence[Run]
    only: str | None = None

    @property
    def title(self) -> str:
        """What is compared, in one line."""
        return "Runs compared: " + ", ".join(run.name for run in self.runs)

    @cached_property
    def groups(self) -> list[Group]:
        """What stands side by side: a group per name of a subject, or a single one."""
        return groups_of(self.runs, self.only)

    @cached_property
    def numbers(self) -> list[list[Line]]:
        """The main numbers of each group, a cell per run."""
        return [numbers_of(group) for group in self.groups]

    @cached_property
    def settings(self) -> list[tuple[str, list[str]]]:
        """The settings that differ: name, then a value per run."""
        return settings_that_differ(self.runs, self.groups)

    @cached_property
    def verdicts(self) -> list[dict[str, list[Verdict | None]]]:
        """The verdicts of each group by rule, one per run."""
        return [verdicts_of(group, self.runs) for group in self.groups]

    def exit_code(self, fail_on: str = "fail") -> int:
        """Return 1 if a verdict of any run is one that fail_on names (`Report.exit_code`)."""
        return int(any(selected(run.report.verdicts, fail_on) for run in self.runs))

    def __str__(self) -> str:
        from diagnostics.comparing.text import summary

        return summary(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON holds: names, settings that differ, numbers, levels of verdicts."""
        names = [run.name for run in self.runs]
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "runs": [{"name": run.name, "title": run.report.title} for run in self.runs],
            "settings": {
                key: dict(zip(names, values, strict=True)) for key, values in self.settings
            },
            "groups": [
                {
                    "subject": group.title,
                    "lag": group.lag,
                    "numbers": {line.name: _cells(names, line) for line in lines},
                    "verdicts": {
                        rule: {
                            name: None if v is None else v.level
                            for name, v in zip(names, found, strict=True)
                        }
                        for rule, found in verdicts.items()
                    },
                }
                for group, lines, verdicts in zip(
                    self.groups, self.numbers, self.verdicts, strict=True
                )
            ],
        }

    def json(self) -> str:
        """Return the comparison as strict JSON in ASCII."""
        return json.dumps(self.to_dict(), allow_nan=False, separators=(",", ":")) + "\n"

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write the comparison as JSON."""
        write_whole(path, self.json())

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the comparison as one self-contained page."""
        from diagnostics.comparing.page import render

        write_whole(path, render(self))

    def to_markdown(self, path: str | PathLike[str]) -> None:
        """Write verdicts and numbers side by side as Markdown."""
        from diagnostics.comparing.text import markdown

        write_whole(path, markdown(self))

    def to_png(self, folder: str | PathLike[str]) -> list[Path]:
        """Write every picture as PNG into a folder, which is made where it is missing."""
        from diagnostics.comparing.pictures import pictures
        from diagnostics.page.paper import write_pngs

        return write_pngs(folder, pictures(self))

    def to_pdf(self, path: str | PathLike[str]) -> None:
        """Write every picture with its caption as one PDF, a page each."""
        from diagnostics.comparing.pictures import pictures
        from diagnostics.page.paper import pdf

        write_whole(path, pdf(pictures(self)))


def compare(
    runs: Sequence[Report | str | PathLike[str]],
    names: Sequence[str] | None = None,
    subject: str | None = None,
) -> Comparison:
    """Put two to seven reports side by side.

    Parameters
    ----------
    runs : reports, or paths of what `Report.to_json` wrote; numbers are held against the first
    names : what to call them, default the files' names or "run 1", "run 2", ...
    subject : compare only the subject of this name, where a report has several

    Raises
    ------
    ValueError
        Fewer than two or more than seven runs, a file that is no report, a run without a lag
        gain, or runs that have no subject in common.
    """
    for name, value in (("runs", runs), ("names", names)):
        if isinstance(value, Report | str | bytes | PathLike):
            raise TypeError(
                f"compare: {name} must be a list, one for each run, got one "
                f"{type(value).__name__}; pass all of them in one list"
            )
    runs = list(runs)  # a generator has no length
    if not 2 <= len(runs) <= MOST:
        raise ValueError(
            f"compare: runs must be two to {MOST}, as many lines as can be told apart in one "
            f"picture, got {len(runs)}; "
            + ("leave some out" if len(runs) > MOST else "pass another one")
        )
    if names is not None and len(names) != len(runs):
        raise ValueError(f"compare: names must be one per run, got {len(names)} for {len(runs)}")
    reports = [run if isinstance(run, Report) else load_report(run) for run in runs]
    called = list(names) if names is not None else _names(runs)
    if len(set(called)) < len(called):
        raise ValueError(
            f"compare: names must differ, got {', '.join(called)}; "
            "pass each run once, or other names"
        )
    made = Comparison([Run(n, r) for n, r in zip(called, reports, strict=True)], subject)
    _ = made.groups  # so that what cannot be compared is known now
    return made


def _names(runs: Sequence[Report | str | PathLike[str]]) -> list[str]:
    """Call a file by its name, by its folder too where two have the same."""
    paths = [None if isinstance(run, Report) else Path(fspath(run)) for run in runs]
    stems = [None if path is None else path.stem for path in paths]
    names = []
    for place, path in enumerate(paths):
        if path is None:
            names.append(f"run {place + 1}")
        elif stems.count(path.stem) == 1:
            names.append(path.stem)
        else:
            names.append(path.with_suffix("").as_posix())
    return names


def _cells(names: Sequence[str], line: Line) -> dict[str, Any]:
    return {
        name: None
        if cell is None
        else {"value": encode(cell.value), "ci": encode(cell.ci), "change": cell.change}
        for name, cell in zip(names, line.cells, strict=True)
    }
