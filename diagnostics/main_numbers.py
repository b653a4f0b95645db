"""The numbers that most readers ask for, a line per subject, spelled with their intervals."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from diagnostics.numbers import short, with_interval
from diagnostics.rules import judged_lags

if TYPE_CHECKING:
    from diagnostics.report import Report, Subject

    Spell = Callable[[Report, Subject], str]


def main_numbers(report: "Report") -> list[list[str]]:
    """Lay out the numbers that most readers ask for: the column names, then a row per subject.

    Only columns that some subject has; nothing where there are none.
    """
    subjects = report.subjects
    columns = {name: [spell(report, s) for s in subjects] for name, spell in NUMBERS.items()}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    if not columns:
        return []
    rows = zip(*columns.values(), strict=True)
    names = [subject.name for subject in subjects]
    return [["run", *columns], *([name, *row] for name, row in zip(names, rows, strict=True))]


def _number(name: str, digits: int = 2) -> "Spell":
    def spell(report: "Report", subject: "Subject") -> str:
        quantity = subject.quantities.get(name)
        return "" if quantity is None else with_interval(float(quantity.value), quantity.ci, digits)

    return spell


def _gain(report: "Report", subject: "Subject") -> str:
    gain = subject.quantities.get("lag_gain")
    if gain is None:
        return ""
    lags = judged_lags(report.verdicts, subject.name)
    lag = min(lags[0] if lags else len(gain.value), len(gain.value) - 1)
    return f"{with_interval(gain.value[lag], gain.ci[lag])} at lag {lag}"


def _horizon(report: "Report", subject: "Subject") -> str:
    rate = subject.quantities.get("decay_rate")
    return "" if rate is None else f"{short(rate.horizon)} steps"


def _exponent(report: "Report", subject: "Subject") -> str:
    found = subject.quantities.get("lyapunov")
    if found is None:
        return ""
    return with_interval(float(found.value[0]), None if found.ci is None else found.ci[0], 3)


def _timescale(report: "Report", subject: "Subject") -> str:
    found = subject.quantities.get("memory_timescales")
    return "" if found is None else f"{with_interval(found.value, found.ci)} steps"


def _clipped(report: "Report", subject: "Subject") -> str:
    clip = subject.quantities.get("clipping")
    if clip is None:
        return ""
    return "off" if clip.max_norm is None else f"{clip.value:.1%} at {clip.max_norm:g}"


NUMBERS: dict[str, "Spell"] = {
    "what is left of a gradient": _gain,
    "ρ per step": _number("decay_rate", 3),  # noqa: RUF001 - the letter of the report
    "1/1000 left after": _horizon,
    "λ₁": _exponent,
    "τ, 95th percentile": _timescale,
    "steps clipped": _clipped,
    "loss on unseen text": _number("training", 3),
}
