"""What the trained zoo shows, as a part of docs/calibration.md."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

import minirnn
from diagnostics.markdown import table
from diagnostics.rules import TABLE
from diagnostics.zoo.ranks import SHUFFLES, rank_correlation
from diagnostics.zoo.trained import (
    ALPHABET,
    BEGUN,
    SOLVED,
    SYMBOLS,
    UNSEEN,
    Plan,
    Run,
)

# What is said to foretell the loss: larger should mean better.
PREDICTORS: dict[str, Callable[[Run], float]] = {
    "log G (R1)": lambda run: _log(run.gain),
    "-abs(log G) (R1, R2)": lambda run: -abs(_log(run.gain)),
    "timescale / lag (R8)": lambda run: run.memory,
}
LEVEL_OF: dict[str, Callable[[Run], str]] = {
    "R1": lambda run: run.vanishing,
    "R8": lambda run: run.memory_level,
}
LIKELY = 0.05  # a p value above this says nothing
WEAK, STRONG = 0.4, 0.7
WITHIN = "all, within each cell"
LEVELS = ("ok", "info", "inconclusive", "warn", "fail")


def markdown(runs: Sequence[Run], plan: Plan, seed: int = 0) -> str:
    """Write the trained half of the calibration."""
    lengths = ", ".join(f"{updates} updates at T = {steps}" for steps, updates in plan.updates)
    lines = [
        "## Before training",
        "",
        "Made by `python -m diagnostics.calibration --trained`; nobody types these numbers. Do "
        "R1 and R8, before the first update, foretell which networks learn? "
        f"{len(runs)} networks of {plan.hidden} units, orthogonal recurrent weights times 1, 0.5 "
        "or 1.5, forget (GRU: update) gate's bias 0, 1 or chrono for the lag; Adam "
        f"{plan.rate:g}, norm clipped at {plan.clip:g}, batches of {plan.batch}, {lengths}, seed "
        f"{seed}, float32; minirnn {minirnn.__version__}, NumPy {np.__version__}. Longer "
        "sequences get fewer updates, so that all takes ten minutes of one core: a loss of 1 there "
        "means not yet learned, not cannot be learned.",
        "",
        "*Adding*: the sum of two marked numbers of T, by the last step; the lag is T - 1. "
        f"*Copying*: {SYMBOLS} of {ALPHABET} symbols after T blanks, the loss at the marks only; "
        f"the lag is T + {SYMBOLS}. G: the lag gain at the lag. Loss: on {UNSEEN} unseen "
        "sequences, in parts of the best guess without memory (for adding 1/6, for copying "
        f"ln {ALPHABET}, of these very sequences). Begun: below {BEGUN:g}. Solved: below "
        f"{SOLVED:g}.",
        "",
        "## What foretells the loss",
        "",
        *_said(runs),
        "",
        *_correlations(runs),
        "",
        f"rho: Spearman's rank correlation; p: part of {SHUFFLES} shuffles with one as large. "
        "Ranks are taken within a task and length, where tasks are put together as well: that "
        "longer tasks are harder counts for nothing. If a rule foretells, rho is below 0 for the "
        "loss and above 0 for begun and solved. R8 judges no plain RNN, which is left out there. "
        "The limit of begun was set after the losses had been seen, to tell the networks that "
        "stand still from those that move; the other numbers were settled before. Of many "
        f"rows one in 20 has p below {LIKELY:g} by chance, and where none is solved the ranks of "
        "the losses are mostly noise.",
        "",
        "## What verdicts before training came to",
        "",
        *_by_level(runs),
        "",
        "## Every network",
        "",
        *_every(runs, plan),
    ]
    return "\n".join(lines) + "\n"


def _log(gain: float) -> float:
    """Logarithm of a gain; -inf for nothing.  A gain that is not finite has exploded."""
    if not math.isfinite(gain):
        return math.inf
    return math.log(gain) if gain > 0 else -math.inf


def _spoken_of(runs: Sequence[Run], name: str) -> list[Run]:
    """Return the runs that a predictor speaks of: R8 says nothing of a plain RNN."""
    return [run for run in runs if run.memory_level != "info" or "R8" not in name]


def _correlation(
    runs: Sequence[Run],
    name: str,
    outcome: Callable[[Run], float],
    by_cell: bool = False,
) -> tuple[float, float]:
    """Return rho and p, within tasks and lengths, or within cells there."""
    told = _spoken_of(runs, name)
    groups = [(*run.group, run.cell if by_cell else "") for run in told]
    values = [PREDICTORS[name](run) for run in told]
    return rank_correlation(values, [outcome(run) for run in told], groups)


def _loss(run: Run) -> float:
    return run.relative


def _begun(run: Run) -> float:
    return float(run.begun)


def _solved(run: Run) -> float:
    return float(run.solved)


# Outcomes in words, and the sign that rho should have.
SAID = (
    ("the loss", _loss, -1),
    ("who begins to learn", _begun, 1),
    ("who solves the task", _solved, 1),
)


def _said(runs: Sequence[Run]) -> list[str]:
    """Say in words what runs show, by predictor, and what verdicts came to, by task."""
    lines = []
    tasks = dict.fromkeys(run.task for run in runs)
    parts = {"all": list(runs)} | {t: [run for run in runs if run.task == t] for t in tasks}
    for name in PREDICTORS:
        told = []
        for title, own in parts.items():
            words = (_in_words(what, *_correlation(own, name, o), sign) for what, o, sign in SAID)
            told.append(f"{title}: {', '.join(words)}")
        lines.append(f"- {name} foretells, {'; '.join(told)}.")
    for (rule, level_of), task in product(LEVEL_OF.items(), tasks):
        own = [run for run in runs if run.task == task]
        failed = [run for run in own if level_of(run) == "fail"]
        fine = [run for run in own if level_of(run) == "ok"]
        lines.append(
            f"- {task}: of {len(failed)} networks that {rule} fails before training "
            f"{sum(run.begun for run in failed)} begin to learn all the same and "
            f"{sum(run.solved for run in failed)} solve the task; of {len(fine)} that it finds "
            f"ok, {sum(run.begun for run in fine)} and {sum(run.solved for run in fine)}."
        )
    return lines


def _in_words(what: str, rho: float, p: float, sign: int) -> str:
    """Say how much of an outcome is foretold.  sign: of rho where larger means better."""
    if not p <= LIKELY:
        return f"{what} not (rho {rho:.2f})"
    much = "weakly" if abs(rho) < WEAK else "moderately" if abs(rho) < STRONG else "strongly"
    wrong = "" if rho * sign > 0 else ", the wrong way round"
    return f"{what} {much} (rho {rho:.2f}{wrong})"


def _correlations(runs: Sequence[Run]) -> list[str]:
    """Lay out rho and p by task and length, by task, and of all."""
    parts: list[tuple[str, list[Run]]] = []
    for task in dict.fromkeys(run.task for run in runs):
        own = [run for run in runs if run.task == task]
        for steps in dict.fromkeys(run.steps for run in own):
            parts.append((f"{task}, T = {steps}", [run for run in own if run.steps == steps]))
        parts.append((f"{task}, all", own))
    some = {run.group for run in runs if run.solved}
    parts.append(("all", list(runs)))
    parts.append(("all, where any is solved", [run for run in runs if run.group in some]))
    parts.append((WITHIN, list(runs)))
    rows = []
    for title, own in parts:
        for name in PREDICTORS:
            told = _spoken_of(own, name)
            row = [title, f"{sum(run.solved for run in told)} of {len(told)}", name]
            for outcome in (_loss, _begun, _solved):
                rho, p = _correlation(own, name, outcome, by_cell=title == WITHIN)
                row += [_number(rho, 2), _number(p, 4)]
            rows.append(row)
    head = (
        "runs",
        "solved",
        "said before",
        "rho: loss",
        "p",
        "rho: begun",
        "p",
        "rho: solved",
        "p",
    )
    return table(head, rows)


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _by_level(runs: Sequence[Run]) -> list[str]:
    """Count by rule, task and level how many began, how many solved, and the middling loss."""
    rows = []
    for rule, level_of in LEVEL_OF.items():
        for task, level in product(dict.fromkeys(run.task for run in runs), LEVELS):
            own = [run for run in runs if run.task == task and level_of(run) == level]
            if own:
                counts = (sum(run.begun for run in own), sum(run.solved for run in own))
                middle = float(np.median([run.relative for run in own]))
                told = [f"{count} of {len(own)}" for count in counts]
                rows.append([f"{rule} {TABLE[rule].title}", task, level, *told, f"{middle:.2f}"])
    head = ("rule", "task", "level before training", "begun", "solved", "median loss")
    return table(head, rows)


def _every(runs: Sequence[Run], plan: Plan) -> list[str]:
    """Lay out every run: a row per network, and G, R8's number and the loss of each length."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        row = rows.setdefault((run.task, run.cell, run.init, run.bias), [])
        loss = f"{run.relative:.3f}"
        row += [f"{run.gain:.1e}", f"{run.memory:.2g}" if run.memory_level != "info" else "-"]
        row.append(f"**{loss}**" if run.solved else loss)
    head = ["task", "cell", "W", "b_f"]
    for steps, _ in plan.updates:
        head += [f"G, T = {steps}", "R8", "loss"]
    return table(head, [[*key, *row] for key, row in rows.items()])
