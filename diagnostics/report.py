"""Report: verdicts and quantities of one or several subjects, and the files made from them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from diagnostics.files import write_whole
from diagnostics.quantities.base import Cost, Quantity, decode, encode
from diagnostics.quantities.kinds import QUANTITIES
from diagnostics.rules import Verdict, selected
from diagnostics.wellformed import check_report, check_verdict

SCHEMA, SCHEMA_VERSION = "minirnn.diagnostics", 1


@dataclass(frozen=True)
class Subject:
    """What is reported on: a run or a layer, by name, with its settings and its quantities."""

    name: str
    quantities: Mapping[str, Any]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Verdicts with everything that they rest on.

    ``report["lag_gain"]`` is a quantity of the only subject, ``report["name", "lag_gain"]`` of
    one of several.  seconds: named durations; empty unless asked for, so that a report is
    byte-identical for the same seed, machine and environment.  about: what was done, in words.
    """

    title: str
    subjects: Sequence[Subject]
    verdicts: Sequence[Verdict]
    settings: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    about: str = ""

    def __getitem__(self, key: str | tuple[str, str]) -> Any:
        name, quantity = key if isinstance(key, tuple) else (None, key)
        names = [subject.name for subject in self.subjects]
        if name is None and len(names) != 1:
            raise KeyError(
                f"report has several subjects: ask for one, as report[{names[0]!r}, {quantity!r}]"
            )
        if name is not None and name not in names:
            raise KeyError(f"report has no subject {name!r}; it has {names}")
        quantities = self.subjects[0 if name is None else names.index(name)].quantities
        if quantity not in quantities:
            raise KeyError(f"report has no quantity {quantity!r}; it has {list(quantities)}")
        return quantities[quantity]

    def __str__(self) -> str:
        from diagnostics.text import summary

        return summary(self)

    def exit_code(self, fail_on: str = "fail") -> int:
        """Return 1 if a verdict is of a level or rule named in fail_on, else 0.

        fail_on: "warn", "fail", or rules such as "R1,R9", which count when they warn or fail.
        """
        return 1 if selected(self.verdicts, fail_on) else 0

    def json(self) -> str:
        """Return the report as strict JSON in ASCII; `load_report` reads it back."""
        return json.dumps(self.to_dict(), allow_nan=False, separators=(",", ":")) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        document: dict[str, Any] = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
        document |= encode(self)
        if not self.seconds:
            del document["seconds"]
        return document

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write the report as JSON."""
        write_whole(path, self.json())

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the report as one self-contained page."""
        from diagnostics.page.html import render

        write_whole(path, render(self))

    def to_markdown(self, path: str | PathLike[str]) -> None:
        """Write verdicts with their remedies and the main numbers as Markdown, at most a screen."""
        from diagnostics.markdown import markdown

        write_whole(path, markdown(self))

    def to_png(self, folder: str | PathLike[str]) -> list[Path]:
        """Write every picture as PNG into a folder, which is made where it is missing.

        Returns the files' paths.  The same report gives the same bytes.
        """
        from diagnostics.page.paper import write_pngs
        from diagnostics.page.pictures import pictures

        return write_pngs(folder, pictures(self))

    def to_pdf(self, path: str | PathLike[str]) -> None:
        """Write every picture with its caption as one PDF, a page each.

        The same report gives the same bytes.
        """
        from diagnostics.page.paper import pdf
        from diagnostics.page.pictures import pictures

        write_whole(path, pdf(pictures(self)))


def load_report(path: str | PathLike[str]) -> Report:
    """Read a report that `Report.to_json` wrote, or make one from the file of a `Monitor`."""
    from diagnostics.monitor.account import report_of_file  # which stands above this module
    from diagnostics.monitor.journal import is_journal

    if is_journal(path):
        return report_of_file(path)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"load_report: {path} is not JSON ({error})") from error
    return from_dict(document, str(path))


def from_dict(document: Any, source: str) -> Report:
    """Make a report from what its JSON holds."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(
            f"load_report: {source} is not a report; it must be what Report.to_json wrote"
        )
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"load_report: {source} has schema version {document.get('schema_version')!r}, this "
            f"version reads {SCHEMA_VERSION}; write it again with the minirnn at hand"
        )
    try:
        check_report(document)
        return Report(
            title=document["title"],
            subjects=[_subject(item) for item in document["subjects"]],
            verdicts=[_verdict(item) for item in document["verdicts"]],
            settings=document["settings"],
            machine=document["machine"],
            seconds=document.get("seconds", {}),
            about=document["about"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"load_report: {source} is damaged ({why})") from error


def _subject(item: dict[str, Any]) -> Subject:
    quantities = {name: quantity_from(name, q) for name, q in item["quantities"].items()}
    return Subject(item["name"], quantities, item["settings"])


def quantity_from(name: str, item: dict[str, Any]) -> Quantity:
    """Make the quantity that a report knows by this name from what its JSON holds."""
    kind = QUANTITIES[name]
    names = {f.name for f in dataclasses.fields(kind)}
    fields: dict[str, Any] = {key: decode(value) for key, value in item.items() if key in names}
    return kind(**fields | {"cost": Cost(**item["cost"])})


def _verdict(item: dict[str, Any]) -> Verdict:
    fields = {key: decode(value) for key, value in item.items()}
    if fields["ci"] is not None:
        low, high = item["ci"]
        fields["ci"] = (float(low), float(high))
    verdict = Verdict(**fields)
    check_verdict(verdict)
    return verdict
