"""Which subjects of several reports belong side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from diagnostics.report import Report, Subject
from diagnostics.rules import Verdict, judged_lags

MOST = 7  # lines that can be told apart in one axes


@dataclass(frozen=True)
class Run:
    """A report with the name that it has in a comparison."""

    name: str
    report: Report


@dataclass(frozen=True)
class Group:
    """What is compared with each other: at most one subject of each run.

    title: the subjects' name, or "" where each run has only one.  members: a subject or None per
    run.  lag: the lag at which all of their gains are compared.
    """

    title: str
    members: tuple[Subject | None, ...]
    lag: int

    @property
    def there(self) -> list[tuple[int, Subject]]:
        """The runs that have a subject here, by their place, with it."""
        return [(place, s) for place, s in enumerate(self.members) if s is not None]


def groups_of(runs: Sequence[Run], only: str | None = None) -> list[Group]:
    """Put subjects of one name side by side, or the only subjects of all runs.

    only: leave out all other subjects.  Subjects without a lag gain stay out; a run that has no
    subject left is an error.
    """
    found = [_comparable(run, only) for run in runs]
    if only is not None or all(len(subjects) == 1 for subjects in found):
        return [_group("", [subjects[0] for subjects in found], runs)]
    names = list(dict.fromkeys(s.name for subjects in found for s in subjects))
    table = [[next((s for s in have if s.name == n), None) for have in found] for n in names]
    if not any(sum(s is not None for s in members) > 1 for members in table):
        raise ValueError(
            "compare: the runs must have a subject of one name in common, got "
            f"{'; '.join(', '.join(s.name for s in subjects) for subjects in found)}; "
            "compare runs with one subject each, or of the same model"
        )
    return [_group(name, members, runs) for name, members in zip(names, table, strict=True)]


def _comparable(run: Run, only: str | None) -> list[Subject]:
    have = [s for s in run.report.subjects if "lag_gain" in s.quantities]
    if not have:
        raise ValueError(
            f"compare: {run.name} must hold a lag gain, it has none; "
            "make it with diagnose(..., level='standard') or with the demo"
        )
    chosen = have if only is None else [s for s in have if s.name == only]
    if not chosen:
        raise ValueError(
            f"compare: {run.name} has no subject {only!r}; it has "
            f"{', '.join(repr(s.name) for s in have)}"
        )
    return chosen


def _group(title: str, members: Sequence[Subject | None], runs: Sequence[Run]) -> Group:
    """Choose the smallest lag at which one of them was judged and that all of them reach."""
    there = [(run, s) for run, s in zip(runs, members, strict=True) if s is not None]
    longest = min(len(s.quantities["lag_gain"].value) - 1 for _, s in there)
    judged = [lag for run, s in there for lag in judged_lags(run.report.verdicts, s.name)]
    return Group(title, tuple(members), min([longest, *judged]))


def verdicts_of(group: Group, runs: Sequence[Run]) -> dict[str, list[Verdict | None]]:
    """Return each rule's verdict per run, None where a run was not judged by it."""
    found: dict[str, list[Verdict | None]] = {}
    for place, subject in group.there:
        for verdict in runs[place].report.verdicts:
            if verdict.subject == subject.name:
                found.setdefault(verdict.rule, [None] * len(runs))[place] = verdict
    return found
