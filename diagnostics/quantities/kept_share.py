"""How much of a unit's state stays in place from step to step, and which gate decides it.

For an LSTM that is the forget gate f on c, for PyTorch's GRU the update gate z, for the convention
that writes 1 - z, for the LSTM of 1997 the number 1. It is taken from the cell's equations, with
gates and recurrent products held fixed, so that it is known for every cell.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagnostics.quantities.carrying import Trace
from diagnostics.quantities.equations import Structure, constants_of, run, share_of, structure_of
from diagnostics.quantities.statistics import Floats
from diagnostics.quantities.watching import parameters_of

MIN_PIECES = 8
ROWS = 4096  # pairs of a step and a sequence at a time


@dataclass(frozen=True)
class KeptShare:
    """What the cell's equations say on a batch, in N pieces that count as independent.

    structure: of the equations.  piece: (T, B), which piece a step of a sequence belongs to, -1
    after its length.  total: state -> (N, H), sum over a piece's steps of the share that a unit
    keeps of itself, absolute value.  steps: (N,).
    """

    structure: Structure
    piece: NDArray[np.int64]
    total: dict[str, Floats]
    steps: NDArray[np.int64]

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
    piece, count = pieces_of(lengths, steps)
    t, b = np.nonzero(piece >= 0)
    given = _Given(layer, record, below, level, direction, start)
    structure = structure_of(layer.cell)
    total = {k: np.zeros((count, layer.hidden_size)) for k in layer.cell.state}
    for first in range(0, len(t), ROWS):
        at, of = t[first : first + ROWS], b[first : first + ROWS]
        values = run(layer.cell, Trace(structure.held), given.at(at, of))
        for state, value in zip(layer.cell.state, values, strict=True):
            share = share_of(value, state, (len(at), layer.hidden_size))
            np.add.at(total[state], piece[at, of], np.abs(share))
    return KeptShare(structure, piece, total, np.bincount(piece[t, b], minlength=count))


def pieces_of(lengths: NDArray[np.int64], steps: int) -> tuple[NDArray[np.int64], int]:
    """Cut sequences into pieces, so many that there are at least 8 where there are steps.

    lengths: (B,).  Returns the piece of each step of each sequence, (T, B), -1 after the length,
    and their number.
    """
    parts = -(-MIN_PIECES // max(1, len(lengths)))
    t = np.arange(steps)[:, None]
    piece = np.arange(len(lengths)) * parts + t * parts // np.maximum(1, lengths)
    return np.where(t < lengths, piece, -1), parts * len(lengths)


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
        self.blocks = self._parts(exact["weight_hh"], self.cell.products)
        self.biases = self._parts(exact["bias_hh"], self.cell.biased) if layer.bias else {}
        vectors = {k: exact[f"vector_{k}"] for k in self.cell.vectors}
        self.p = vectors | constants_of(self.cell, self.hidden)

    def _parts(self, array: Floats, names: Any) -> dict[str, Floats]:
        return {k: array[i * self.hidden :][: self.hidden] for i, k in enumerate(names)}

    def at(self, t: Any, b: Any) -> dict[str, Any]:
        """Return what is given at N pairs of a step and a sequence, in float64."""
        wx = self.inputs[t, b].astype(np.float64) @ self.weight_ih.T + self.bias_ih
        nothing = np.zeros((len(t), self.hidden))
        products = dict.fromkeys(self.cell.products, nothing)
        for k, operand in self.operands.items():
            product = operand[t, b].astype(np.float64) @ self.blocks[k].T
            products[k] = product + self.biases.get(k, 0.0)
        return {
            "wx": {
                k: wx[:, i * self.hidden : (i + 1) * self.hidden]
                for i, k in enumerate(self.cell.gates)
            },
            "u": products,
            "prev": {k: a[t, b].astype(np.float64) for k, a in self.states.items()},
            "below": {
                k: nothing if a is None else a[t, b].astype(np.float64)
                for k, a in self.below.items()
            },
            "p": self.p,
            "t": (self.start + t)[:, None].astype(np.float64),
        }
