"""Do the verdicts say what is so?  A zoo of networks with known truth, around every threshold.

Each network is rho times an orthogonal matrix, with tanh units driven a little out of their
linear range, so that a rate is estimated and not given. The truth is not rho but what the exact
Jacobians of hundreds of further sequences say. Timescales are set by a forget gate's bias.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

import minirnn
from diagnostics import rules
from diagnostics.files import write_whole
from diagnostics.quantities.lag_gain import lag_gain
from diagnostics.quantities.lyapunov import lyapunov_spectrum
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.step_jacobians import step_jacobians
from diagnostics.quantities.timescales import memory_timescales
from diagnostics.rules import TABLE, Verdict
from diagnostics.rules.verdict import MARGIN, judged

BAND = 0.7  # |ln rho - ln threshold| L below this is too close to call
UNITS, INPUTS = 12, 3
DRIVE = 0.1  # size of the states: slopes of tanh spread by about its square
DISTANCES = (-2.0, -1.0, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1.0, 2.0)
ALL = 256  # sequences that the truth is taken from


@dataclass(frozen=True)
class Grid:
    """What is tried: steps T, batches B, distances from each threshold, networks of each kind."""

    steps: int = 60
    batches: tuple[int, ...] = (1, 8, 32)
    distances: tuple[float, ...] = DISTANCES
    networks: int = 10


FAST = Grid(steps=40, batches=(1, 8), distances=(-1.0, -0.3, 0.3, 1.0), networks=2)


@dataclass(frozen=True)
class Trial:
    """One verdict on one network.

    distance: of the truth from the nearest threshold, |ln truth - ln threshold|.
    """

    rule: str
    batch: int
    distance: float
    truth: str
    level: str

    @property
    def near(self) -> bool:
        """Whether the truth lies in the band that is too close to call."""
        return self.distance <= BAND

    @property
    def wrong(self) -> bool:
        """Whether a verdict was given that is not so."""
        return self.level not in (self.truth, "inconclusive")


@dataclass(frozen=True)
class Row:
    """Counts of one rule and batch size.

    trials: in all.  bad: whose truth is warn or fail.  found: of those that were said to be bad,
    and how bad.  alarms: of the others, said to be bad.  far, far_wrong: outside the band, and
    wrong there; near, near_wrong, near_open: inside it, wrong and inconclusive there.
    """

    rule: str
    batch: int
    trials: int
    bad: int
    found: int
    alarms: int
    far: int
    far_wrong: int
    far_open: int
    near: int
    near_wrong: int
    near_open: int


def calibrate(grid: Grid = Grid(), seed: int = 0) -> list[Trial]:
    """Judge every network of a grid, and compare with the truth."""
    return list(_trials(grid, seed))


def write(path: str | PathLike[str], grid: Grid = Grid(), seed: int = 0) -> list[Trial]:
    """Calibrate and write the document, as `CALIBRATION.md` beside this file; return the trials."""
    trials = calibrate(grid, seed)
    write_whole(path, markdown(trials, grid, seed))
    return trials


def table(trials: Sequence[Trial]) -> list[Row]:
    """Count the trials by rule and batch size."""
    keys = dict.fromkeys((t.rule, t.batch) for t in trials)
    return [_row(*key, [t for t in trials if (t.rule, t.batch) == key]) for key in keys]


def markdown(trials: Sequence[Trial], grid: Grid, seed: int = 0) -> str:
    """Write the calibration as the document that belongs to it."""
    head = (
        "rule", "B", "networks", "bad found", "false alarms", "far: wrong", "far: inconclusive",
        "near: wrong", "near: inconclusive",
    )  # fmt: skip
    lines = [
        "# Calibration of the verdicts",
        "",
        "Made by `diagnostics.calibration`; nobody types these numbers. "
        f"Networks with known truth around every threshold: {grid.networks} of each kind, "
        f"T = {grid.steps}, {UNITS} units, {len(grid.distances)} distances, seed {seed}.",
        "",
        f"*Far*: |ln truth - ln threshold| above {BAND}; there no verdict may be wrong. *Near*: "
        "below it; there a verdict may be inconclusive, but not wrong. *Bad found*: of the "
        "networks whose truth is warn or fail, those given just that verdict; the rest is "
        "inconclusive. With one sequence (B = 1) there are too few samples for R1 and R2. A "
        f"verdict asks that a threshold lie outside {MARGIN} times the 95% interval.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for r in table(trials):
        cells = (
            f"{r.rule} {TABLE[r.rule].title}", r.batch, r.trials, f"{r.found} of {r.bad}",
            f"{r.alarms} of {r.trials - r.bad}", f"{r.far_wrong} of {r.far}",
            f"{r.far_open} of {r.far}", f"{r.near_wrong} of {r.near}", f"{r.near_open} of {r.near}",
        )  # fmt: skip
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _row(rule: str, batch: int, trials: Sequence[Trial]) -> Row:
    def count(chosen: Callable[[Trial], bool]) -> int:
        return sum(map(chosen, trials))

    def bad(level: str) -> bool:
        return level in ("warn", "fail")

    return Row(
        rule=rule,
        batch=batch,
        trials=len(trials),
        bad=count(lambda t: bad(t.truth)),
        found=count(lambda t: bad(t.truth) and t.level == t.truth),
        alarms=count(lambda t: not bad(t.truth) and bad(t.level)),
        far=count(lambda t: not t.near),
        far_wrong=count(lambda t: not t.near and t.wrong),
        far_open=count(lambda t: not t.near and t.level == "inconclusive"),
        near=count(lambda t: t.near),
        near_wrong=count(lambda t: t.near and t.wrong),
        near_open=count(lambda t: t.near and t.level == "inconclusive"),
    )


def _trials(grid: Grid, seed: int) -> Iterator[Trial]:
    lag = grid.steps - 1
    for network in range(grid.networks):
        for distance in grid.distances:
            rng = np.random.default_rng([seed, network, grid.distances.index(distance)])
            for name in ("R1", "R2", "R5"):
                for limit in (TABLE[name].warn, TABLE[name].fail):
                    target = limit if name == "R5" else np.log(limit)
                    sign = rng.choice([-1, 1]) if name == "R5" else 1
                    rho = float(np.exp(sign * (target + distance) / lag))
                    yield from _of_rate(name, rho, grid, rng)
            for limit in (TABLE["R8"].warn, TABLE["R8"].fail):
                yield from _of_memory(limit * np.exp(distance) * lag, grid, rng)


def _of_rate(name: str, rho: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge a tanh network of a given rate by R1, R2 or R5."""
    lag = grid.steps - 1
    init = {"weight_hh": minirnn.init.orthogonal(rho)}
    layer = minirnn.Recurrent("rnn", INPUTS, UNITS, bias=False, dtype="float64", init=init,
                              seed=int(rng.integers(2**31)))  # fmt: skip
    layer.weight_ih_l0.assign(rng.standard_normal((UNITS, INPUTS)))
    # Where states grow they are to be of this size at the end.
    scale = DRIVE * min(1.0, rho**-grid.steps) * np.sqrt(abs(1 - rho**2) + 1 / grid.steps)

    def sequences(count: int) -> Floats:
        drawn: Floats = scale * rng.standard_normal((grid.steps, count, INPUTS))
        return drawn

    jacobians = step_jacobians(layer, sequences(ALL)).value
    if name == "R5":
        truth = abs(float(lyapunov_spectrum(jacobians, k=1, warmup=0).value[0])) * lag
    else:
        truth = _median_gain(jacobians[1:], rng)
    for batch in grid.batches:
        x = sequences(batch)
        if name == "R5":
            verdict = rules.lyapunov(lyapunov_spectrum(layer, x, k=1), lag)
        else:
            rule = rules.vanishing if name == "R1" else rules.exploding
            verdict = rule(lag_gain(layer, x))
        yield _trial(name, batch, truth, verdict)


