"""Whether what a report's JSON holds is of the right kinds: what cannot be is refused early."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diagnostics.rules import LEVELS, RULES, Verdict

TEXTS = ("title", "about")
TABLES = ("settings", "machine")


def check_report(document: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError for the first part of a report that cannot be.

    What quantities hold is theirs; here are their names and what is said about them.
    """
    for name in TEXTS:
        _must(isinstance(document[name], str), name, "a text", document[name])
    for name in TABLES:
        _check_table(name, document[name])
    seconds = document.get("seconds", {})
    _must(isinstance(seconds, dict), "seconds", "an object", seconds)
    for name, value in seconds.items():
        _must(_number(value), f"seconds: {name}", "a number", value)
    for name in ("subjects", "verdicts"):
        _must(isinstance(document[name], list), name, "a list", document[name])
    for subject in document["subjects"]:
        _must(isinstance(subject, dict), "a subject", "an object", subject)
        _must(isinstance(subject["name"], str), "a subject's name", "a text", subject["name"])
        _check_table("settings", subject["settings"])


@contextmanager
def blaming(path: str | None) -> Iterator[None]:
    """Say of a report's file that it is damaged where its numbers cannot be drawn.

    path: the file that the report was read from; None leaves errors as they are.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        if path is None:
            raise
        raise ValueError(
            f"report: {path} is damaged, or was changed: its numbers cannot be drawn ({error})"
        ) from error


def check_verdict(verdict: Verdict) -> None:
    """Raise TypeError or ValueError for a verdict that no rule gives."""
    _must(verdict.rule in RULES, "a verdict's rule", f"one of {', '.join(RULES)}", verdict.rule)
    _must(verdict.level in LEVELS, "a verdict's level", f"one of {', '.join(LEVELS)}",
          verdict.level)  # fmt: skip
    for name in ("value", "threshold"):
        _must(_number(getattr(verdict, name)), f"a verdict's {name}", "a number",
              getattr(verdict, name))  # fmt: skip
    for name in ("evidence", "remedy", "subject"):
        _must(isinstance(getattr(verdict, name), str), f"a verdict's {name}", "a text",
              getattr(verdict, name))  # fmt: skip
    whole = verdict.lag is None or (isinstance(verdict.lag, int) and _number(verdict.lag))
    _must(whole, "a verdict's lag", "a whole number", verdict.lag)


def _check_table(name: str, table: Any) -> None:
    _must(isinstance(table, dict), name, "an object", table)
    for key, value in table.items():
        _must(isinstance(value, str), f"{name}: {key}", "a text", value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _must(holds: bool, name: str, kind: str, value: Any) -> None:
    if not holds:
        raise TypeError(f"{name} must be {kind}, got {value!r}"[:200])
