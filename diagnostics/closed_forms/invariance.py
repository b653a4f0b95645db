"""Rows of 6.1 on what must change nothing: the loss's scale, padding, the batch's order."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import minirnn
from diagnostics.closed_forms.outcome import ROUNDED, Outcome, word
from diagnostics.diagnosis import diagnose
from diagnostics.quantities.gradient_flow import gradient_flow

Outcomes = Iterator[Outcome]
STEPS, BATCH, INPUTS, UNITS = 20, 8, 3, 5


def _drawn(rng: Any) -> tuple[Any, Any, Any]:
    """Make an LSTM, an input (T, B, I) and a gradient of its output (T, B, H)."""
    layer = minirnn.LSTM(INPUTS, UNITS, dtype=np.float64, seed=1)
    x = rng.standard_normal((STEPS, BATCH, INPUTS))
    return layer, x, rng.standard_normal((STEPS, BATCH, UNITS))


def _levels(layer: Any, x: Any, d: Any) -> dict[str, str]:
    """Judge a loss whose derivative by the output is d."""

    def loss(out: Any, d: Any) -> Any:
        return (out * d).sum()

    return {v.rule: v.level for v in diagnose(layer, x, d, loss).verdicts}


def _same(name: str, levels: dict[str, str], other: dict[str, str]) -> Outcome:
    """Compare the verdicts that were clear; more samples may decide what was inconclusive."""
    clear = [rule for rule, level in levels.items() if level != "inconclusive"]
    told = (" ".join(f"{rule} {found[rule]}" for rule in clear) for found in (other, levels))
    return word(name, *told)


def scaled_loss(rng: Any) -> Outcomes:
    """Multiply the loss by a: delta is a times as large, ratios and verdicts as before."""
    layer, x, d = _drawn(rng)
    plain, scaled = (gradient_flow(layer, x, a * d) for a in (1.0, 2.0**40))
    yield Outcome("loss times 2^40: delta", scaled.value, 2.0**40 * plain.value, 0.0, "exact")
    yield Outcome("loss times 2^40: gain of a step", scaled.step_gain, plain.step_gain, 0.0,
                  "exact")  # fmt: skip
    levels = [_levels(layer, x, factor * d) for factor in (1.0, 1e6)]
    yield _same("loss times 10^6: verdicts", *levels)


def steps_after_the_last_loss(rng: Any) -> Outcomes:
    """They have no gradient, and change none."""
    layer, x, d = _drawn(rng)
    d[12:] = 0
    flow, short = gradient_flow(layer, x, d), gradient_flow(layer, x[:12], d[:12])
    yield Outcome("steps after the last loss: delta", flow.value[13:], np.zeros(8), 0.0, "exact")
    yield Outcome("steps before it: as without them", flow.value[:13], short.value, 1e-12, ROUNDED)
    padded = np.concatenate([x, np.full((4, BATCH, INPUTS), np.nan)])
    longer = np.concatenate([d, np.zeros((4, BATCH, UNITS))])
    lengths = np.full(BATCH, STEPS)
    found = gradient_flow(layer, padded, longer, lengths=lengths).value[: STEPS + 1]
    yield Outcome("padding with NaN: as without it", found, flow.value, 1e-12, ROUNDED)


def batch_order(rng: Any) -> Outcomes:
    """Sequences are independent: they may be permuted, and given twice."""
    layer, x, d = _drawn(rng)
    order = rng.permutation(BATCH)
    plain, moved = gradient_flow(layer, x, d), gradient_flow(layer, x[:, order], d[:, order])
    for k in layer.cell.state:
        found, truth = moved.total[k], plain.total[k][:, order]
        yield Outcome(f"a permuted batch permutes delta of {k}", found, truth, 1e-11, ROUNDED)
    twice = gradient_flow(layer, np.tile(x, (1, 2, 1)), np.tile(d, (1, 2, 1))).value
    yield Outcome("a batch given twice: medians", twice, plain.value, 1e-12, ROUNDED)
    levels = [
        _levels(layer, x[:, some], d[:, some] / len(some))
        for some in (np.arange(BATCH), order, np.tile(np.arange(BATCH), 2))
    ]
    yield _same("a permuted batch: verdicts", levels[0], levels[1])
    yield _same("a batch given twice: verdicts", levels[0], levels[2])
