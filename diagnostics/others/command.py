"""`python -m diagnostics report --torch FILE --input x.npy`: the report of a PyTorch module."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diagnostics.report import Report

LOADING = ("cell", "prefix", "batch_first", "nonlinearity", "embedding", "readout")
ARRAYS = ("input", "target", "lengths")
JUDGING = ("level", "need_lag", "seed")
# They say something about the weights of others, and nothing about a RUN.json.
OPTIONS = (*ARRAYS, *LOADING, *JUDGING, "timings")


def add_options(report: Any) -> None:
    """Describe the options to the parser of `report`; those that are left out are None."""
    group = report.add_argument_group(
        "for an LSTM, GRU or RNN of PyTorch",
        "Levels, directions, biases and sizes are read off the tensors. PyTorch is not needed.",
    )
    group.add_argument("--input", metavar="x.npy", help="(T, B, I) or (T, I); ids with --embedding")
    group.add_argument(
        "--lengths", metavar="n.npy", help="(B,), steps of each sequence; the rest is padding"
    )
    group.add_argument("--cell", metavar="NAME", help="lstm, gru or rnn; default: by the shapes")
    group.add_argument("--prefix", metavar="NAME", help="the module's name in a larger model")
    group.add_argument(
        "--batch-first", action="store_true", default=None, help="the input is (B, T, I)"
    )
    group.add_argument("--nonlinearity", metavar="NAME", help="of an RNN: tanh (default) or relu")
    group.add_argument("--embedding", metavar="NAME", help="an Embedding that looks up ids first")
    group.add_argument("--readout", metavar="NAME", help="a Linear that reads the output")
    group.add_argument(
        "--target", metavar="y.npy",
        help="for every step, or without the axis of time for the last one; classes are judged by "
        "cross-entropy, floats by the squared error; without it no loss is needed",
    )  # fmt: skip
    group.add_argument("--level", metavar="NAME", help="cheap, standard (default) or full")
    group.add_argument("--need-lag", type=int, metavar="N", help="steps that the task looks back")
    group.add_argument("--seed", type=int, metavar="N", help="default 0")
    group.add_argument(
        "--timings", action="store_true", default=None, help="put seconds into the report"
    )


def check_options(options: argparse.Namespace) -> None:
    """Raise ValueError where options of `report` do not go together."""
    given = [f"--{n.replace('_', '-')}" for n in OPTIONS if getattr(options, n) is not None]
    if options.torch is None and given:
        raise ValueError(f"report: {', '.join(given)} must come with --torch FILE, got RUN.json")
    if options.torch is not None and options.input is None:
        raise ValueError("report: --torch needs --input x.npy, what the module is run on")


def report_of_torch(options: argparse.Namespace) -> "Report":
    """Read weights, input and target, and diagnose the module."""
    from diagnostics.others.report import report_of_files

    arrays, loading, judging = (
        {n: getattr(options, n) for n in names if getattr(options, n) is not None}
        for names in (ARRAYS, LOADING, JUDGING)
    )
    return report_of_files(options.torch, arrays, loading, judging, bool(options.timings))