def _of_memory(tau: float, grid: Grid, rng: Any) -> Iterator[Trial]:
    """Judge an LSTM whose forget gates have a given timescale by R8."""
    bias = float(-np.log(np.expm1(1 / tau)))  # sigma(bias) = exp(-1 / tau)
    init = {"bias": minirnn.init.forget_bias(bias)}
    layer = minirnn.Recurrent("lstm", INPUTS, UNITS, dtype="float64", init=init,
                              seed=int(rng.integers(2**31)))  # fmt: skip
    layer.weight_ih_l0.assign(0.3 * layer.weight_ih_l0.numpy())

    def scales(count: int) -> Any:
        return memory_timescales(layer, rng.standard_normal((grid.steps, count, INPUTS)))

    truth = scales(ALL).value / (grid.steps - 1)
    for batch in grid.batches:
        verdict = rules.memory(scales(batch), grid.steps - 1)
        yield _trial("R8", batch, truth, verdict)


def _trial(name: str, batch: int, truth: float, verdict: Verdict) -> Trial:
    rule = TABLE[name]
    limits = np.array([rule.warn, rule.fail])
    # R5 judges a logarithm already; the others are compared as logarithms.
    apart = truth - limits if name == "R5" else np.log(truth) - np.log(limits)
    level = judged(name, truth, None, ALL)[0]
    return Trial(name, batch, float(np.abs(apart).min()), level, verdict.level)


def _median_gain(jacobians: Floats, rng: Any) -> float:
    """Median over sequences and directions of ||J^T ... J^T v||.  jacobians: (K, B, S, S)."""
    v = rng.standard_normal((4, *jacobians.shape[1:3]))
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    for jacobian in jacobians[::-1]:
        v = np.einsum("dbi,bij->dbj", v, jacobian)
    return float(np.median(np.linalg.norm(v, axis=-1)))
