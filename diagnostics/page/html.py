"""The page: a report's verdicts and pictures in one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from diagnostics.numbers import short, spelled
from diagnostics.page import pictures_of_flow, pictures_of_timeline, pictures_of_training
from diagnostics.page.picture import Picture
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
)
from diagnostics.text import by_severity, tally

PICTURES = (
    pictures_of_flow.lag_gain,
    pictures_of_flow.gradient_flow,
    pictures_of_timeline.timeline,
    pictures_of_training.heat_map,
    pictures_of_training.clipping,
    pictures_of_training.loss,
)
_HERE = Path(__file__).parent


def render(report: Report) -> str:
    """Make the page.  A pure function of the report: the same report gives the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    rules = [rule for rule in RULES if any(v.rule == rule for v in report.verdicts)]
    return environment.get_template("page.html").render(
        report=report,
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        tally=tally(report.verdicts),
        rules=[(rule, f"{rule} {RULES[rule]}") for rule in rules],
        overview=_overview(report, rules),
        legend=_legend(report),
        objections=_objections(report),
        pictures=pictures(report),
        samples=_samples(report),
        tables=_tables(report),
        runs=_runs(report),
        data=embeddable(report),
        short=short,
        judged=_judged,
        sentence=_sentence,
        spelled=spelled,
    )


def pictures(report: Report) -> list[Picture]:
    """Draw every picture that the report has data for."""
    drawn = [draw(report) for draw in PICTURES]
    return [picture for picture in drawn if picture is not None]


def embeddable(report: Report) -> str:
    """Return the report's JSON in a form that no HTML parser can mistake for markup."""
    text = report.json().rstrip()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


def _overview(report: Report, rules: Sequence[str]) -> list[tuple[str, list[Verdict | None]]]:
    """One row per subject, one verdict per rule, None where the rule does not apply."""
    found = {(v.subject, v.rule): v for v in report.verdicts}
    names = [subject.name for subject in report.subjects]
    return [(name, [found.get((name, rule)) for rule in rules]) for name in names]


def _objections(report: Report) -> list[list[Verdict]]:
    """Group what is wrong by rule and level: they share threshold and remedy."""
    wrong = [v for v in by_severity(report.verdicts) if v.level not in ("ok", "info")]
    groups: dict[tuple[str, str, float], list[Verdict]] = {}
    for verdict in wrong:
        groups.setdefault((verdict.rule, verdict.level, verdict.threshold), []).append(verdict)
    return list(groups.values())


def _legend(report: Report) -> str:
    lines = {
        "R1": f"R1: what is left of a gradient {_lags(report)} (the lag gain); warn below "
        f"{short(VANISHING_WARN, 1)}, fail below {short(VANISHING_FAIL)}.",
        "R2": f"R2: the same; warn above {short(EXPLODING_WARN)}, fail above "
        f"{short(EXPLODING_FAIL)} or when a gradient was not finite.",
        "R9": f"R9: the fraction of steps clipped; warn above {CLIPPED_WARN:.0%}, fail above "
        f"{CLIPPED_FAIL:.0%}.",
    }
    for rule in TABLE.keys() - lines.keys():
        lines[rule] = _meaning(rule)
    used = {verdict.rule for verdict in report.verdicts}
    note = (
        f"In brackets: 95% intervals. Inconclusive: fewer than {MIN_SAMPLES} samples, or an "
        "interval that straddles a threshold. Info: a fact that is neither good nor bad."
    )
    return " ".join([lines[rule] for rule in TABLE if rule in used] + [note])


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
    return f"{name}: {rule.judged}; {limits}."


def _lags(report: Report) -> str:
    lags = sorted({v.lag for v in report.verdicts if v.lag is not None})
    return f"{' or '.join(str(lag) for lag in lags)} steps earlier"


def _judged(verdict: Verdict) -> list[str]:
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
