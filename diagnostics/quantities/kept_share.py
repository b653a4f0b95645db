"""How much of a unit's state stays in place from step to step, and which gate decides it.

For an LSTM that is the forget gate f on c, for PyTorch's GRU the update gate z, for the convention
that writes 1 - z, for the LSTM of 1997 the number 1. It is taken from the cell's equations, with
gates and recurrent products held fixed, so that it is known for every cell.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.carrying import Array, Block, Carrying, Trace
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.watching import parameters_of

ROWS = 4096  # pairs of a step and a sequence at a time
EQUAL = 1e-9  # the same expression, rounded otherwise


@dataclass(frozen=True)
class KeptShare:
    """What the cell's equations say on a batch.

    activations: for each gate and block the function whose value `minirnn.watch` shows: sigmoid,
    tanh, relu, or "" where there is none.  total: state -> (B, H), sum over the steps of the
    share that a unit keeps of itself, absolute value.  steps: (B,).  keepers: gate -> "open"
    or "closed", for each gate that alone decides that share of some state.
    """

    activations: dict[str, str]
    total: dict[str, Floats]
    steps: NDArray[np.int64]
    keepers: dict[str, str]

    @property
    def mean(self) -> dict[str, Floats]:
        """Mean over all steps of all sequences, (H,) by state."""
        return {k: total.sum(axis=0) / max(1, self.steps.sum()) for k, total in self.total.items()}


def kept_share(
    layer: Any, seen: Any, level: int = -1, direction: int = 0, start: int = 0
) -> KeptShare:
    """Run the cell's equations on what `minirnn.watch` has seen of one level and direction.

    seen: a call's record, or `minirnn.watch`'s own object, of which it is the last.
    """
    level %= layer.num_layers
    record = seen[level, direction]
    below = seen[level - 1, direction].states if level else None
    steps, batch = record.inputs.shape[:2]
    lengths = np.full(batch, steps) if record.lengths is None else np.asarray(record.lengths)
    t, b = np.nonzero(np.arange(steps)[:, None] < lengths)
    given = _Given(layer, record, below, level, direction, start)
    cell = layer.cell
    total = {k: np.zeros((batch, layer.hidden_size)) for k in cell.state}
    places: dict[str, int] = {}
    activations: dict[str, str] = dict.fromkeys((*cell.gates, *cell.products), "")
    fits: dict[str, dict[str, bool]] = {}
    for first in range(0, len(t), ROWS):
        at, of = t[first : first + ROWS], b[first : first + ROWS]
        if not first:
            trace = Trace()
            places = _first_activations(cell, given.run(trace, at, of))
            activations |= {k: trace.activations[place][0] for k, place in places.items()}
        trace = Trace(held=frozenset(places.values()))
        for state, value in zip(cell.state, given.run(trace, at, of), strict=True):
            share = _share(value, state, (len(at), layer.hidden_size))
            np.add.at(total[state], of, np.abs(share))
            _compare(fits, share, {k: trace.activations[p][1] for k, p in places.items()})
    keepers = {k: name for k, fit in fits.items() for name in ("open", "closed") if fit[name]}
    return KeptShare(activations, total, np.asarray(lengths, np.int64), keepers)


class _Given:
    """What the equations are given: everything that a record and the parameters tell."""

    def __init__(
        self, layer: Any, record: Any, below: Any, level: int, direction: int, start: int
    ) -> None:
        self.cell, self.start, self.hidden = layer.cell, start, layer.hidden_size
        named = parameters_of(layer, level, direction)
        exact = {k: p.numpy().astype(np.float64) for k, p in named.items()}
        self.states = {k: a[:-1] for k, a in record.states.items()}
        self.below = {k: None if below is None else below[k][1:] for k in self.cell.state}
        self.inputs, self.operands = record.inputs, record.operands
        self.weight_ih = exact["weight_ih"]
        self.bias_ih = exact.get("bias_ih", np.zeros(len(self.weight_ih)))
        blocks = self.cell.products
        self.blocks = {k: exact["weight_hh"][i * self.hidden :][: self.hidden]
                       for i, k in enumerate(blocks)}  # fmt: skip
        biased = self.cell.biased if layer.bias else ()
        self.biases = {k: exact["bias_hh"][i * self.hidden :][: self.hidden]
                       for i, k in enumerate(biased)}  # fmt: skip
        units = np.arange(self.hidden)
        self.vectors = {k: exact[f"vector_{k}"] for k in self.cell.vectors}
        for k, numbers in self.cell.constants.items():
            self.vectors[k] = np.asarray(numbers)[units * len(numbers) // self.hidden]

    def run(self, trace: Trace, t: Any, b: Any) -> tuple[Any, ...]:
        """Run the equations at N pairs of a step and a sequence."""
        wx = self.inputs[t, b].astype(np.float64) @ self.weight_ih.T + self.bias_ih
        gates = {}
        for i, k in enumerate(self.cell.gates):
            part = wx[:, i * self.hidden : (i + 1) * self.hidden]
            gates[k] = Carrying(trace, part, passed={("wx", k): ()})
        zeros = Carrying(trace, np.zeros((len(t), self.hidden)))
        blocks = {k: Block(zeros) for k in self.cell.products}
        for k, operand in self.operands.items():
            product = operand[t, b].astype(np.float64) @ self.blocks[k].T + self.biases.get(k, 0.0)
            blocks[k] = Block(Carrying(trace, product, passed={("u", k): ()}))
        one = np.ones((len(t), self.hidden))
        prev = {k: Carrying(trace, a[t, b].astype(np.float64), {k: one})
                for k, a in self.states.items()}  # fmt: skip
        below = {k: Carrying(trace, 0 * one if a is None else a[t, b].astype(np.float64))
                 for k, a in self.below.items()}  # fmt: skip
        values: tuple[Any, ...] = self.cell(
            SimpleNamespace(**gates), SimpleNamespace(**blocks), SimpleNamespace(**prev),
            p=SimpleNamespace(**self.vectors), below=SimpleNamespace(**below),
            t=(self.start + t)[:, None].astype(np.float64),
        )  # fmt: skip
        return values


def _share(value: Any, state: str, shape: tuple[int, int]) -> Array:
    kept = value.kept.get(state, 0.0) if isinstance(value, Carrying) else 0.0
    return np.broadcast_to(np.asarray(kept, np.float64), shape)


def _first_activations(cell: Any, values: tuple[Any, ...]) -> dict[str, int]:
    """Return the first activation that every path from a gate or block to a state passes."""
    found: dict[str, int] = {}
    for k in dict.fromkeys((*cell.gates, *cell.products)):
        paths = [
            value.passed[tag]
            for value in values
            if isinstance(value, Carrying)
            for tag in (("wx", k), ("u", k))
            if tag in value.passed
        ]
        shared = set.intersection(*map(set, paths)) if paths else set()
        if shared:
            found[k] = min(shared)
    return found


def _compare(fits: dict[str, dict[str, bool]], share: Array, gates: dict[str, Array]) -> None:
    """Note which gates still equal the share (open keeps) or 1 minus it (closed keeps)."""
    if not share.any():
        return
    for k, a in gates.items():
        fit = fits.setdefault(k, {"open": False, "closed": False, "seen": False})
        found = {
            "open": bool(np.abs(share - a).max() < EQUAL),
            "closed": bool(np.abs(share - (1 - a)).max() < EQUAL),
        }
        for name, holds in found.items():
            fit[name] = holds and (fit[name] or not fit["seen"])
        fit["seen"] = True
