"""`python -m diagnostics compare A.json B.json ...`: nothing heavy is imported for the help."""

import argparse
from typing import Any

from diagnostics.outputs import add_outputs, check_outputs, write_outputs


def add_command(commands: Any) -> None:
    """Describe the command to the parser."""
    command = commands.add_parser(
        "compare",
        help="two to seven runs in one picture",
        description="Put two to seven reports side by side: verdicts, lag gain, clipping, and "
        "what the settings that differ did.",
    )
    command.add_argument(
        "runs", nargs="+", metavar="RUN.json", help="what --json wrote; the first is the yardstick"
    )
    command.add_argument("--subject", metavar="NAME", help="only the subject of this name")
    add_outputs(command, "compare.html")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from diagnostics.comparing.comparison import compare

    check_outputs(options, options.runs)
    return write_outputs(compare(options.runs, subject=options.subject), options)
