"""The monitor's file: JSON lines, each complete in itself, written so that a crash loses one.

Lines are dicts whose "kind" says what they hold: "run", what is trained; "step", a measured step;
"alarm", the first step at which something broke; "resume", that the run went on from a step; "end",
that it ended.  Numbers that are not finite are the strings "nan", "inf" and "-inf".
"""

import json
import logging
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diagnostics.files import check_writable

SCHEMA, SCHEMA_VERSION = "minirnn.monitor", 1
_BEGINNING = b'{"schema":"' + SCHEMA.encode("ascii") + b'"'  # of every line
TORN = "torn: the run was stopped while it was written"

Line = dict[str, Any]


@dataclass
class Run:
    """What a monitor knows of a run: the lines of its file, taken one after the other.

    keep: how many rows and parts are kept, None for all.  head: of the run, {} where it was lost.
    rows: of the measured steps.  parts: columns of all steps, a part for every row and one for
    those after the last.  alarms: the first of each kind.  ended: why it ended, "" if it did not
    say.  skipped: lines that could not be read, in words.
    """

    keep: int | None = None
    head: Line = field(default_factory=dict)
    rows: deque[Line] = field(default_factory=deque)
    parts: deque[Line] = field(default_factory=deque)
    alarms: list[Line] = field(default_factory=list)
    ended: str = ""
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = deque(self.rows, self.keep)
        self.parts = deque(self.parts, self.keep)

    def take(self, line: Line) -> None:
        """Take the next line into account."""
        kind = line["kind"]
        if kind == "run":
            self.head = line
        elif kind == "step":
            self.parts.append(line["since"])
            self.rows.append(line)
        elif kind == "alarm":
            self.alarms.append(line)
        elif kind == "resume":
            self._go_back_to(line["step"])
        elif kind == "end":
            self.parts.extend([line["since"]] if line["since"] else [])
            self.ended = line["why"]

    @property
    def next_step(self) -> int:
        """Number of the step after the last that is known."""
        if not self.parts:
            return 0
        return int(self.parts[-1]["first"]) + len(self.parts[-1]["loss"])

    def _go_back_to(self, step: int) -> None:
        """Forget what a run that starts again from a step goes through once more."""
        self.rows = deque([row for row in self.rows if row["step"] < step], self.keep)
        self.alarms = [alarm for alarm in self.alarms if alarm["step"] < step]
        parts = [_until(part, step) for part in self.parts if part["first"] < step]
        self.parts, self.ended = deque(parts, self.keep), ""


def _until(part: Line, step: int) -> Line:
    count = step - part["first"]
    return {k: v[:count] if isinstance(v, list) else v for k, v in part.items()}


class Journal:
    """Appends lines to a file; opened, written and closed for each, so that nothing stays open.

    A line that cannot be written (the disk is full) waits for the next: training goes on.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._waiting = b""
        check_writable(self.path)

    def append(self, line: Line) -> None:
        """Write a line, and those that wait."""
        self._waiting += encoded(line)
        try:
            with open(self.path, "ab") as file:
                file.write(self._waiting)
        except OSError as error:
            logging.getLogger("diagnostics").warning(
                "Monitor: %s could not be written (%s); training goes on, the lines wait",
                self.path, error.strerror,
            )  # fmt: skip
        else:
            self._waiting = b""

    def mend(self) -> None:
        """End a last line that a crash has torn, so that the next one begins by itself."""
        if self.path.stat().st_size and self.path.read_bytes()[-1:] != b"\n":
            self._waiting = b"\n"


def encoded(line: Line) -> bytes:
    """Return a line as bytes: strict JSON in ASCII."""
    document = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **line}
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def is_journal(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a monitor's file does."""
    with open(path, "rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def read_run(path: str | os.PathLike[str], run: Run | None = None) -> Run:
    """Read a monitor's file into a run; lines that are torn or damaged are skipped and told of.

    Raises
    ------
    ValueError
        No line of the file is one that a monitor wrote.
    """
    run, known = run or Run(), 0
    lines = Path(path).read_bytes().split(b"\n")
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            run.take(_decoded(raw))
            known += 1
        except (ValueError, KeyError, TypeError, AttributeError):
            last = number == len(lines)  # without an end of its own
            run.skipped.append(f"line {number} is {TORN if last else 'damaged'}")
    if not known:
        raise ValueError(
            f"load_report: {path} holds no line that a Monitor of schema version "
            f"{SCHEMA_VERSION} wrote; it must be a file that was passed to it as path"
        )
    return run


def _decoded(raw: bytes) -> Line:
    line = json.loads(raw)
    if line["schema"] != SCHEMA or line["schema_version"] != SCHEMA_VERSION:
        raise ValueError("not a monitor's line of this version")
    return dict(line)
