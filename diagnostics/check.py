"""`python -m diagnostics check`: do the numbers here agree with those known on paper."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from diagnostics.closed_forms import Outcome

SCHEMA, SCHEMA_VERSION = "minirnn.diagnostics.check", 1


def add_check(commands: Any) -> None:
    """Describe the command to the parser."""
    check = commands.add_parser(
        "check",
        help="the closed forms: numbers known on paper, and what comes out here",
        description="Run networks and maps whose gradients and exponents are known on paper. "
        "Exit code 1 if a number is farther from the truth than its mathematics allows.",
    )
    check.add_argument("--json", action="store_true", help="print JSON on standard output")


def run_check(options: argparse.Namespace) -> int:
    """Run every closed form, say which hold; returns the exit code."""
    from diagnostics.closed_forms import outcomes

    told = sys.stderr if options.json else sys.stdout
    found: list[Outcome] = []
    for outcome in outcomes():
        if found and outcome.row != found[-1].row:
            _tell_row(found, told)
        found.append(outcome)
    if found:
        _tell_row(found, told)
    missed = [outcome for outcome in found if not outcome.holds]
    rows = len({outcome.row for outcome in found})
    ending = f"{len(missed)} miss" if missed else "all hold"
    print(f"{len(found)} closed forms in {rows} rows: {ending}", file=told)
    if options.json:
        sys.stdout.write(document(found))
    return 1 if missed else 0


def document(found: "list[Outcome]") -> str:
    """Return the outcomes as strict JSON."""
    from diagnostics.quantities.base import encode

    outcomes = [
        {
            "row": o.row, "name": o.name, "error": o.error, "tolerance": o.tolerance,
            "reason": o.reason, "holds": o.holds,
        }
        for o in found
    ]  # fmt: skip
    held = all(o.holds for o in found)
    whole = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "holds": held}
    return json.dumps(encode(whole | {"outcomes": outcomes}), allow_nan=False) + "\n"


def _tell_row(found: "list[Outcome]", told: TextIO) -> None:
    """Print the last row: one line if it holds, else one for each miss, too."""
    row = [outcome for outcome in found if outcome.row == found[-1].row]
    holds = all(outcome.holds for outcome in row)
    print(f"{'holds' if holds else 'MISS':<6} {row[0].row} ({len(row)})", file=told, flush=True)
    for o in row:
        if not o.holds:
            print(
                f"       {o.name}: off by {o.error:.2g}, {o.tolerance:.2g} allowed ({o.reason})",
                file=told, flush=True,
            )  # fmt: skip
