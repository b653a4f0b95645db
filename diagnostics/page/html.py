"""The page: a report's verdicts and pictures in one HTML file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from diagnostics.numbers import short, spelled
from diagnostics.page.pictures import pictures
from diagnostics.page.pictures_of_numbers import self_checks
from diagnostics.report import Report
from diagnostics.rules import (
    CLIPPED_FAIL,
    CLIPPED_WARN,
    EXPLODING_FAIL,
    EXPLODING_WARN,
    MIN_SAMPLES,
    RULES,
    TABLE,
    VANISHING_FAIL,
    VANISHING_WARN,
    Verdict,
    judged_lags,
)
from diagnostics.text import by_severity, tally

_HERE = Path(__file__).parent
STYLE = (_HERE / "style.css").read_text(encoding="utf-8")


def render(report: Report) -> str:
    """Make the page.  A pure function of the report: the same report gives the same bytes."""
    rules = [rule for rule in RULES if any(v.rule == rule for v in report.verdicts)]
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            style=STYLE,
            tally=tally(report.verdicts),
            overview=overview(
                [subject.name for subject in report.subjects], report.verdicts, rules
            ),
            legend=legend(report),
            note=NOTE,
            objections=_objections(report),
            pictures=pictures(report),
            samples=_samples(report),
            checks=self_checks(report),
            tables=_tables(report),
            runs=_runs(report),
            data=embedded(report.json()),
            short=short,
            judged=shown_number,
            spelled=spelled,
        )
    )


def environment(*folders: Path) -> jinja2.Environment:
    """Return what makes pages from templates, of this folder and of others; strict about names."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    made.globals["sentence"] = _sentence
    return made


def embedded(data: str) -> str:
    """Return JSON in a form that no HTML parser can mistake for markup."""
    text = data.rstrip()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


@dataclass(frozen=True)
class Overview:
    """The table of verdicts: names of its columns; rows of a name and a verdict or None each."""

    corner: str
    columns: list[str]
    rows: list[tuple[str, list[Verdict | None]]]


def overview(names: Sequence[str], verdicts: Sequence[Verdict], rules: Sequence[str]) -> Overview:
    """Lay out one verdict per subject and rule, the longer of the two downwards."""
    found = {(name, v.rule): v for v in verdicts for name in names if _concerns(v, name)}
    found |= {(v.subject, v.rule): v for v in verdicts}  # its own counts before its layer's
    titles = [f"{rule} {RULES[rule]}" for rule in rules]
    if len(rules) > len(names):
        down = [
            (title, [found.get((name, rule)) for name in names])
            for rule, title in zip(rules, titles, strict=True)
        ]
        return Overview("rule", list(names), down)
    rows = [(name, [found.get((name, rule)) for rule in rules]) for name in names]
    return Overview("run", titles, rows)


def _concerns(verdict: Verdict, name: str) -> bool:
    """Whether a verdict is on a subject: a layer's holds for all of its levels and directions."""
    return f"{name}, ".startswith(f"{verdict.subject}, ")


def _objections(report: Report) -> list[list[Verdict]]:
    """Group what is wrong by rule and level: they share threshold and remedy."""
    wrong = [v for v in by_severity(report.verdicts) if v.level not in ("ok", "info")]
    groups: dict[tuple[str, str, float], list[Verdict]] = {}
    for verdict in wrong:
        groups.setdefault((verdict.rule, verdict.level, verdict.threshold), []).append(verdict)
    return list(groups.values())


def legend(report: Report) -> list[tuple[str, str]]:
    """Say what each rule that was used judges, and its thresholds."""
    lines = {
        "R1": f"what is left of a gradient {_lags(report)} (the lag gain); warn below "
        f"{short(VANISHING_WARN, 1)}, fail below {short(VANISHING_FAIL)}",
        "R2": f"the same; warn above {short(EXPLODING_WARN)}, fail above "
        f"{short(EXPLODING_FAIL)} or when a gradient was not finite",
        "R9": f"the fraction of steps clipped; warn above {CLIPPED_WARN:.0%}, fail above "
        f"{CLIPPED_FAIL:.0%}",
    }
    for rule in TABLE.keys() - lines.keys():
        lines[rule] = _meaning(rule)
    used = {verdict.rule for verdict in report.verdicts}
    return [(rule, _sentence(lines[rule])) for rule in TABLE if rule in used]


NOTE = (
    f"In brackets: 95% intervals. Inconclusive: fewer than {MIN_SAMPLES} samples, or an interval "
    "that straddles a threshold. Info: a fact that is neither good nor bad."
)


def _meaning(name: str) -> str:
    """Say what a rule judges, and its thresholds."""
    rule = TABLE[name]
    side = "below" if rule.small_is_bad else "above"
    limits = f"warn {side} {short(rule.warn)}"
    if rule.fact:
        limits = f"info {side} {short(rule.warn)}"
    elif rule.fail or not rule.small_is_bad:
        limits += f", fail {side} {short(rule.fail)}"
    if rule.above:
        limits += f", warn above {short(rule.above[0])}, fail above {short(rule.above[1])}"
    return f"{rule.judged}; {limits}"


def _lags(report: Report) -> str:
    return f"{' or '.join(str(lag) for lag in judged_lags(report.verdicts))} steps earlier"


def shown_number(verdict: Verdict) -> list[str]:
    """Return the number that was judged and its interval, a line each."""
    if verdict.rule == "R9":
        return [f"{verdict.value:.1%} of steps"]
    lines = [short(verdict.value)]
    if verdict.ci is not None and verdict.ci != (verdict.value, verdict.value):
        lines.append(f"[{short(verdict.ci[0])}, {short(verdict.ci[1])}]")
    return lines


def _sentence(text: str) -> str:
    """Begin with a capital, end with a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _samples(report: Report) -> list[tuple[str, str, str]]:
    runs = [
        (s.name, s.quantities["training"]) for s in report.subjects if "training" in s.quantities
    ]
    return [(name, run.prompt, run.sample) for name, run in runs if run.sample]


def _runs(report: Report) -> list[list[str]]:
    """Lay the subjects' settings out as a table: the column names, then a row per subject."""
    columns = list(dict.fromkeys(key for s in report.subjects for key in s.settings))
    rows = [[s.name, *(s.settings.get(key, "") for key in columns)] for s in report.subjects]
    return [columns, *rows] if columns else []


def _tables(report: Report) -> list[tuple[str, dict[str, str]]]:
    tables = [("Settings", dict(report.settings))]
    tables.append(("Machine", dict(report.machine)))
    if report.seconds:
        tables.append(("Seconds", {key: f"{value:.2f}" for key, value in report.seconds.items()}))
    return [(heading, table) for heading, table in tables if table]
