"""Which steps and which gates the gradient of the parameters comes from.

The gradient is a sum over steps. The norm of each step's share says where learning happens; what
the norm of the sum is of the sum of the norms, the coherence, says how much of it cancels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diagnostics.quantities.base import Cost, Quantity
from diagnostics.quantities.example_grad_norms import backward_record, recurrent_factors
from diagnostics.quantities.example_norms import OuterProducts, joined
from diagnostics.quantities.statistics import Floats, interval, resamples
from diagnostics.quantities.watching import sweep_flops

SHARE = 0.9  # of the credit, whose reach is measured


@dataclass(frozen=True, kw_only=True)
class Credit(Quantity):
    """Credit of the T steps of one level and direction.

    value: (T,), norm of each step's share of the gradient of all parameters, summed over the
    batch.  gates[k]: (T,), the same for the blocks of gate k alone.  coherence: norm of the sum
    over the sum of norms, 0 to 1; gate_coherence[k].  reach: median over sequences of the part of
    its steps, counted from its last loss, that holds 90% of the sequence's credit; steps after
    that loss are none of them; reach_ci: (2,).  n: sequences with any credit.
    """

    gates: dict[str, Floats]
    coherence: float
    gate_coherence: dict[str, float]
    reach: float
    reach_ci: Floats | None
    n: int


def credit(
    layer: Any, x: Any, d_output: Any, level: int = -1, direction: int = 0, lengths: Any = None
) -> Credit:
    """Measure which steps and gates of a recurrent layer the gradient comes from.

    Parameters
    ----------
    layer : minirnn.Recurrent
    x : its input, as the layer takes it
    d_output : derivative of the loss by the layer's output, of the output's shape
    level, direction : which recurrence of a stacked or bidirectional layer
    lengths : (B,), as the layer takes them
    """
    record = backward_record("credit", layer, x, d_output, lengths, level, direction)
    flops = 2 * sweep_flops(layer, record, level, direction)
    return credit_of_record(layer.cell, record, layer.bias, flops)


def credit_of_record(cell: Any, record: Any, bias: bool, flops: int = 0) -> Credit:
    """Measure credit on a record of `minirnn.watch` after a backward pass or of a pullback."""
    by_gate = factors_by_gate(cell, record, bias)
    every = [part for parts in by_gate.values() for part in parts]
    shares = {k: joined([p.of_steps_of_batch() for p in parts]) for k, parts in by_gate.items()}
    whole = {k: [p.of_whole() for p in parts] for k, parts in by_gate.items()}
    value = joined(list(shares.values()))
    total = float(np.linalg.norm([norm for norms in whole.values() for norm in norms]))
    reach = _reach(joined([p.of_steps() for p in every]), record.lengths)
    there = reach[np.isfinite(reach)]
    ci = None
    if len(there) >= 2:
        ci = interval(np.median(there[resamples(len(there))], axis=1))
    return Credit(
        value=value,
        how=(
            "outer products of one backward pass, step by step; norm of each step's sum over the "
            "batch; reach: the last part of a sequence's steps up to its last loss that holds "
            f"{SHARE:.0%} of the sum of its norms, median and bootstrap over sequences"
        ),
        cost=Cost(sweeps=2, flops=flops, bytes=sum(p.d.nbytes for p in every)),
        gates=shares,
        coherence=_ratio(total, value),
        gate_coherence={k: _ratio(float(np.linalg.norm(whole[k])), s) for k, s in shares.items()},
        reach=float(np.median(there)) if len(there) else float("nan"),
        reach_ci=ci,
        n=len(there),
    )


def factors_by_gate(cell: Any, record: Any, bias: bool) -> dict[str, list[OuterProducts]]:
    """Return the factors of the gradient by each gate's and block's own parameters."""
    wx, du, operands = record.gate_grads, record.recurrent_gate_grads, record.operands
    found: dict[str, list[OuterProducts]] = {}
    for k in dict.fromkeys((*cell.gates, *cell.products)):
        parts = []
        if k in cell.gates:
            parts.append(OuterProducts(wx[k], record.inputs))
            parts += [OuterProducts(wx[k])] if bias else []
        if k in operands:
            parts += recurrent_factors(cell, du, {k: operands[k]})
            parts += [OuterProducts(du[k])] if bias and k in cell.biased else []
        found[k] = parts
    for name, d in record.vector_grads.items() if cell.vectors else ():
        found[name] = [OuterProducts(d)]
    return found


def _ratio(total: float, shares: Floats) -> float:
    summed = float(shares.sum())
    return total / summed if summed > 0 else float("nan")


def _reach(norms: Floats, lengths: Any) -> Floats:
    """Part of each sequence's steps, from its last loss, that holds most of its credit.

    norms: (T, B), exactly 0 after the last loss.  Returns (B,), NaN where there is no credit.
    """
    steps, batch = norms.shape
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    found = np.full(batch, np.nan)
    for b, end in enumerate(ends):
        credited = np.flatnonzero(norms[:end, b])
        back = np.cumsum(norms[: credited[-1] + 1, b][::-1]) if len(credited) else np.zeros(1)
        if back[-1] > 0 and np.isfinite(back[-1]):
            found[b] = (np.searchsorted(back, SHARE * back[-1]) + 1) / len(back)
    return found
