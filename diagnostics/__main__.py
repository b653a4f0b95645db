"""The command line, `python -m diagnostics COMMAND`: demo, report, compare, check, figure, gallery.

Only argparse is imported here; everything else waits until a command needs it, so that `--help`
answers at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from diagnostics.check import add_check, run_check
from diagnostics.comparing.command import add_command as add_compare
from diagnostics.comparing.command import run as run_compare
from diagnostics.gallery.command import add_commands
from diagnostics.gallery.command import run as run_gallery
from diagnostics.others.command import add_options, check_options, report_of_torch
from diagnostics.outputs import add_outputs, check_outputs, write_outputs

if TYPE_CHECKING:
    from diagnostics.report import Report

DEMO_OPTIONS = (
    "training_steps", "learning_rate", "max_norm", "start", "forget_bias", "omega", "flossing",
)  # fmt: skip
READ = ("run", "torch", "input", "target", "lengths", "text")  # options that name a file to read
EXIT_OBJECTION, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all errors here."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line and exit."""
        self.exit(EXIT_ERROR, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    main_parser = _Parser(
        prog="python -m diagnostics",
        description="How gradients flow through time in recurrent networks.",
    )
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="train RNN, LSTM and GRU on text, with and without clipping, and report",
        description="Train RNN, LSTM and GRU character models, each with and without clipping, "
        "and write one self-contained HTML report.",
    )
    demo.add_argument("--text", metavar="PATH", help="a UTF-8 file; default: Python's own library")
    demo.add_argument("--seed", type=int, default=0, help="default %(default)s")
    demo.add_argument("--training-steps", type=int, metavar="N", help="steps of each run")
    demo.add_argument("--learning-rate", type=float, metavar="X", help="of gradient descent")
    demo.add_argument("--max-norm", type=float, metavar="X", help="clipping threshold")
    demo.add_argument(
        "--start",
        metavar="NAME",
        help="recurrent weights: orthogonal (default), identity, uniform; or chrono",
    )
    demo.add_argument("--forget-bias", type=float, metavar="X", help="of LSTM and GRU")
    demo.add_argument("--omega", type=float, metavar="X", help="weight of Pascanu's regulariser")
    demo.add_argument("--flossing", type=int, metavar="N", help="steps of it before training")
    demo.add_argument("--timings", action="store_true", help="put seconds into the report")

    report = commands.add_parser(
        "report",
        help="make the report again from its JSON, or of a PyTorch module from its weights",
        description="Make a report from the JSON that Report.to_json or --json wrote, or from the "
        "JSON lines of a Monitor, or diagnose an LSTM, GRU or RNN of PyTorch.",
    )
    source = report.add_mutually_exclusive_group(required=True)
    source.add_argument("run", metavar="RUN.json", nargs="?", help="what to_json or --json wrote")
    source.add_argument("--torch", metavar="FILE", help="weights: .safetensors, .npz or .pt")
    add_options(report)
    for command in (demo, report):
        add_outputs(command, "report.html")
    add_compare(commands)
    add_check(commands)
    add_commands(commands)
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("\ndiagnostics: interrupted, nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ImportError as error:
        needs = "; the reports need matplotlib, Jinja2 and rich: pip install 'minirnn[report]'"
        print(f"diagnostics: {error}{needs}", file=sys.stderr)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.strerror else str(error)
        print(f"diagnostics: {_one_line(reason)}", file=sys.stderr)
    except ValueError as error:
        print(f"diagnostics: {_one_line(str(error))}", file=sys.stderr)
    return EXIT_ERROR


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _run(options: argparse.Namespace) -> int:
    # NumPy's BLAS threads wait busily after a product and take the core from the kernels'
    # threads: on 2 cores a training step is 4 to 6 times slower with them.  Read at NumPy's import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if options.command in ("figure", "gallery"):
        return run_gallery(options)
    if options.command == "check":
        return run_check(options)
    if options.command == "compare":
        return run_compare(options)
    from diagnostics.wellformed import blaming

    check_outputs(options, [getattr(options, name, None) for name in READ])
    report = _demo(options) if options.command == "demo" else _report(options)
    with blaming(getattr(options, "run", None)):
        return write_outputs(report, options)


def _demo(options: argparse.Namespace) -> "Report":
    from diagnostics.demo.run import demo
    from diagnostics.demo.settings import Settings

    given = {
        name: getattr(options, name) for name in DEMO_OPTIONS if getattr(options, name) is not None
    }
    return demo(Settings(text=options.text, seed=options.seed, **given), options.timings)


def _report(options: argparse.Namespace) -> "Report":
    check_options(options)
    if options.torch is not None:
        return report_of_torch(options)
    from diagnostics.report import load_report

    report = load_report(options.run)
    if "skipped" in report.settings:  # lines of a monitor's file
        print(f"diagnostics: {options.run}: {report.settings['skipped']}", file=sys.stderr)
    return report


if __name__ == "__main__":
    sys.exit(main())
